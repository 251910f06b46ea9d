"""scapy against our AH and ESP, both ways."""

from __future__ import annotations

import os
from ipaddress import IPv4Address

import pytest
from lab.oracle import IPSecIntegrityError, Peer, SaKey, udp

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.101")
KEYS = {"hmac-sha2-256-128": 32, "aes-128-gmac": 20, "aes-128-gcm-16": 20, "aes-256-gcm-16": 36}
INNER = udp(IPv4Address("10.66.0.5"), IPv4Address("198.51.100.80"), b"inner bytes" * 20)


def pair(ah: str, esp: str, esn: bool) -> tuple[Peer, Peer]:
    """Two ends of one tunnel."""
    sas = [SaKey(256 + i, os.urandom(KEYS[ah if i < 2 else esp])) for i in range(4)]
    forward = Peer(A, B, ah, esp, esn, sas[0], sas[1], sas[2], sas[3])
    return forward, Peer(B, A, ah, esp, esn, sas[1], sas[0], sas[3], sas[2])


VARIANTS = [(ah, esp, esn) for ah in ("hmac-sha2-256-128", "aes-128-gmac") for esp in ("aes-128-gcm-16", "aes-256-gcm-16")
            for esn in (True, False)]


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
