"""Line 9: ordinary hosts of the Internet, without IPsec, are reached through three AINs, the last an open exit; of either family.

    initiator ═ ain1 ─ ain2 ─ ain3   responder: a router, beyond it a path of 1200 or 1280 bytes to
                              │      responder2: the server
                    the pool: what the Internet sees of users; found by ARP or neighbour discovery, which ain3 answers
                                     responder3: anybody else
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import pytest
from lab import configs, inner, traffic
from lab.inner import Address
from lab.processes import Fleet
from lab.shell import inside
from lab.topology import Host, outer_of

UDP_CLOSED, UDP_OPEN = 7009, 7010
TEN_MB = 10_000_000


@dataclass(frozen=True)
class Outside:
    """The Internet of one family: what it sees of users, where its server is, and what nobody reaches."""

    pool: IPv4Network | IPv6Network
    server: Address
    lab: str  # the prefix that stands for the Internet
    private: Address
    path_mtu: int
    prohibited: str  # what a socket meets that is told "administratively prohibited"
    longest: int  # of UDP; IPv4's fragments are put together before DPDK's af_packet driver sees them, in 2048 bytes
    told: tuple[str, ...]  # how addresses begin that no counter and no status may show

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.server.version

    @property
    def own(self) -> Address:
        """An address of the pool, as somebody's destination."""
        return self.pool[2]

    @property
    def prefixes(self) -> list[str]:
        """What the initiator routes into its tunnel."""
        return [self.lab, inner.host_net(self.private), inner.host_net(self.own)]


OUTSIDES = {
    4: Outside(
        ip_network("192.0.2.64/29"),
        ip_address("198.18.0.80"),
        "198.18.0.0/15",
        ip_address("10.9.9.9"),
        1200,
        "EHOSTUNREACH",
        1700,
        ("198.18.", "192.0.2.6", "10.66."),
    ),
    6: Outside(
        ip_network("2001:db8:a1::40/125"),
        ip_address("2001:db8:5e::80"),
        "2001:db8:5e::/48",
        ip_address("fd09::9"),
        1280,
        "EACCES",
        3000,
        ("2001:db8:5e", "2001:db8:a1::4", "fd66:"),
    ),
}


def open_exit(outside: Outside) -> str:
    """The section of an open exit."""
    family = f"ipv{outside.family}"
    return f"""
[open_exit]
enabled = true
{family} = ["{outside.pool}"]
{family}_gateway = "{outer_of("responder", outside.family)}"
allow = [{{}}]
refuse = [{{ protocol = "tcp", ports = [25] }}]
closed_lab = ["{outside.lab}"]
"""


def with_open_exit(network: configs.Network, outside: Outside) -> configs.Network:
    """The network without responders, whose ain3 reaches the Internet."""
    network.family = outside.family
    network.tunnels = [tunnel for tunnel in network.tunnels if not tunnel.responder]
    network.outsiders = ("responder", "responder2", "responder3")
    network.sections = {"ain3": open_exit(outside)}
    network.exit_prefixes = {"ain3": outside.prefixes}
    return network


def switch(host: Host, family: int, key: str, value: str) -> None:
    """Sets a switch of the kernel in `host`."""
    with inside(host.namespace):
        Path(f"/proc/sys/net/ipv{family}/{key}").write_text(value)


def join_internet(fleet: Fleet, outside: Outside) -> None:
    """Makes the outsiders what they are, and the initiator ask for them."""
    router, server = fleet.host("responder"), fleet.host("responder2")
    if outside.family == 4:
        switch(router, 4, "ip_forward", "1")
        for interface in ("all", "eth0"):
            switch(router, 4, f"conf/{interface}/send_redirects", "0")
    else:
        switch(router, 6, "conf/all/forwarding", "1")
        inner.enable_ipv6(server.namespace)
    address = inner.host_net(outside.server)
    server.run("ip", "address", "add", address, "dev", "lo")
    router.run("ip", "route", "add", address, "via", str(server.outer), "mtu", "lock", str(outside.path_mtu))
    for prefix in outside.prefixes:
        fleet.host("initiator").run("ip", "route", "add", prefix, "dev", configs.TUN)


@pytest.mark.limit(120)
def test_a_connection_outlives_an_ain_on_its_path() -> None:
    """Of the two AINs between entrance and open exit the one that carries the download is killed in its middle."""
    outside = OUTSIDES[inner.FAMILY]
    with Fleet(with_open_exit(configs.diamond(), outside)) as diamond:
        join_internet(diamond, outside)
        exchange = traffic.TcpExchange(
            diamond.host("initiator"), diamond.host("responder2"), outside.server, TEN_MB, timeout_s=60
        )
        done = exchange.run(
            lambda: diamond.kill(max(("ain2", "ain4"), key=diamond.cells)),
            at_bytes=TEN_MB // 3,
        )
        assert done.connections == 1
        assert done.down_received == done.down_sent and done.up_received == done.up_sent
        assert len(diamond.running) == 4, "ain2 or ain4 is gone"
        made = diamond.counters("ain3").total("ain_open_exit_mappings_made_total")
        assert made == 1, "the server saw one address and port throughout"


@pytest.fixture(scope="module", params=OUTSIDES.values(), ids=lambda outside: f"ipv{outside.family}")
def outside(request: pytest.FixtureRequest) -> Outside:
    """Of either family, inside and outside the tunnels."""
    return request.param


@pytest.fixture(scope="module")
def fleet(outside: Outside) -> Iterator[Fleet]:
    with Fleet(with_open_exit(configs.chain(3, inner_family=outside.family), outside)) as running:
        join_internet(running, outside)
        yield running


def test_a_web_server_and_tcp_both_ways_over_a_narrow_path(fleet: Fleet, outside: Outside) -> None:
    server, address = fleet.host("responder2"), outside.server
    marker = traffic.serve_page(fleet.lab, server, address)
    fetched = traffic.curl(fleet.lab, fleet.host("initiator"), address)
    assert fetched.returncode == 0, fetched.stderr
    assert traffic.page(fleet.lab).read_bytes().count(marker) == traffic.PAGE_MARKERS
    # The router's "fragmentation needed" comes back through the AIVT, else the upload would hang.
    done = traffic.TcpExchange(fleet.host("initiator"), server, address, 1_000_000).run()
    assert done.down_received == done.down_sent and done.up_received == done.up_sent
    assert ip_address(done.source) in outside.pool
    route = fleet.host("initiator").run("ip", "route", "get", str(address)).stdout
    assert f"mtu {outside.path_mtu}" in route, route


def test_udp_and_ping(fleet: Fleet, outside: Outside) -> None:
    initiator, server = fleet.host("initiator"), fleet.host("responder2")
    # No error of the entrance gets out to the server: it knows by itself what the path takes.
    server.run("ip", "route", "replace", str(outside.pool), "dev", "eth0", "mtu", str(outside.path_mtu))
    with traffic.udp_echo(server, outside.server) as sources:
        # The longest leaves its host in fragments, in either direction.
        assert traffic.udp_exchange(initiator, outside.server, [0, 1, 100, 1000, outside.longest]) == 5
    assert [ip_address(source) in outside.pool for source in sources] == [True]
    seen = traffic.ping(initiator, outside.server, count=5)
    assert seen.received == seen.sent


def failure(host: Host, kind: socket.SocketKind, address: Address, port: int) -> str:
    """Which error a socket of `host` meets that speaks to an address."""
    with traffic.open_socket(host, kind, address) as client:
        try:
            client.connect((str(address), port))
            client.send(b"?")
            client.recv(1)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return "none"


def test_a_closed_port_is_told(fleet: Fleet, outside: Outside) -> None:
    initiator = fleet.host("initiator")
    assert failure(initiator, socket.SOCK_DGRAM, outside.server, UDP_CLOSED) == "ECONNREFUSED"
    assert failure(initiator, socket.SOCK_STREAM, outside.server, UDP_CLOSED) == "ECONNREFUSED"


@pytest.mark.parametrize(("which", "port"), [("server", 25), ("private", 80), ("own", 80)])
def test_what_the_policy_refuses_is_told(fleet: Fleet, outside: Outside, which: str, port: int) -> None:
    # ICMP administratively prohibited: from the destination for a port, from the entrance for a whole destination.
    met = failure(fleet.host("initiator"), socket.SOCK_STREAM, getattr(outside, which), port)
    assert met == outside.prohibited


def test_nobody_else_gets_in_through_a_mapping(fleet: Fleet, outside: Outside) -> None:
    address = outside.server
    with (
        traffic.open_socket(fleet.host("responder2"), socket.SOCK_DGRAM, address) as server,
        traffic.open_socket(fleet.host("responder3"), socket.SOCK_DGRAM, address) as stranger,
        traffic.open_socket(fleet.host("initiator"), socket.SOCK_DGRAM, address) as client,
    ):
        server.bind((str(address), UDP_OPEN))
        client.sendto(b"question", (str(address), UDP_OPEN))
        _, shown = server.recvfrom(100)
        assert ip_address(shown[0]) in outside.pool
        before = fleet.drops("ain3", "open_exit_unsolicited")
        for _ in range(3):
            stranger.sendto(b"stranger", shown)
            server.sendto(b"answer", shown)
            answer, source = client.recvfrom(100)
            assert (answer, source[:2]) == (b"answer", (str(address), UDP_OPEN))
        assert fleet.drops("ain3", "open_exit_unsolicited") == before + 3


def test_totals_are_shown_and_nothing_else(fleet: Fleet, outside: Outside) -> None:
    traffic.ping(fleet.host("initiator"), outside.server, count=1)
    counters = fleet.counters("ain3")
    assert counters.total("ain_open_exit_mappings_made_total") > 0
    assert counters.total("ain_packets_total", role="internet", direction="out") > 0
    assert counters.total("ain_packets_total", role="internet", direction="in") > 0
    shown = fleet.ask("ain3", "status") or ""
    for told in outside.told:
        assert told not in shown and not any(told in series for series in counters)
