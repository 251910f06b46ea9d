"""Line 9: ordinary hosts of the Internet, without IPsec, are reached through three AINs, the last an open exit.

    initiator ═ ain1 ─ ain2 ─ ain3   responder: a router (192.0.2.201), beyond it a path of 1200 bytes to
                              │      responder2: the server, 198.18.0.80
                 192.0.2.64/29: what the Internet sees of users; found by ARP, which ain3 answers
                                     responder3: anybody else
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

from ipaddress import ip_address

import pytest
from lab import configs, traffic
from lab.processes import Fleet
from lab.shell import inside
from lab.topology import Host

POOL = ipaddress.ip_network("192.0.2.64/29")
SERVER = ipaddress.IPv4Address("198.18.0.80")
OUTSIDE = ["198.18.0.0/15", "10.9.0.0/16", "192.0.2.66/32"]
PATH_MTU = 1200
UDP_CLOSED, UDP_OPEN = 7009, 7010

OPEN_EXIT = f"""
[open_exit]
enabled = true
ipv4 = ["{POOL}"]
ipv4_gateway = "192.0.2.201"
allow = [{{}}]
refuse = [{{ protocol = "tcp", ports = [25] }}]
closed_lab = ["198.18.0.0/15"]
"""


def network() -> configs.Network:
    """A chain whose exit serves no responder."""
    chain = configs.chain(3)
    chain.tunnels = [tunnel for tunnel in chain.tunnels if not tunnel.responder]
    chain.outsiders = ("responder", "responder2", "responder3")
    chain.sections = {"ain3": OPEN_EXIT}
    chain.exit_prefixes = {"ain3": OUTSIDE}
    return chain


def switch(host: Host, key: str, value: str) -> None:
    """Sets a switch of the kernel in `host`."""
    with inside(host.namespace):
        Path(f"/proc/sys/net/ipv4/{key}").write_text(value)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(network()) as running:
        router, server = running.host("responder"), running.host("responder2")
        switch(router, "ip_forward", "1")
        for interface in ("all", "eth0"):
            switch(router, f"conf/{interface}/send_redirects", "0")
        server.run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
        router.run("ip", "route", "add", f"{SERVER}/32", "via", str(server.outer), "mtu", "lock", str(PATH_MTU))
        for prefix in OUTSIDE:
            running.host("initiator").run("ip", "route", "add", prefix, "dev", configs.TUN)
        yield running


def in_pool(address: str) -> bool:
    """Whether the Internet saw an address of the open exit."""
    return ipaddress.ip_address(address) in POOL


def test_a_web_server_and_tcp_both_ways_over_a_narrow_path(fleet: Fleet) -> None:
    server = fleet.host("responder2")
    marker = traffic.serve_page(fleet.lab, server, SERVER)
    fetched = traffic.curl(fleet.lab, fleet.host("initiator"), SERVER)
    assert fetched.returncode == 0, fetched.stderr
    assert traffic.page(fleet.lab).read_bytes().count(marker) == traffic.PAGE_MARKERS
    # The router's "fragmentation needed" comes back through the AIVT, else the upload would hang.
    done = traffic.TcpExchange(fleet.host("initiator"), server, SERVER, 1_000_000).run()
    assert done.down_received == done.down_sent and done.up_received == done.up_sent
    assert in_pool(done.source)
    route = fleet.host("initiator").run("ip", "route", "get", str(SERVER)).stdout
    assert f"mtu {PATH_MTU}" in route, route


def test_udp_and_ping(fleet: Fleet) -> None:
    initiator = fleet.host("initiator")
    with traffic.udp_echo(fleet.host("responder2"), SERVER) as sources:
        assert traffic.udp_exchange(initiator, SERVER, [0, 1, 100, 1000]) == 4
    assert len(sources) == 1 and all(map(in_pool, sources))
    seen = traffic.ping(initiator, SERVER, count=5)
    assert seen.received == seen.sent


def failure(host: Host, kind: socket.SocketKind, address: str, port: int) -> str:
    """Which error a socket of `host` meets that speaks to an address."""
    with traffic.open_socket(host, kind, ip_address(address)) as client:
        try:
            client.connect((address, port))
            client.send(b"?")
            client.recv(1)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
    return "none"


def test_a_closed_port_is_told(fleet: Fleet) -> None:
    initiator = fleet.host("initiator")
    assert failure(initiator, socket.SOCK_DGRAM, str(SERVER), UDP_CLOSED) == "ECONNREFUSED"
    assert failure(initiator, socket.SOCK_STREAM, str(SERVER), UDP_CLOSED) == "ECONNREFUSED"


@pytest.mark.parametrize(
    ("address", "port"),
    [(str(SERVER), 25), ("10.9.9.9", 80), ("192.0.2.66", 80)],
    ids=["mail", "private", "own"],
)
def test_what_the_policy_refuses_is_told(fleet: Fleet, address: str, port: int) -> None:
    # ICMP administratively prohibited: from the destination for a port, from the entrance for a whole destination.
    assert failure(fleet.host("initiator"), socket.SOCK_STREAM, address, port) == "EHOSTUNREACH"


def test_nobody_else_gets_in_through_a_mapping(fleet: Fleet) -> None:
    with (
        traffic.open_socket(fleet.host("responder2"), socket.SOCK_DGRAM, SERVER) as server,
        traffic.open_socket(fleet.host("responder3"), socket.SOCK_DGRAM, SERVER) as stranger,
        traffic.open_socket(fleet.host("initiator"), socket.SOCK_DGRAM, SERVER) as client,
    ):
        server.bind((str(SERVER), UDP_OPEN))
        client.sendto(b"question", (str(SERVER), UDP_OPEN))
        _, shown = server.recvfrom(100)
        assert in_pool(shown[0])
        before = fleet.drops("ain3", "open_exit_unsolicited")
        for _ in range(3):
            stranger.sendto(b"stranger", shown)
            server.sendto(b"answer", shown)
            assert client.recvfrom(100) == (b"answer", (str(SERVER), UDP_OPEN))
        assert fleet.drops("ain3", "open_exit_unsolicited") == before + 3


def test_totals_are_shown_and_nothing_else(fleet: Fleet) -> None:
    traffic.ping(fleet.host("initiator"), SERVER, count=1)
    counters = fleet.counters("ain3")
    assert counters.total("ain_open_exit_mappings_made_total") > 0
    assert counters.total("ain_packets_total", role="internet", direction="out") > 0
    assert counters.total("ain_packets_total", role="internet", direction="in") > 0
    shown = fleet.ask("ain3", "status") or ""
    for told in ("198.18.", "192.0.2.6", str(configs.PRIVATE)):
        assert told not in shown and not any(told in series for series in counters)
