"""Who could see what: the search, and the table it fills.

One search serves everything, captures of links as well as dumps and memory of nodes, and the controls: it looks for
the raw bytes of what is secret, in headers and payloads alike. Nothing is concluded from how the network should work.

Four bytes of an address turn up in ciphertext by chance, once in 2^32 places. So a name counts as seen where at least
`CHANCE_HITS` places show its address; the marker of 32 bytes counts at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from .capture import frames
from .inner import Address

CHANCE_HITS = 3


@dataclass(frozen=True)
class Secrets:
    """What a place may show: addresses by name, the marker inside the page, the end-to-end pair."""

    initiator: Mapping[str, Address]
    responder: Mapping[str, Address]
    marker: bytes
    nodes: Mapping[str, Address]

    @property
    def addresses(self) -> dict[str, Address]:
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
    """`look` at whole frames, Ethernet header to last byte, and the sizes of the IP packets."""
    kept = list(frames(path))
    sight = look(place, (frame.data for frame in kept), secrets)
    sight.sizes = {size for frame in kept if (size := frame.ip_bytes) is not None}
    return sight


def look_at_text(place: str, text: str, secrets: Secrets) -> Sight:
    """`look` at a dump of tables in text form: addresses as people write them or in hex, AINs by name too, the marker
    in hex. No chance here: one is enough.
    """
    sight = Sight(place)
    for name, address in secrets.addresses.items():
        alone = r"(?<![\d.]){}(?![\d.])" if address.version == 4 else r"(?<![0-9a-f:]){}(?![0-9a-f]|:[0-9a-f])"
        found = len(re.findall(alone.format(re.escape(str(address))), text)) + text.lower().count(address.packed.hex())
        if name in secrets.nodes:
            found += len(re.findall(rf"\b{name}\b", text))
        sight.hits[name] = CHANCE_HITS * found
    sight.marker_hits = text.lower().count(secrets.marker.hex())
    return sight


@dataclass(frozen=True)
class InnerHeader:
    """A plain IP header found in a heap of bytes."""

    source: Address
    destination: Address
    total_bytes: int


def inner_headers(chunk: bytes, address: Address) -> set[InnerHeader]:
    """The IP headers in `chunk` that come from or go to `address`: of IPv4 those without options that have a right
    checksum; an IPv6 address is so long that its place behind a version is enough.
    """
    header_bytes, places, read = (20, (12, 16), _ipv4_header) if address.version == 4 else (40, (8, 24), _ipv6_header)
    found = set()
    at = chunk.find(address.packed)
    while at >= 0:
        for start in (at - place for place in places):
            header = chunk[max(start, 0) : start + header_bytes]
            if len(header) == header_bytes and (seen := read(header)):
                found.add(seen)
        at = chunk.find(address.packed, at + 1)
    return found


def _ipv4_header(header: bytes) -> InnerHeader | None:
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, 20, 2))
    if header[0] != 0x45 or total % 0xFFFF != 0:
        return None
    return InnerHeader(IPv4Address(header[12:16]), IPv4Address(header[16:20]), int.from_bytes(header[2:4], "big"))


def _ipv6_header(header: bytes) -> InnerHeader | None:
    if header[0] >> 4 != 6:
        return None
    return InnerHeader(IPv6Address(header[8:24]), IPv6Address(header[24:40]), 40 + int.from_bytes(header[4:6], "big"))


def look_at_memory(place: str, pieces: Iterable[bytes], secrets: Secrets) -> Sight:
    """What a process holds in the clear: the marker, and inner datagrams by their headers. An address counts
    where a header shows it, as four bytes alone are anything in so large a heap.
    """
    sight = Sight(place)
    inner = {name: address for name, address in secrets.addresses.items() if name.endswith(" inner")}
    for piece in pieces:
        sight.marker_hits += piece.count(secrets.marker)
        for name, address in inner.items():
            headers = inner_headers(piece, address)
            sight.hits[name] = sight.hits.get(name, 0) + CHANCE_HITS * len(headers)
            sight.sizes |= {header.total_bytes for header in headers}
    return sight


def joined(place: str, sights: Iterable[Sight]) -> Sight:
    """What one place showed in several ways."""
    whole = Sight(place)
    for sight in sights:
        whole.marker_hits += sight.marker_hits
        whole.sizes |= sight.sizes
        for name, hits in sight.hits.items():
            whole.hits[name] = whole.hits.get(name, 0) + hits
    return whole
