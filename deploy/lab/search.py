"""Who could see what: the search, and the table it fills.

One search serves everything, captures of links as well as dumps and memory of nodes, and the controls: it looks for the raw bytes
of what is secret, in headers and payloads alike. Nothing is concluded from how the network should work.

Four bytes of an address turn up in ciphertext by chance, once in 2^32 places. So a name counts as seen where at least
`CHANCE_HITS` places show its address; a marker of 32 bytes or a (source, destination) pair of 8 counts at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from .capture import frames

CHANCE_HITS = 3


@dataclass(frozen=True)
class Secrets:
    """What a place may show: addresses by name, the marker inside the page, the end-to-end pair."""

    initiator: Mapping[str, IPv4Address]
    responder: Mapping[str, IPv4Address]
    marker: bytes
    nodes: Mapping[str, IPv4Address]

    @property
    def addresses(self) -> dict[str, IPv4Address]:
        """Every address looked for, by a name of its own."""
        ends = {"initiator": self.initiator, "responder": self.responder}
        named = {f"{end} {kind}": address for end, kinds in ends.items() for kind, address in kinds.items()}
        return named | dict(self.nodes)


@dataclass
class Sight:
    """What one place showed."""

    place: str
    hits: dict[str, int] = field(default_factory=dict)
    marker_hits: int = 0
    sizes: set[int] = field(default_factory=set)

    def sees(self, name: str) -> bool:
        """Whether the address called `name` was seen."""
        return self.hits.get(name, 0) >= CHANCE_HITS

    @property
    def sees_marker(self) -> bool:
        """Whether inner bytes were seen."""
        return self.marker_hits > 0

    @property
    def sees_sizes(self) -> bool:
        """Whether packets differ in length, as the datagrams sent do."""
        return len(self.sizes) > 1

    def kinds(self, end: str) -> list[str]:
        """Which addresses of `end` (initiator or responder) were seen: outer, inner."""
        return sorted(name.split()[1] for name in self.hits if name.startswith(f"{end} ") and self.sees(name))


def look(place: str, chunks: Iterable[bytes], secrets: Secrets) -> Sight:
    """Counts every secret in `chunks`, each searched as a whole."""
    sight = Sight(place)
    wanted = {name: address.packed for name, address in secrets.addresses.items()}
    for chunk in chunks:
        sight.marker_hits += chunk.count(secrets.marker)
        for name, packed in wanted.items():
            sight.hits[name] = sight.hits.get(name, 0) + chunk.count(packed)
    return sight


def look_at_capture(place: str, path: Path, secrets: Secrets) -> Sight:
    """`look` at whole frames, Ethernet header to last byte, and the sizes of the IPv4 packets."""
    kept = list(frames(path))
    sight = look(place, (frame.data for frame in kept), secrets)
    sight.sizes = {size for frame in kept if (size := frame.ipv4_bytes) is not None}
    return sight


def look_at_text(place: str, text: str, secrets: Secrets) -> Sight:
    """`look` at a dump of tables in text form: addresses as dotted quads or in hex, the marker in hex. No chance here: one is enough."""
    sight = Sight(place)
    for name, address in secrets.addresses.items():
        dotted = re.compile(rf"(?<![\d.]){re.escape(str(address))}(?![\d.])")
        found = len(dotted.findall(text)) + text.lower().count(address.packed.hex())
        sight.hits[name] = CHANCE_HITS * found
    sight.marker_hits = text.lower().count(secrets.marker.hex())
    return sight


def inner_headers(chunk: bytes, source: IPv4Address | None, destination: IPv4Address) -> list[int]:
    """Total lengths of the plain IPv4 headers in `chunk` from `source` (any if `None`) to `destination`."""
    middle = re.escape(source.packed) if source else b".{4}"
    header = re.compile(rb"\x45.(.{2}).{4}.[\x01\x06\x11].{2}" + middle + re.escape(destination.packed), re.DOTALL)
    return [int.from_bytes(total, "big") for total in header.findall(chunk)]
