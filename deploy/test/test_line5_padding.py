"""Line 5: every packet of a host tunnel has one size, whatever is in it (TFC padding, RFC 4303 section 2.7)."""

from __future__ import annotations

from lab import capture, configs, traffic
from lab.configs import RESPONDER
from lab.processes import Fleet


def test_line_5_every_packet_of_a_host_tunnel_has_one_size() -> None:
    with Fleet(configs.chain(3)) as fleet:
        lab, initiator, responder = fleet.lab, fleet.host("initiator"), fleet.host("responder")
        links = [
            capture.link(lab, initiator, fleet.host("ain1")),
            capture.link(lab, responder, fleet.host("ain3")),
        ]
        with traffic.udp_echo(responder, RESPONDER):
            sizes = [0, 1, 500, 1357, 1358, 4000]
            assert traffic.udp_exchange(initiator, RESPONDER, sizes) == len(sizes)
        assert traffic.ping(initiator, RESPONDER, count=3).received == 3
        for link in links:
            seen = capture.ip_sizes(link.stop())
            assert len(seen) == 1 and sum(seen.values()) >= 18, seen
