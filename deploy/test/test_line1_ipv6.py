"""Line 1, the outside: everything over an outer network that has IPv6 alone. Traffic of a user through three AINs, and
scapy as the far end of a tunnel, extension headers and their mutable options included.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab import configs, traffic, wire
from lab.capture import PROTO_AH
from lab.configs import PRIVATE, RESPONDER
from lab.oracle import udp
from lab.processes import Fleet
from scapy.layers.inet6 import HBHOptUnknown, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, RouterAlert
from scapy.packet import Packet
from lab.endpoint import Endpoint, awake

AH_ALGORITHMS = ["hmac-sha2-256-128", "aes-128-gmac", "aes-cmac-96"]
PROTO_ESP = 50
CHANGES_EN_ROUTE, STAYS = 0x3E, 0x1E  # types of RFC 4727 for experiments
TCP_BYTES = 1_000_000


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
