"""The golden packets of controlplane/tests/golden: a capture of every kind, and the associations that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from .capture import destination_of, frames, source_of
from .inner import Address
from .oracle import SaKey
from .processes import ROOT

FOLDER = ROOT / "controlplane" / "tests" / "golden"


@dataclass(frozen=True)
class Association:
    """One line of the file `associations`."""

    source: Address
    destination: Address
    algorithm: str
    esn: bool
    sa: SaKey


@dataclass(frozen=True)
class Golden:
    """One packet, from its IP header on, and the associations of its tunnel."""

    path: Path
    packet: bytes
    ah: Association
    esp: Association

    @property
    def kind(self) -> str:
        """Its name in README.md."""
        return self.path.stem.rpartition("-")[0]

    @property
    def ah_at(self) -> int:
        """Where its AH begins: none has options or extension headers."""
        return 20 if self.packet[0] >> 4 == 4 else 40


def packets() -> Iterator[Golden]:
    """All of them."""
    associations: dict[tuple[str, bytes, bytes, str], Association] = {}
    for line in (FOLDER / "associations").read_text().splitlines():
        file, source, destination, protocol, spi, algorithm, numbers, key = line.split()
        ends = ip_address(source), ip_address(destination)
        sa = SaKey(int(spi, 16), bytes.fromhex(key))
        name = (file, ends[0].packed, ends[1].packed, protocol)
        associations[name] = Association(*ends, algorithm, numbers == "esn", sa)
    for path in sorted(FOLDER.glob("*.pcap")):
        for frame in frames(path):
            packet = frame.ip
            assert packet, f"{path} holds something else than IP"
            ends_of = (path.name, source_of(packet), destination_of(packet))
            yield Golden(path, packet, associations[*ends_of, "ah"], associations[*ends_of, "esp"])

