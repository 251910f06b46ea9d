"""A Linux kernel as a judge of ESP+AH packets: it has the receiving end of tunnels, and what it lets through reaches a socket.

    packet on the wire --> Linux: AH, ESP, policy --> UDP --> chat.py collect --> a file that both share: 4 bytes a datagram
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from . import linux, wire
from .inner import Address, host_net
from .shell import wait_for
from .topology import OUTER, InLab, create, outer_of

PLACE = "ain1"
PORT = 5000
OWN: tuple[Address, Address] = (ip_address("10.77.0.1"), ip_address("fd77::1"))
WINDOW = 4096  # the widest that `ip xfrm` takes
AH_NAMES = {"hmac-sha2-256-128": "'hmac(sha256)'", "aes-cmac-96": "'cmac(aes)'"}
AH_BITS = {"hmac-sha2-256-128": 128, "aes-cmac-96": 96}


@dataclass(frozen=True)
class Inbound:
    """The associations of one tunnel towards the judge, as `ain host-config` would have them."""

    source: Address
    destination: Address
    ah: str
    esn: bool
    start: int  # highest sequence number that counts as seen
    ah_spi: int
    esp_spi: int
    ah_key: str  # in hexadecimal digits, a salt last
    esp_key: str

    def commands(self, number: int) -> list[str]:
        """States and policies, for tunnel `number`, whose datagrams come from 10.88.0.number or fd88::number."""
        ends = f"src {self.source} dst {self.destination}"
        esn = " flag esn" if self.esn else ""
        numbers = f" replay-seq {self.start & 0xFFFF_FFFF} replay-seq-hi {self.start >> 32}" if self.start else ""
        common = f"reqid {number + 1} replay-window {WINDOW}{numbers} flag af-unspec{esn}"
        align = " flag align4" if self.source.version == 4 else ""
        lines = [
            f"ip xfrm state add {ends} proto esp spi {self.esp_spi:#x} mode tunnel {common} aead 'rfc4106(gcm(aes))' 0x{self.esp_key} 128",
            f"ip xfrm state add {ends} proto ah spi {self.ah_spi:#x} mode transport {common}{align}"
            f" auth-trunc {AH_NAMES[self.ah]} 0x{self.ah_key} {AH_BITS[self.ah]}",
        ]
        bundle = f"tmpl {ends} proto esp reqid {number + 1} mode tunnel tmpl {ends} proto ah reqid {number + 1} mode transport"
        for own in OWN:
            other = sender(own.version, number)
            lines.append(f"ip xfrm policy add src {host_net(other)} dst {host_net(own)} dir in {bundle}")
        return lines


def sender(version: int, number: int) -> Address:
    """Where the datagrams of a tunnel come from."""
    return ip_address(f"10.88.0.{number}" if version == 4 else f"fd88::{number:x}")


def inbound(described: dict[str, Any]) -> Inbound:
    """A tunnel as `ain-bench differential` describes it."""
    ends = {name: ip_address(described[name]) for name in ("source", "destination")}
    return Inbound(**{**described, **ends})


class Judge(InLab):
    """A laboratory with one Linux, in the place of ain1 and with its address in either family."""

    def __init__(self, tunnels: Sequence[Inbound]) -> None:
        self.tunnels = tunnels
        self.lab = create([PLACE], family=4)

    def up(self) -> None:
        """Boots it and gives it the tunnels."""
        self.linux = linux.boot(self.lab, [PLACE])[PLACE]
        lines = [
            "set -e",
            f"ip address add {outer_of(PLACE, 6)}/{OUTER[6].prefixlen} dev eth0 nodad",
            *(f"ip address add {host_net(own)} dev lo" for own in OWN),
            *(line for number, tunnel in enumerate(self.tunnels) for line in tunnel.commands(number)),
        ]
        self.linux.script("\n".join(lines), 60)
        place = self.linux.start(f"{linux.CHAT} collect {PORT} collected").with_suffix(".out")
        wait_for("the judge listens", lambda: place.exists() and "listening" in place.read_text(), 20)

    def passed(self) -> Counter[int]:
        """How often a datagram with which number came through so far."""
        data = (self.linux.folder / "collected").read_bytes()
        return Counter(number for (number,) in struct.iter_unpack("!I", data[: len(data) // 4 * 4]))

    def judge(self, frames: Sequence[bytes], mark: int) -> None:
        """Sends Ethernet frames, the last of which brings the datagram `mark`, and waits for it."""
        before = self.passed()[mark]
        wire.inject_frames(self.lab, self.lab[PLACE], frames)
        wait_for(f"datagram {mark} comes through", lambda: self.passed()[mark] > before, 20, 0.01)
