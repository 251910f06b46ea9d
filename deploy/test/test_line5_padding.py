"""Line 5: packets have one size, whatever is in them: between AINs, signals included, and on host tunnels (TFC padding, RFC 4303
section 2.7), over IPv4 and over IPv6.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from lab import capture, configs, traffic
from lab.capture import PROTO_AH
from lab.configs import PRIVATE, RESPONDER
from lab.processes import Fleet
from lab.shell import wait_for

# All before the checksum or the addresses of a packet between AINs: DSCP and flow label 0, length, no identification, DF, TTL.
FRONTS = {
    4: struct.pack("!BBHHHBB", 0x45, 0, 20 + 36 + 1408, 0, 0x4000, 64, PROTO_AH),
    6: struct.pack("!IHBB", 0x6000_0000, 40 + 1408, PROTO_AH, 64),
}

both_families = pytest.mark.parametrize("family", FRONTS)


@both_families
def test_line_5_setup_data_signals_and_teardown_have_one_size_between_ains(family: int) -> None:
    with Fleet(replace(configs.chain(3, option="as-sent"), family=family)) as fleet:
        lab, initiator, nodes = fleet.lab, fleet.host("initiator"), fleet.network.nodes
        links = [capture.link(lab, lab[one], lab[other]) for one, other in fleet.network.links]
        assert traffic.ping(initiator, RESPONDER, count=5, size=1200).received == 5
        with traffic.udp_echo(fleet.host("responder"), RESPONDER):
            assert traffic.udp_exchange(initiator, RESPONDER, [0, 1, 500, 1358, 4000]) == 5
        assert fleet.close_aivt("initiator", PRIVATE, RESPONDER).stdout.strip() == "closed"
        wait_for("every AIN has freed it", lambda: not any(fleet.aivts(node) for node in nodes), 5)
        for sender, kind in (("ain1", "create"), ("ain2", "created"), ("ain1", "destroy"), ("ain2", "keepalive")):
            assert fleet.signals(sender, "sent", kind) > 0, kind
        for link in links:
            packets = [packet for frame in capture.frames(link.stop()) if frame.ip_bytes and (packet := frame.ip)]
            assert {packet[: len(FRONTS[family])] for packet in packets} == {FRONTS[family]}
            assert len(packets) >= 28


@both_families
def test_line_5_every_packet_of_a_host_tunnel_has_one_size(family: int) -> None:
    with Fleet(replace(configs.chain(3), family=family)) as fleet:
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
