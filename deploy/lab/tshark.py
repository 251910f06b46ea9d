"""tshark reads ESP: decrypts it with the keys it is given, and checks its ICV where sequence numbers are short.

tshark 4.0 knows no extended sequence numbers: it decrypts such packets, and finds their ICVs wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .inner import Address
from .oracle import SaKey
from .shell import run

FIELDS = ("esp.spi", "esp.icv_good", "esp.protocol", "esp.contained_data")


@dataclass(frozen=True)
class Read:
    """What it made of one packet with ESP."""

    spi: int
    icv_good: bool
    next_header: int | None  # none where it could not decrypt
    datagram: bytes


def read(path: Path, sas: Iterable[tuple[Address, Address, SaKey]]) -> list[Read]:
    """The packets of a capture that carry ESP; `sas` are source, destination, and AES-GCM key."""
    words = ["tshark", "-r", str(path), "-Y", "esp and not icmp and not icmpv6", "-T", "fields"]
    for switch in ("encryption_decode", "authentication_check"):
        words += ["-o", f"esp.enable_{switch}:TRUE"]
    for source, destination, sa in sas:
        record = (f"IPv{source.version}", source, destination, f"{sa.spi:#010x}", "AES-GCM with 16 octet ICV [RFC4106]", f"0x{sa.key.hex()}", "NULL", "")
        words += ["-o", "uat:esp_sa:" + ",".join(f'"{field}"' for field in record)]
    for field in FIELDS:
        words += ["-e", field]
    return [_parsed(line) for line in run(words, 60).stdout.splitlines()]


def _parsed(line: str) -> Read:
    spi, good, protocol, data = line.split("\t")
    return Read(int(spi, 0), good == "1", int(protocol, 0) if protocol else None, bytes.fromhex(data))
