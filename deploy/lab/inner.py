"""The inside of the tunnels in either family: who is there, and how a namespace gets ready for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from .shell import inside

Address = IPv4Address | IPv6Address
FAMILY = int(os.environ.get("FAMILY", "4"))


@dataclass(frozen=True)
class Inner:
    """One family: the initiator's own address, the responder's, the exit's prefix and whence `random-private` draws."""

    private: Address
    responder: Address
    exit_prefix: IPv4Network | IPv6Network
    drawn: IPv4Network | IPv6Network
    shown: tuple[str, ...]  # what a responder routes back: drawn addresses, and those sent as they are


FAMILIES = {
    4: Inner(
        IPv4Address("10.66.0.5"),
        IPv4Address("198.51.100.80"),
        IPv4Network("198.51.100.0/24"),
        IPv4Network("10.0.0.0/8"),
        ("10.0.0.0/8", "203.0.113.0/24"),
    ),
    6: Inner(
        IPv6Address("fd66::5"),
        IPv6Address("2001:db8:33::80"),
        IPv6Network("2001:db8:33::/64"),
        IPv6Network("fd00::/8"),
        ("fd00::/8", "2001:db8:7::/64"),
    ),
}


def of(address: Address) -> Inner:
    """The family of an inner address."""
    return FAMILIES[address.version]


def host_net(address: Address) -> str:
    """The address with its whole length as prefix."""
    return f"{address}/{address.max_prefixlen}"


def enable_ipv6(namespace: str) -> None:
    """Lets devices that are made from now on, and the loopback, have IPv6; the others stay without."""
    with inside(namespace):
        for interface in ("default", "lo"):
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("0")
