"""Line 1, the outside: everything over an outer network that has IPv6 alone. Traffic of a user through three AINs, and
scapy as the far end of a tunnel, extension headers and their mutable options included.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from lab import capture, configs, oracle, traffic, wire
from lab.capture import PROTO_AH
from lab.configs import PRIVATE, RESPONDER
from lab.oracle import udp
from lab.processes import Fleet
from scapy.layers.inet6 import HBHOptUnknown, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, RouterAlert
from scapy.packet import Packet
from test_oracle import KEEPALIVE, KEEPALIVE_ACK, SIGNAL_PORT, Endpoint, awake

AH_ALGORITHMS = ["hmac-sha2-256-128", "aes-128-gmac", "aes-cmac-96"]
PROTO_ESP = 50
CHANGES_EN_ROUTE, STAYS = 0x3E, 0x1E  # types of RFC 4727 for experiments
TCP_BYTES = 1_000_000
# IPv6, AH with AES-GMAC, a cell.
PACKET_BYTES = 40 + 40 + 1408


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(replace(configs.chain(3), family=6)) as fleet:
        yield fleet


@pytest.mark.limit(90)
def test_line_1_traffic_over_an_ipv6_outer_network(chain: Fleet) -> None:
    initiator, responder = chain.host("initiator"), chain.host("responder")
    pinged = traffic.ping(initiator, RESPONDER, count=5)
    assert pinged.received == pinged.sent
    with traffic.udp_echo(responder, RESPONDER) as sources:
        assert traffic.udp_exchange(initiator, RESPONDER, [1, 500, 1358, 4000]) == 4
    assert str(PRIVATE) not in sources
    done = traffic.TcpExchange(initiator, responder, RESPONDER, TCP_BYTES).run()
    assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)


def test_line_1_one_size_between_ains_over_ipv6(chain: Fleet) -> None:
    lab = chain.lab
    links = [capture.link(lab, lab["ain1"], lab["ain2"]), capture.link(lab, lab["ain2"], lab["ain3"])]
    traffic.ping(chain.host("initiator"), RESPONDER, count=5, size=1200)
    with traffic.udp_echo(chain.host("responder"), RESPONDER):
        traffic.udp_exchange(chain.host("initiator"), RESPONDER, [1, 500, 1300])
    for link in links:
        path = link.stop()
        sizes = capture.ip_sizes(path)
        assert set(sizes) == {PACKET_BYTES} and sizes.total() >= 8
        packets = [p for frame in capture.frames(path) if (p := frame.ip) and not capture.is_neighbour_discovery(p)]
        fronts = {packet[:4] + packet[6:8] for packet in packets}
        assert fronts == {bytes([0x60, 0, 0, 0, PROTO_AH, 64])}, "traffic class 0, flow label 0, hop limit 64"


def extensions(en_route: bytes = b"abcd") -> Packet:
    """Hop-by-hop options, one of which changes en route, and destination options, before ESP."""
    hop = IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=CHANGES_EN_ROUTE, optdata=en_route)])
    return hop / IPv6ExtHdrDestOpt(nh=PROTO_ESP, options=[HBHOptUnknown(otype=STAYS, optdata=b"wxyz")])


@pytest.fixture(params=AH_ALGORITHMS)
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    made = Endpoint(request.param, "aes-128-gcm-16", True, family=6)
    with made.fleet:
        yield made


def test_line_1_scapy_and_we_open_each_others_packets_over_ipv6(endpoint: Endpoint) -> None:
    lab, host, peer = endpoint.fleet.lab, endpoint.host, endpoint.peer
    with traffic.open_socket(host, socket.SOCK_DGRAM, PRIVATE, 5) as app, wire.Listener(endpoint.far) as wires:
        app.bind((str(PRIVATE), 4000))
        awake(app, wires, endpoint)
        for count, size in enumerate((1, 100, 777, 1300), start=1):
            payload = os.urandom(size)
            app.sendto(payload, (str(RESPONDER), 5000))
            inner, _ = peer.open(next(wires.packets(PROTO_AH, host)))
            assert inner.endswith(payload)
            answer = udp(RESPONDER, PRIVATE, payload[::-1], (5000, 4000))
            for number, headers in ((2 * count - 1, None), (2 * count, extensions())):
                wire.inject(lab, host, [peer.seal(answer, number, extensions=headers)])
                assert app.recv(2000) == payload[::-1]


def test_line_1_changes_en_route_pass_where_the_rfc_has_them(endpoint: Endpoint) -> None:
    def packet(number: int, headers: Packet) -> bytes:
        return endpoint.peer.seal(udp(RESPONDER, PRIVATE, b"%d" % number, (5000, 4000)), number, extensions=headers)

    def altered(number: int, at: int) -> bytes:
        outer = packet(number, extensions())
        return outer[:at] + bytes([outer[at] ^ 1]) + outer[at + 1 :]

    lab, host = endpoint.fleet.lab, endpoint.host
    with traffic.open_socket(host, socket.SOCK_DGRAM, PRIVATE, 5) as app:
        app.bind((str(PRIVATE), 4000))
        # Traffic class, flow label, hop limit, the data of the option that says so.
        mutable = {number: at for number, at in enumerate((0, 1, 3, 7, 48, 51), start=1)}
        wire.inject(lab, host, [altered(number, at) for number, at in mutable.items()])
        assert {app.recv(100) for _ in mutable} == {b"%d" % number for number in mutable}
        # Router alert, an option's type, the option that stays, AH, ICV, ESP; then a routing header, whoever signed it.
        wire.inject(lab, host, [altered(n, at) for n, at in enumerate((44, 46, 60, 68, 78, 120), start=10)])
        routing = IPv6ExtHdrRouting(nh=PROTO_ESP, type=4, segleft=0, addresses=[])
        wire.inject(lab, host, [packet(20, routing), packet(21, extensions())])
        assert app.recv(100) == b"21"


def test_line_1_scapy_keeps_a_pvt_alive_over_ipv6() -> None:
    """A signal over IPv6 inside and outside is as long as a cell (protocol section 6)."""
    network = configs.Network([("ain1", "ain2")], [], by_hand=("ain2",), family=6)
    fleet = Fleet(network)
    try:
        configs.write(fleet.lab, network, fleet.ain)
        fleet.start("ain1", wait=False)
        near, far = fleet.host("ain1"), fleet.host("ain2")
        peer = oracle.of_network(network, "ain2", "ain1", network.ah, "aes-128-gcm-16")
        with wire.Listener(far) as wires:
            for count, outer in enumerate(islice(wires.packets(PROTO_AH, near, 5), 4), start=1):
                inner, padding = peer.open(outer)
                assert (len(outer), len(inner), padding) == (PACKET_BYTES, 1374, 0)
                command, fragment, length, spi, message = struct.unpack("!BBHII", inner[48:60])
                assert (command, fragment, inner[42:44]) == (KEEPALIVE, 0, SIGNAL_PORT.to_bytes(2, "big"))
                ack = struct.pack("!BBHII", KEEPALIVE_ACK, 0, length, spi, message) + inner[60:]
                answer = udp(far.outer, near.outer, ack, (SIGNAL_PORT, SIGNAL_PORT))
                wire.inject(fleet.lab, near, [peer.seal(answer, count)])
            fleet.wait_ready("ain1", 5)
    finally:
        fleet.lab.close()
