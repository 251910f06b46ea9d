"""Putting packets on the wire by hand, as somebody on the Internet would."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator

from .capture import ETHERTYPES, protocol_of, source_of, total_bytes
from .inner import Address
from .shell import inside
from .topology import Host, Lab

STRANGER = bytes.fromhex("02000000ff01")


def inject(lab: Lab, host: Host, packets: Iterable[bytes]) -> int:
    """Sends IP packets to `host` from its leg at the bridge, whatever their source; returns how many."""
    to = bytes.fromhex(host.mac.replace(":", "")) + STRANGER
    return inject_frames(lab, host, (to + ETHERTYPES[packet[0] >> 4].to_bytes(2, "big") + packet for packet in packets))


def inject_frames(lab: Lab, host: Host, frames: Iterable[bytes]) -> int:
    """Sends whole Ethernet frames there."""
    with inside(lab.inet):
        leg = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    count = 0
    with leg:
        leg.bind((host.name, 0))
        for frame in frames:
            leg.send(frame)
            count += 1
    return count


def packet(source: Address, destination: Address, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    """An IP packet of the family of its addresses."""
    ends = source.packed + destination.packed
    if source.version == 6:
        return struct.pack("!IHBB", 0x6000_0000, len(payload), protocol, hop_limit) + ends + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, hop_limit, protocol, 0)
    return with_checksum(header + ends + payload)


def with_checksum(header_and_rest: bytes) -> bytes:
    """An IPv4 packet without options, its header checksum made right."""
    header = header_and_rest[:10] + b"\0\0" + header_and_rest[12:20]
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + header_and_rest[20:]


def checksum(even: bytes) -> int:
    """The Internet's (RFC 1071)."""
    total = sum(int.from_bytes(even[i : i + 2], "big") for i in range(0, len(even), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


class Listener:
    """Takes in the IP packets that reach a host, of the family of its outer address, as a node of our own making there would."""

    def __init__(self, host: Host) -> None:
        self.host = host
        with inside(host.namespace):
            ethertype = ETHERTYPES[host.outer.version]
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
        self.socket.bind(("eth0", ethertype))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def packets(self, protocol: int, source: Host, timeout_s: float = 5) -> Iterator[bytes]:
        """Packets of one protocol from `source`; raises `TimeoutError` when none has come for `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            packet = self.socket.recv(65_535)[14:]
            packet = packet[: total_bytes(packet)]
            if protocol_of(packet) == protocol and source_of(packet) == source.outer.packed:
                yield packet
                deadline = time.monotonic() + timeout_s
        raise TimeoutError(f"{source.name} sent nothing of protocol {protocol} to {self.host.name}")
