"""Must show: an AIN that flips one bit in each cell it passes on learns nothing and is avoided.

In a diamond ain2 is such a build. As long as ain4 is stopped, everything goes by way of it: a thousand marked cells, of which nothing
but noise reaches the exit, that ends each AIVT. Then ain4 is there again, and traffic goes by way of it although ain2 is up.
"""

from __future__ import annotations

import signal
import socket
from ipaddress import ip_address

import pytest
from lab import capture, configs, traffic
from lab.configs import EXIT_PREFIX, RESPONDER
from lab.processes import Fleet, binary
from lab.shell import wait_for
from lab.traffic import open_socket

CELLS = 1000
PORT = 4000


def flood(fleet: Fleet) -> None:
    """Datagrams that fill a cell, for addresses that the exit serves: a flow each, made again three times a minute at most."""
    with open_socket(fleet.host("initiator"), socket.SOCK_DGRAM, RESPONDER) as sender:
        for _ in range(30):
            for last in range(1, 31):
                sender.sendto(bytes(1300), (str(EXIT_PREFIX[last]), PORT))


@pytest.mark.limit(150)
def test_a_thousand_marked_cells_are_noise_and_the_path_is_avoided() -> None:
    fleet = Fleet(configs.diamond())
    fleet.altered["ain2"] = binary("ain-tag")
    with fleet:
        honest = fleet.running["ain4"]
        honest.send_signal(signal.SIGSTOP)
        heard = capture.interface(fleet.lab, fleet.host("responder"), configs.TUN, snap_bytes=64)

        def enough() -> bool:
            flood(fleet)
            return fleet.cells("ain2", "forward") >= CELLS

        wait_for("ain2 has marked a thousand cells", enough, 90, 0.2)
        packets = [packet for frame in capture.frames(heard.stop()) if (packet := frame.ip)]
        delivered = [packet for packet in packets if ip_address(capture.destination_of(packet)) in EXIT_PREFIX]
        assert delivered == [], "noise reaches no host"
        assert fleet.drops("ain3", "cell_broken") > 0
        wait_for("the exit has ended every AIVT", lambda: fleet.aivts("ain3") == 0, 20)
        honest.send_signal(signal.SIGCONT)
        wait_for("traffic goes on", lambda: traffic.ping(fleet.host("initiator"), RESPONDER, 1).received == 1, 45)
        marked = fleet.cells("ain2", "forward")
        assert traffic.ping(fleet.host("initiator"), RESPONDER, 20, 0.02).received == 20
        assert fleet.cells("ain4") >= 40 and fleet.cells("ain2", "forward") == marked, "by way of ain4"
