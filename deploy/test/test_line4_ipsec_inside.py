"""Line 4: end-to-end IPsec inside an AIVT. With `as-sent`, packets of an ESP and of an AH association between the hosts, made by scapy,
come out of the responder's tunnel byte for byte as they went in but for the time to live, and scapy's other end takes them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from lab import capture, configs, traffic
from lab.configs import PRIVATE, RESPONDER
from lab.processes import Fleet
from lab.shell import inside, wait_for
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import AH, ESP, SecurityAssociation
from scapy.packet import Packet, Raw

PACKETS = 20
UDP_BYTES = 8
TTL_AT = 8
CHECKSUM_AT = slice(10, 12)


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(configs.chain(3, option="as-sent")) as fleet:
        yield fleet


def association(protocol: type[Packet]) -> SecurityAssociation:
    """One end of a transport-mode association between the hosts; both ends are made alike."""
    if protocol is ESP:
        return SecurityAssociation(ESP, spi=0x500, crypt_algo="AES-GCM", crypt_key=bytes(range(20)))
    return SecurityAssociation(AH, spi=0x600, auth_algo="SHA2-256-128", auth_key=bytes(range(32)))


def send_raw(fleet: Fleet, packets: list[bytes]) -> None:
    """Whole IPv4 packets by way of the initiator's kernel into its tunnel."""
    with inside(fleet.host("initiator").namespace):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for packet in packets:
            raw.sendto(packet, (str(RESPONDER), 0))


def arrived(running: capture.Capture, protocol: int) -> list[bytes]:
    """What came out of the responder's tunnel so far, of one protocol."""
    packets = (frame.ip for frame in capture.frames(running.path))
    return [packet for packet in packets if packet and packet[9] == protocol and packet[16:20] == RESPONDER.packed]


@pytest.mark.parametrize("protocol", [ESP, AH])
def test_as_sent_leaves_ipsec_of_the_hosts_alone(chain: Fleet, protocol: type[Packet]) -> None:
    assert traffic.ping(chain.host("initiator"), RESPONDER, 3).received == 3
    sender, receiver = association(protocol), association(protocol)
    texts = [bytes([number]) * (1 + 50 * number) for number in range(PACKETS)]
    plain = [IP(src=str(PRIVATE), dst=str(RESPONDER), ttl=64, id=7) / UDP(sport=9, dport=9) / Raw(t) for t in texts]
    sent = [bytes(sender.encrypt(IP(bytes(packet)))) for packet in plain]
    number = 50 if protocol is ESP else 51
    running = capture.interface(chain.lab, chain.host("responder"), configs.TUN)
    send_raw(chain, sent)
    wait_for("all have arrived", lambda: len(arrived(running, number)) >= PACKETS, 10, 0.2)
    running.stop()
    for before, after, text in zip(sent, arrived(running, number), texts, strict=True):
        assert after[TTL_AT] < before[TTL_AT]
        expected = bytearray(before)
        expected[TTL_AT], expected[CHECKSUM_AT] = after[TTL_AT], after[CHECKSUM_AT]
        assert after == bytes(expected), "nothing but what every router changes"
        opened = receiver.decrypt(IP(after))  # raises if the integrity check fails
        assert bytes(opened.payload)[UDP_BYTES:] == text
