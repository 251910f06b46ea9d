"""Line 3 of the real peers: Linux kernels as initiator and responder, by the commands that `ain host-config` prints.

    Linux ==ESP+AH== ain1 -- ain2 -- ain3 ==ESP+AH== Linux
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from lab import configs, inner, traffic
from lab.interop import Row, rows
from lab.linux import CHAT, Linux
from lab.processes import Fleet
from lab.shell import wait_for

ONE_MB = 1_000_000
PORT = 7002
LINUX = "Linux kernel"
SIZES = (0, 1, 7, 100, 500, 1000, 1300, 1338)
# An IPv6 kernel makes fragments of a datagram before ESP, an IPv4 kernel after AH; the latter are not taken (protocol section 2).
LONG_SIZES = {4: (), 6: (1339, 1400, 3000, 8000)}
# Inner and outer family, AH, ESP: every family with every algorithm, and every algorithm of one with every one of the other.
CASES = [
    (4, 4, "hmac-sha2-256-128", "aes-128-gcm-16"),
    (4, 4, "aes-cmac-96", "aes-256-gcm-16"),
    (6, 6, "hmac-sha2-256-128", "aes-256-gcm-16"),
    (6, 6, "aes-cmac-96", "aes-128-gcm-16"),
    (6, 4, "hmac-sha2-256-128", "aes-128-gcm-16"),
    (4, 6, "aes-cmac-96", "aes-256-gcm-16"),
]


@pytest.mark.limit(90)
@pytest.mark.parametrize(("inner_family", "outer_family", "ah", "esp"), CASES)
def test_line3_linux_kernels_talk_through_three_ains(inner_family: int, outer_family: int, ah: str, esp: str) -> None:
    network = configs.chain(3, inner_family=inner_family)
    network.family = outer_family
    network.tunnels = [replace(tunnel, ah=ah, esp=esp, more=(other_family(tunnel),)) for tunnel in network.tunnels]
    network.linux = tuple(tunnel.host for tunnel in network.tunnels)
    with Fleet(network) as fleet:
        talk(fleet)
    rows.append(Row("host tunnels, three AINs: ping, TCP, UDP; ping in the other family", LINUX, families(outer_family, inner_family), f"{ah}, {esp}", "both ways, nothing lost"))


@pytest.mark.limit(90)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("ah", ["hmac-sha2-256-128", "aes-cmac-96"])
def test_line3_a_linux_kernel_ends_a_pvt(family: int, ah: str) -> None:
    """And a few lines of Python answer the KEEPALIVEs inside it."""
    network = configs.Network([("ain1", "ain2")], [], ah=ah, family=family, linux=("ain2",))
    with Fleet(network) as fleet:

        def answered() -> float:
            return fleet.signals("ain1", "received", "keepalive_ack")

        before, dropped = answered(), fleet.drops("ain1")
        wait_for("three KEEPALIVEs more are answered", lambda: answered() >= before + 3, 20)
        assert fleet.drops("ain1") == dropped
        fleet.linux["ain2"].script('kill "$(cat alive)"')
        wait_for("the PVT is down", lambda: fleet.counters("ain1").total("ain_pvt_up") == 0, 20)
    rows.append(Row("PVT: KEEPALIVE", LINUX, families(family, family), f"{ah}, aes-128-gcm-16", "up; down without answers"))


def other_family(tunnel: configs.Tunnel) -> inner.Address:
    """What the host is called there."""
    other = inner.FAMILIES[10 - tunnel.inner.version]
    return other.responder if tunnel.responder else other.private


def families(outer: int, inside: int) -> str:
    """As the table has them."""
    return f"IPv{outer}, inner IPv{inside}"


def talk(fleet: Fleet) -> None:
    """Pings, TCP and UDP from initiator to responder."""
    initiator, responder = fleet.linux["initiator"], fleet.linux["responder"]
    [_, to] = fleet.network.tunnels
    address = to.inner
    wait_for("the first ping is answered", lambda: traffic.ping(initiator, address, 1).received == 1, 20, 0.5)
    with nothing_lost(fleet):
        assert traffic.ping(initiator, address, 20, 0.02).received == 20
        tcp(initiator, responder, address)
        udp(initiator, responder, address)
        assert all(traffic.ping(initiator, more, 5).received == 5 for more in to.more)
    assert ip_address((responder.folder / "source").read_text()) in inner.of(address).drawn


@contextmanager
def nothing_lost(fleet: Fleet) -> Iterator[None]:
    """Nothing is dropped meanwhile; if the test fails, what was dropped and what the peers count is printed."""

    def dropped() -> dict[str, float]:
        return {
            f"{node} {key}": value
            for node in fleet.network.nodes
            for key, value in fleet.counters(node).items()
            if key.startswith("ain_drops_total") and "for_the_kernel" not in key
        }

    before = dropped()
    try:
        yield
        assert dropped() == before
    except BaseException:
        print({key: value for key, value in dropped().items() if value != before.get(key)})
        for name, linux in fleet.linux.items():
            print(name, linux.script("grep -v '\t0$' /proc/net/xfrm_stat; nstat -as; ip -s link show eth0; ip neigh", check=False).stdout)
        raise


def tcp(initiator: Linux, responder: Linux, address: inner.Address) -> None:
    """A megabyte each way over one connection, equal at both ends."""
    sent = {name: hashlib.shake_256(name.encode()).digest(ONE_MB) for name in ("down", "up")}
    (responder.folder / "down").write_bytes(sent["down"])
    (initiator.folder / "up").write_bytes(sent["up"])
    served = chat(responder, "serve", address, "down", "up.received", "source")
    initiator.script(f"{CHAT} fetch {address} {PORT} down.received up", timeout_s=40)
    wait_for("the server has all", lambda: served.with_suffix(".status").exists(), 20)
    assert (initiator.folder / "down.received").read_bytes() == sent["down"]
    assert (responder.folder / "up.received").read_bytes() == sent["up"]


def udp(initiator: Linux, responder: Linux, address: inner.Address) -> None:
    """Datagrams of many sizes, echoed."""
    sizes = SIZES + LONG_SIZES[address.version]
    chat(responder, "echo", address)
    asked = initiator.script(f"{CHAT} ask {address} {PORT} {' '.join(map(str, sizes))}", timeout_s=60)
    assert asked.stdout.split() == [str(len(sizes))], asked.stdout


def chat(host: Linux, what: str, address: inner.Address, *files: str) -> Path:
    """Starts a server of `lab/chat.py` there; returns where its output is."""
    place = host.start(shlex.join([*CHAT.split(), what, str(address), str(PORT), *files]))
    out = place.with_suffix(".out")
    wait_for(f"{host.name} listens", lambda: out.exists() and "listening" in out.read_text(), 10)
    return place
