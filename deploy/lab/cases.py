"""Packets that scapy makes for one end of a tunnel, case by case: what this end has to make of them, and why Linux may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scapy.layers.inet import IP, IPOption, IPOption_RR, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, fragment6
from scapy.packet import Packet, Raw

from .inner import Address
from .oracle import Peer, ip_packet, udp

STAYS, MAY_CHANGE = 0x1E, 0x3E  # types of IPv6 options that may be skipped


@dataclass
class Hand:
    """scapy's end of a tunnel, and the numbers it has used."""

    peer: Peer
    source: Address
    destination: Address
    ports: tuple[int, int]
    number: int = 0

    @property
    def v6(self) -> bool:
        """Whether the outside is IPv6."""
        return self.peer.header_out.version == 6

    def datagram(self, what: int) -> bytes:
        """A datagram told from others by its first 4 bytes."""
        return udp(self.source, self.destination, what.to_bytes(4, "big") + bytes(20), self.ports)

    def seal(self, what: int, skip: int = 1, **more: object) -> bytes:
        """The next packet."""
        self.number += skip
        return self.peer.seal(self.datagram(what), self.number, **more)  # type: ignore[arg-type]


Make = Callable[[Hand, int], "list[bytes] | None"]


@dataclass(frozen=True)
class Case:
    """What is sent, and how many of its datagrams come through at the node and at Linux. `make` gives none where a tunnel cannot have it."""

    name: str
    make: Make
    node: int
    linux: int
    why: str = "equal"


def changed(packet: bytes, at: int, bits: int = 1) -> bytes:
    """With other bits there, and over IPv4 the right header checksum."""
    other = packet[:at] + bytes([packet[at] ^ bits]) + packet[at + 1 :]
    if other[0] >> 4 == 6:
        return other
    ip = IP(other)
    del ip.chksum
    return bytes(ip)


def mutable_fields(hand: Hand, what: int) -> list[bytes]:
    """DSCP and TTL, or class, flow label and hop limit, of another value."""
    packet = hand.seal(what)
    places = ((0, 3), (1, 0x7F), (3, 0xFF), (7, 9)) if hand.v6 else ((1, 0xB9), (6, 0x40), (8, 9))
    for at, bits in places:
        packet = changed(packet, at, bits)
    return [packet]


def option(kind: int) -> Packet:
    """Destination options behind hop-by-hop options, each with an option of `kind`."""
    some = [HBHOptUnknown(otype=kind, optdata=b"abcd")]
    return IPv6ExtHdrHopByHop(options=some) / IPv6ExtHdrDestOpt(nh=50, options=some)


def immutable_options(hand: Hand, what: int) -> list[bytes]:
    """Router alert, or extension headers whose options stay."""
    if hand.v6:
        return [hand.seal(what, extensions=option(STAYS))]
    return [hand.seal(what, options=[IPOption_Router_Alert()])]


def mutable_options(hand: Hand, what: int) -> list[bytes]:
    """Record route, or extension headers whose options change, changed."""
    if hand.v6:
        return [changed(hand.seal(what, extensions=option(MAY_CHANGE)), 46)]
    return [changed(hand.seal(what, options=[IPOption_RR(length=11, pointer=8, routers=["10.0.0.1", "0.0.0.0"]), IPOption(b"\x01")]), 24)]


def fragments(hand: Hand, what: int) -> list[bytes]:
    """The packet in two pieces."""
    hand.number += 1
    packet = ip_packet(hand.peer.seal(hand.datagram(what), hand.number))
    if not hand.v6:
        packet.flags = 0
        del packet.chksum
        return [bytes(piece) for piece in fragment(IP(bytes(packet)), 64)]
    header = IPv6(bytes(packet)[:40])
    whole = IPv6(src=header.src, dst=header.dst, hlim=64) / IPv6ExtHdrFragment(nh=51, id=what) / Raw(bytes(packet)[40:])
    return [bytes(piece) for piece in fragment6(whole, 120)]


def shortened(hand: Hand, what: int) -> list[bytes]:
    """Four bytes less, and the IP header says so."""
    ip = ip_packet(hand.seal(what)[:-4])
    if hand.v6:
        ip.plen -= 4
    else:
        ip.len -= 4
        del ip.chksum
    return [bytes(ip)]


def icv_at(hand: Hand) -> int:
    """Where the ICV begins."""
    return (40 if hand.v6 else 20) + 12


def long_hmac(hand: Hand, what: int) -> list[bytes] | None:
    """HMAC's AH of 32 bytes over IPv4, aligned to 8."""
    hand.number += 1
    if hand.v6 or hand.peer.ah_out.auth_algo.icv_size != 16:
        return None
    return [hand.peer.seal_long(hand.datagram(what), hand.number, 20)]


def wrong_high(hand: Hand, what: int) -> list[bytes] | None:
    """Signed and sealed with a high half that is one too great."""
    hand.number += 1
    return [hand.peer.seal(hand.datagram(what), hand.number + (1 << 32))] if hand.peer.esn else None


def again(hand: Hand, what: int) -> list[bytes]:
    """The same packet twice."""
    return [hand.seal(what)] * 2


def behind(hand: Hand, what: int) -> list[bytes]:
    """A number ahead, then one that was left out."""
    ahead = hand.seal(what, skip=5)
    return [ahead, hand.peer.seal(hand.datagram(what), hand.number - 3)]


def esp_again(hand: Hand, what: int) -> list[bytes]:
    """Another AH round an ESP number that was used."""
    return [hand.seal(what, esp_sequence=hand.number)]


def unpadded(hand: Hand, what: int) -> list[bytes]:
    """ESP with traffic flow padding behind the datagram."""
    hand.number += 1
    return [hand.peer.seal(hand.datagram(what) + bytes(200), hand.number)]


def changed_last(esp: bytes) -> bytes:
    """With another last bit."""
    return esp[:-1] + bytes([esp[-1] ^ 1])


CASES = [
    Case("as it should be", lambda hand, what: [hand.seal(what)], 1, 1),
    Case("mutable fields changed", mutable_fields, 1, 1),
    Case("immutable options, extension headers", immutable_options, 1, 1),
    Case("immutable options changed", lambda hand, what: [changed(packet, 45 if hand.v6 else 23) for packet in immutable_options(hand, what)], 0, 0),
    Case("mutable options changed", mutable_options, 1, 1),
    Case("identification changed", lambda hand, what: None if hand.v6 else [changed(hand.seal(what), 5)], 0, 0),
    Case("a routing header", lambda hand, what: [hand.seal(what, extensions=IPv6ExtHdrRouting(nh=50, type=253, segleft=0))] if hand.v6 else None, 0, 1, "Linux has no such rule"),
    Case("in fragments", fragments, 0, 1, "Linux puts them together"),
    Case("shortened", shortened, 0, 0),
    Case("cut by the link", lambda hand, what: [hand.seal(what)[:-4]], 0, 0),
    Case("AH's length changed", lambda hand, what: [changed(hand.seal(what), icv_at(hand) - 11, 3)], 0, 0),
    Case("AH's ICV wrong", lambda hand, what: [changed(hand.seal(what), icv_at(hand))], 0, 0),
    Case("AH's ICV padded to 8 bytes over IPv4", long_hmac, 1, 0, "Linux is told `align4`"),
    Case("ESP's ICV wrong", lambda hand, what: [hand.seal(what, change=changed_last)], 0, 0),
    Case("another high half", wrong_high, 0, 0),
    Case("sent twice", again, 1, 1),
    Case("late", behind, 2, 2),
    Case("ESP number used again", esp_again, 0, 0),
    Case("traffic flow padding", unpadded, 1, 1),
]
