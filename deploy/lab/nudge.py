"""Nudges a Linux in user mode: a frame that means nothing, ten times a second.

Its driver of taps now and then misses the interrupt of a frame, and takes it in with the next one. Where one datagram is under way at
a time there is no next one, and what was late by seconds would look lost.

    nudge.py INTERFACE MAC
"""

from __future__ import annotations

import socket
import sys
import time

LOCAL_EXPERIMENT = b"\x88\xb5"
EVERY_S = 0.1


def main(interface: str, mac: str) -> None:
    """Until it is ended."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((interface, 0))
        frame = bytes.fromhex(mac.replace(":", "")) + out.getsockname()[4] + LOCAL_EXPERIMENT + bytes(46)
        while True:
            out.send(frame)
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
