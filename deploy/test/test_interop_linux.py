"""Line 3 of the real peers: Linux kernels as initiator and responder, by the commands that `ain host-config` prints.

    Linux ==ESP+AH== ain1 -- ain2 -- ain3 ==ESP+AH== Linux
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from lab import chat as chat_module
from lab import configs, inner, linux, traffic
from lab.interop import Row, rows
from lab.linux import Linux
from lab.processes import Fleet, binary
from lab.shell import run, wait_for

ONE_MB = 1_000_000
PORT = 7002
SIZES = (0, 1, 7, 100, 500, 1000, 1300, 1338)
# An IPv6 kernel makes fragments of a datagram before ESP, an IPv4 kernel after AH; the latter are not taken (protocol section 2).
LONG_SIZES = {4: (), 6: (1339, 1400, 3000, 8000)}
CHAT = f"python3 {Path(chat_module.__file__)}"
# Inner and outer family, AH, ESP: every family with every algorithm, and every algorithm of one with every one of the other.
CASES = [
    (4, 4, "hmac-sha2-256-128", "aes-128-gcm-16"),
    (4, 4, "aes-cmac-96", "aes-256-gcm-16"),
    (6, 6, "hmac-sha2-256-128", "aes-256-gcm-16"),
    (6, 6, "aes-cmac-96", "aes-128-gcm-16"),
    (6, 4, "hmac-sha2-256-128", "aes-128-gcm-16"),
    (4, 6, "aes-cmac-96", "aes-256-gcm-16"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"inner{case[0]}-outer{case[1]}-{case[2]}-{case[3]}")
def network(request: pytest.FixtureRequest) -> Iterator[tuple[Fleet, dict[str, Linux]]]:
    inner_family, outer_family, ah, esp = request.param
    net = configs.chain(3, inner_family=inner_family)
    net.family = outer_family
    net.tunnels = [replace(tunnel, ah=ah, esp=esp) for tunnel in net.tunnels]
    net.by_hand = tuple(tunnel.host for tunnel in net.tunnels)
    with Fleet(net) as fleet:
        hosts = linux.boot(fleet.lab, list(net.by_hand))
        for tunnel in net.tunnels:
            hosts[tunnel.host].script(commands(fleet, tunnel.node, tunnel.host))
        yield fleet, hosts


def commands(fleet: Fleet, node: str, host: str) -> str:
    """What `ain host-config` prints."""
    words = ["host-config", "--config", str(fleet.lab.directory / f"{node}.toml"), "--host", host]
    return run([str(binary()), *words]).stdout


@pytest.mark.limit(90)
def test_line3_linux_kernels_talk_through_three_ains(network: tuple[Fleet, dict[str, Linux]]) -> None:
    fleet, hosts = network
    initiator, responder = hosts["initiator"], hosts["responder"]
    [_, to] = fleet.network.tunnels
    address = to.inner
    wait_for("the first ping is answered", lambda: traffic.ping(initiator, address, 1).received == 1, 20, 0.5)
    before = {node: fleet.drops(node) for node in fleet.network.nodes}
    assert traffic.ping(initiator, address, 20, 0.02).received == 20
    tcp(initiator, responder, address)
    udp(initiator, responder, address)
    assert ip_address((responder.folder / "source").read_text()) in inner.of(address).drawn
    assert {node: fleet.drops(node) for node in fleet.network.nodes} == before
    outer = f"IPv{fleet.network.family}, inner IPv{address.version}"
    rows.append(Row("ping, TCP, UDP through three AINs", "Linux kernel", outer, f"{to.ah}, {to.esp}", "both ways, nothing lost"))


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
    assert int(asked.stdout) == len(sizes)


def chat(host: Linux, what: str, address: inner.Address, *files: str) -> Path:
    """Starts a server of `lab/chat.py` there; returns where its output is."""
    place = host.start(shlex.join([*CHAT.split(), what, str(address), str(PORT), *files]))
    out = place.with_suffix(".out")
    wait_for(f"{host.name} listens", lambda: out.exists() and "listening" in out.read_text(), 10)
    return place
