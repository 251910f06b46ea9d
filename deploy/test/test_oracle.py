"""scapy against our AH and ESP, both ways, on real sockets: scapy plays the far end of a tunnel.

    endpoint:   `ain endpoint` in initiator  <- IP|AH|ESP|datagram ->  scapy in ain1
    node:       `ain run` in ain1            <- IP|AH|ESP|signal   ->  scapy in ain2
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import islice

import pytest
from lab import configs, golden, oracle, traffic, wire
from lab.capture import PROTO_AH
from lab.configs import PRIVATE, RESPONDER
from lab.endpoint import Endpoint, awake
from lab.oracle import IPSecIntegrityError, Peer, SaKey, udp
from lab.processes import Fleet

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.101")
INNER = udp(PRIVATE, RESPONDER, b"inner bytes" * 20)
VARIANTS = [
    (ah, esp, esn)
    for ah in ("hmac-sha2-256-128", "aes-128-gmac", "aes-cmac-96")
    for esp in ("aes-128-gcm-16", "aes-256-gcm-16")
    for esn in (True, False)
]
KEEPALIVE, KEEPALIVE_ACK, SIGNAL_PORT = 3, 4, 4797


def pair(ah: str, esp: str, esn: bool) -> tuple[Peer, Peer]:
    """Two ends of one tunnel."""
    sas = [SaKey(256 + i, os.urandom(configs.KEY_BYTES[ah if i < 2 else esp])) for i in range(4)]
    forward = Peer(A, B, ah, esp, esn, sas[0], sas[1], sas[2], sas[3])
    return forward, Peer(B, A, ah, esp, esn, sas[1], sas[0], sas[3], sas[2])


@pytest.mark.parametrize(("ah", "esp", "esn"), VARIANTS)
def test_the_oracle_agrees_with_itself_and_notices_changes(ah: str, esp: str, esn: bool) -> None:
    """An oracle that accepts everything would prove nothing."""
    left, right = pair(ah, esp, esn)
    high = 7 if esn else 0
    for low in (1, 0xFFFF_FFFF):
        outer = left.seal(INNER, (high << 32) | low)
        assert right.open(outer, high) == (INNER, 0)
        for at in (4, 28, 40, 70, len(outer) - 1):
            changed = bytearray(outer)
            changed[at] ^= 1
            with pytest.raises(IPSecIntegrityError):
                right.open(bytes(changed), high)
        if esn:
            with pytest.raises(IPSecIntegrityError):
                right.open(outer, high + 1)


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}+{v[1]}+{'esn' if v[2] else 'seq32'}")
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    made = Endpoint(*request.param)
    with made.fleet:
        yield made


def test_scapy_opens_what_we_seal_and_we_open_what_it_seals(endpoint: Endpoint) -> None:
    with traffic.open_socket(endpoint.host, socket.SOCK_DGRAM, PRIVATE, 5) as app, wire.Listener(endpoint.far) as wires:
        app.bind((str(PRIVATE), 4000))
        first = oracle.sequence_of(awake(app, wires, endpoint))
        for count, size in enumerate((1, 100, 777, 1300), start=1):
            payload = os.urandom(size)
            app.sendto(payload, (str(RESPONDER), 5000))
            outer = next(wires.packets(PROTO_AH, endpoint.host))
            inner, padding = endpoint.peer.open(outer)
            assert inner[12:20] == PRIVATE.packed + RESPONDER.packed and inner[28:] == payload
            assert oracle.sequence_of(outer) == first + count
            assert outer[1] == 0 and outer[4:9] == bytes([0, 0, 0x40, 0, 64]), "DSCP 0, id 0, DF, TTL 64"

            answer = udp(RESPONDER, PRIVATE, payload[::-1], (5000, 4000))
            traffic_flow_padding = bytes(1380 - len(answer))
            for number, inner in ((2 * count - 1, answer), (2 * count, answer + traffic_flow_padding)):
                wire.inject(endpoint.fleet.lab, endpoint.host, [endpoint.peer.seal(inner, number)])
                assert app.recv(2000) == payload[::-1]


def test_the_endpoint_takes_changes_of_mutable_fields_only(endpoint: Endpoint) -> None:
    def answer(number: int) -> bytes:
        return udp(RESPONDER, PRIVATE, b"%d" % number, (5000, 4000))

    def altered(number: int, at: int) -> bytes:
        outer = endpoint.peer.seal(answer(number), number)
        return wire.with_checksum(outer[:at] + bytes([outer[at] ^ 1]) + outer[at + 1 :])

    with traffic.open_socket(endpoint.host, socket.SOCK_DGRAM, PRIVATE, 5) as app:
        app.bind((str(PRIVATE), 4000))
        # TOS and TTL change on the way; identification, SPI, ICV, ESP do not. The last of each batch shows that all
        # were handled.
        wire.inject(endpoint.fleet.lab, endpoint.host, [altered(1, 1), altered(2, 8)])
        assert {app.recv(100), app.recv(100)} == {b"1", b"2"}
        wire.inject(
            endpoint.fleet.lab,
            endpoint.host,
            [altered(n, at) for n, at in ((3, 5), (4, 24), (5, 33), (6, 60), (7, 80))],
        )
        wire.inject(endpoint.fleet.lab, endpoint.host, [endpoint.peer.seal(answer(8), 8)] * 2)
        assert app.recv(100) == b"8"
        wire.inject(endpoint.fleet.lab, endpoint.host, [endpoint.peer.seal(answer(9), 9)])
        assert app.recv(100) == b"9", "the repeated packet came through"


def numbers_file(numbers: dict[tuple[str, bytes], int]) -> bytes:
    """A node's reserved numbers, {(what is counted, key): value}, as it writes them itself."""

    def tag(label: str, key: bytes) -> bytes:
        return hashlib.sha256(b"ain durable state\0" + label.encode() + b"\0" + key).digest()[:16]

    body = b"ain state 1\n" + b"".join(sorted(tag(*name) + value.to_bytes(8, "big") for name, value in numbers.items()))
    return body + hashlib.sha256(body).digest()


def accepted_file(numbers: dict[bytes, int]) -> bytes:
    """A node's highest accepted numbers, {key: value}, as it writes them itself."""
    records = [
        hashlib.sha256(b"ain accepted\0" + key).digest()[:16] + value.to_bytes(8, "big")
        for key, value in numbers.items()
    ]
    return b"".join(record + hashlib.sha256(record).digest()[:8] for record in records)


@pytest.mark.parametrize("ah", ["hmac-sha2-256-128", "aes-128-gmac", "aes-cmac-96"])
def test_sequence_numbers_pass_2_to_the_32(ah: str) -> None:
    """The upper half of an extended sequence number is never sent, yet both ends cover it (RFC 4302 section 2.5.1)."""
    made, edge = Endpoint(ah, "aes-128-gcm-16", True), 2**32
    with made.fleet as fleet:
        with traffic.open_socket(made.host, socket.SOCK_DGRAM, PRIVATE, 5) as app, wire.Listener(made.far) as wires:
            awake(app, wires, made)  # the kernel knows the next hop from now on
        fleet.stop("initiator")
        keys = {place: bytes.fromhex(key) for place, (_, key) in fleet.network.keys.items()}
        state = fleet.lab.directory / "initiator" / "state"
        outbound = {("outbound sequence", keys[p, "initiator", "ain1"]): edge - 3 for p in ("ah", "esp")}
        inbound = {keys[p, "ain1", "initiator"]: edge - 3 for p in ("ah", "esp")}
        (state / "numbers").write_bytes(numbers_file(outbound))
        (state / "accepted").write_bytes(accepted_file(inbound))
        fleet.start("initiator")
        with traffic.open_socket(made.host, socket.SOCK_DGRAM, PRIVATE, 5) as app, wire.Listener(made.far) as wires:
            app.bind((str(PRIVATE), 4000))
            highs = set()
            for count in range(6):
                app.sendto(b"%d" % count, (str(RESPONDER), 5000))
                outer = next(wires.packets(PROTO_AH, made.host))
                high = int(oracle.sequence_of(outer) < edge // 2)
                highs.add(high)
                assert made.peer.open(outer, high)[0][28:] == b"%d" % count
                answer = udp(RESPONDER, PRIVATE, b"%d" % count, (5000, 4000))
                wire.inject(fleet.lab, made.host, [made.peer.seal(answer, edge - 2 + count)])
                assert app.recv(100) == b"%d" % count
            assert highs == {0, 1}, "the numbers passed the edge"


@pytest.mark.parametrize(("family", "ip", "ah"), [(4, 20, 36), (6, 40, 40)])
def test_line_1_scapy_keeps_a_pvt_alive(family: int, ip: int, ah: int) -> None:
    """Signals as the protocol page has them (sections 2 and 6): AES-GMAC AH with ESN, one length in either family, KEEPALIVE
    answered by hand.
    """
    network = configs.Network([("ain1", "ain2")], [], by_hand=("ain2",), family=family)
    fleet = Fleet(network)
    try:
        configs.write(fleet.lab, network, fleet.ain)
        fleet.start("ain1", wait=False)
        near, far = fleet.host("ain1"), fleet.host("ain2")
        peer = oracle.of_network(network, "ain2", "ain1", network.ah, "aes-128-gcm-16")
        with wire.Listener(far) as wires:
            for count, outer in enumerate(islice(wires.packets(PROTO_AH, near, 5), 4), start=1):
                inner, padding = peer.open(outer)
                assert (len(outer), len(inner), padding) == (ip + ah + 1408, 1374, 0)
                command, fragment, length, spi, message = struct.unpack("!BBHII", inner[ip + 8 : ip + 20])
                assert (command, fragment, inner[ip + 2 : ip + 4]) == (KEEPALIVE, 0, SIGNAL_PORT.to_bytes(2, "big"))
                ack = struct.pack("!BBHII", KEEPALIVE_ACK, 0, length, spi, message) + inner[ip + 20 :]
                answer = udp(far.outer, near.outer, ack, (SIGNAL_PORT, SIGNAL_PORT))
                wire.inject(fleet.lab, near, [peer.seal(answer, count)])
            fleet.wait_ready("ain1", 5)
    finally:
        fleet.lab.close()


# What the kinds of golden packets hold: the command of a signal.
SIGNALS = {"create": 0, "destroy": 1, "created": 2, "keepalive": KEEPALIVE, "keepalive-ack": KEEPALIVE_ACK, "ack": 5}


def test_line4_scapy_opens_the_golden_packets() -> None:
    """AH and ESP of every kind are authentic, and signals are what their file says."""
    kinds = set()
    for one in golden.packets():
        spi = int.from_bytes(one.packet[one.ah_at + 4 : one.ah_at + 8], "big")  # of the tunnel, or of a TVT under the same key
        is_esp = one.packet[one.ah_at] == socket.IPPROTO_ESP
        inner = oracle.opened(one.packet, one.ah.algorithm, SaKey(spi, one.ah.sa.key), one.esp.algorithm, one.esp.sa, one.ah.esn)
        at = 28 if one.packet[0] >> 4 == 4 else 48
        if one.kind in SIGNALS:
            assert inner[at] == SIGNALS[one.kind] and inner[at - 6 : at - 4] == SIGNAL_PORT.to_bytes(2, "big"), one.kind
        assert is_esp == (not one.kind.startswith("cell") and one.kind not in ("slot-cell", "slot-dummy")), one.kind
        kinds.add(one.kind)
    assert kinds >= SIGNALS.keys()
