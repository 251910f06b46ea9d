"""Issue 4, line 5, what is too long, in both families: 9000 bytes, packet-too-big, clamped MSS, black holes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab import configs, inner, traffic
from lab.inner import Inner
from lab.processes import Fleet
from lab.shell import run, wait_for
from lab.topology import Host, Lab

NARROW = 1300
JUMBO, WIDE = 9150, 9000
# Headers of IP and of an ICMP echo.
PING_HEADERS = {4: 28, 6: 48}
# Those of IP and TCP.
TCP_HEADERS = {4: 40, 6: 60}
NO_ICMP = f"""
table inet hole {{
    chain input {{
        type filter hook input priority 0;
        iifname "{configs.TUN}" meta l4proto {{ icmp, ipv6-icmp }} drop
    }}
}}
"""


@pytest.fixture(scope="module", params=[4, 6], ids=["IPv4", "IPv6"])
def narrow(request: pytest.FixtureRequest) -> Iterator[tuple[Fleet, Inner]]:
    """The responder's tunnel is narrower than the initiator's, and than the responder believes."""
    network = configs.chain(3, inner_family=request.param)
    network.tunnels[1] = replace(network.tunnels[1], inner_mtu=NARROW, host_mtu=network.tunnels[0].inner_mtu)
    with Fleet(network) as fleet:
        yield fleet, inner.FAMILIES[request.param]


def known_mtu(host: Host, addresses: Inner) -> int | None:
    """What the host has learnt of the way to the responder."""
    route = json.loads(host.run("ip", "-j", "route", "get", str(addresses.responder)).stdout)[0]
    return next((one["mtu"] for one in route.get("metrics", []) if "mtu" in one), None)


def forget(fleet: Fleet) -> None:
    """Neither host remembers what it has learnt of the way."""
    for name in ("initiator", "responder"):
        for family in ("-4", "-6"):
            fleet.host(name).run("ip", family, "route", "flush", "cache")


def ping_of(total: int, addresses: Inner) -> int:
    """Bytes of a ping whose datagram has `total`."""
    return total - PING_HEADERS[addresses.responder.version]


def test_line_5_too_big_is_answered_in_the_responders_name(narrow: tuple[Fleet, Inner]) -> None:
    fleet, addresses = narrow
    initiator = fleet.host("initiator")
    size = str(ping_of(NARROW + 2, addresses))
    words = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", size, str(addresses.responder)]
    said = initiator.run(*words, check=False).stdout
    assert f"From {addresses.responder} icmp_seq=1" in said, said
    assert f"mtu = {NARROW}" in said or f"mtu={NARROW}" in said, said
    assert known_mtu(initiator, addresses) == NARROW
    fits = traffic.ping(initiator, addresses.responder, 3, size=ping_of(NARROW, addresses), whole=True)
    assert fits.received == fits.sent


def test_line_5_pings_of_nine_thousand_bytes(narrow: tuple[Fleet, Inner]) -> None:
    """In fragments of the host's making; where the exit may not cut them, the host learns to make smaller ones."""
    fleet, addresses = narrow
    initiator, size = fleet.host("initiator"), ping_of(WIDE, addresses)
    wait_for("one comes back", lambda: traffic.ping(initiator, addresses.responder, 1, size=size).received, 20)
    seen = traffic.ping(initiator, addresses.responder, count=5, size=size)
    assert seen.received == seen.sent


def test_line_5_tcp_fits_from_the_start(narrow: tuple[Fleet, Inner]) -> None:
    fleet, addresses = narrow
    forget(fleet)
    with traffic.open_socket(fleet.host("responder"), socket.SOCK_STREAM, addresses.responder) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(addresses.responder), traffic.TCP_PORT))
        listener.listen()
        with traffic.open_socket(fleet.host("initiator"), socket.SOCK_STREAM, addresses.responder) as client:
            client.connect((str(addresses.responder), traffic.TCP_PORT))
            limit = NARROW - TCP_HEADERS[addresses.responder.version]
            assert 1000 < client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= limit
            with listener.accept()[0] as served:
                assert 1000 < served.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= limit


@pytest.mark.limit(90)
def test_line_5_tcp_through_a_black_hole(narrow: tuple[Fleet, Inner]) -> None:
    """Neither host hears ICMP, and nothing hangs."""
    fleet, addresses = narrow
    forget(fleet)
    hosts = [fleet.host("initiator"), fleet.host("responder")]
    rules = fleet.lab.directory / "hole.nft"
    rules.write_text(NO_ICMP)
    for host in hosts:
        host.run("nft", "-f", str(rules))
    try:
        assert traffic.ping(hosts[0], addresses.responder, 1).received == 0, "the hole is there"
        done = traffic.TcpExchange(hosts[0], hosts[1], addresses.responder, 1_000_000).run()
        assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
    finally:
        for host in hosts:
            host.run("nft", "delete", "table", "inet", "hole")


def widen(lab: Lab) -> None:
    """Every leg at the bridge carries jumbo frames."""
    for name, host in lab.hosts.items():
        run(["ip", "-n", host.namespace, "link", "set", "eth0", "mtu", str(JUMBO)])
        run(["ip", "-n", lab.inet, "link", "set", name, "mtu", str(JUMBO)])


@pytest.mark.limit(90)
@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_line_5_datagrams_of_nine_thousand_bytes_span_cells(family: int) -> None:
    """Whole ones, between hosts whose links carry them, through AINs whose cells are of the standard length."""
    network = configs.chain(3, inner_family=family)
    network.tunnels = [replace(tunnel, inner_mtu=WIDE) for tunnel in network.tunnels]
    network.mtu = JUMBO
    network.memory_mib, network.huge = 192, False  # three nodes at once would fight over the machine's hugepages
    network.device = "net_af_packet0,iface=eth0,blocksz=36864,framesz=9216,framecnt=256,qdisc_bypass=1"
    addresses = inner.FAMILIES[family]
    fleet = Fleet(network)
    widen(fleet.lab)
    with fleet:
        size = ping_of(WIDE, addresses)
        seen = traffic.ping(fleet.host("initiator"), addresses.responder, 5, size=size, whole=True)
        assert seen.received == seen.sent
        with traffic.udp_echo(fleet.host("responder"), addresses.responder):
            assert traffic.udp_exchange(fleet.host("initiator"), addresses.responder, [100, 8900, 3000, 8000]) == 4
