"""Issue 4, line 1, the inside: IPv6 datagrams of hosts, whatever the AINs speak outside; beside hosts of IPv4."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from lab import capture, configs, inner, traffic
from lab.configs import Network, Tunnel
from lab.processes import Fleet

SIX = inner.FAMILIES[6]
PUBLIC = ip_address("2001:db8:7::5")


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(configs.chain(3, inner_family=6)) as fleet:
        yield fleet


def both_families() -> Network:
    """An initiator and a responder of each family, at the same two AINs."""
    tunnels = []
    for family in (4, 6):
        one, other = configs.ends("ain1", "ain3", inner_family=family)
        tunnels += [
            Tunnel(f"initiator{family}", one.node, one.inner, option=one.option),
            Tunnel(f"responder{family}", other.node, other.inner, responder=True),
        ]
    return Network(configs.chain(3).links, tunnels)


@pytest.mark.limit(90)
def test_line_1_tcp_both_ways(chain: Fleet) -> None:
    done = traffic.TcpExchange(chain.host("initiator"), chain.host("responder"), SIX.responder, 2_000_000).run()
    assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
    source = ip_address(done.source)
    assert source in SIX.drawn and source != SIX.private


def test_line_1_udp_and_icmp_of_every_size(chain: Fleet) -> None:
    """Longer ones than the tunnel come as fragments: the later ones without a transport header."""
    sizes = [0, 1, 100, 1337, 1338, 1339, 1452, 4000, 8000]
    with traffic.udp_echo(chain.host("responder"), SIX.responder) as sources:
        assert traffic.udp_exchange(chain.host("initiator"), SIX.responder, sizes) == len(sizes)
    assert len(sources) == 1 and ip_address(*sources) in SIX.drawn
    for size in (0, 56, 1300, 3000):
        seen = traffic.ping(chain.host("initiator"), SIX.responder, count=5, size=size)
        assert seen.received == seen.sent, f"pings of {size} bytes"


def test_line_1_a_page(chain: Fleet) -> None:
    marker = traffic.serve_page(chain.lab, chain.host("responder"), SIX.responder)
    done = traffic.curl(chain.lab, chain.host("initiator"), SIX.responder)
    assert done.returncode == 0, done.stderr
    assert traffic.page(chain.lab).read_bytes().count(marker) == traffic.PAGE_MARKERS


def test_line_1_hop_limit_ends_at_the_entrance(chain: Fleet) -> None:
    done = chain.host("initiator").run("ping", "-n", "-c", "1", "-t", "1", "-W", "5", str(SIX.responder), check=False)
    assert "Time exceeded" in done.stdout, done.stdout + done.stderr


def test_line_1_as_sent_keeps_the_source() -> None:
    """A public source too, which is registered to the initiator."""
    network = configs.chain(3, inner_family=6)
    network.tunnels[0] = Tunnel("initiator", "ain1", PUBLIC, option="as-sent")
    with Fleet(network) as fleet, traffic.udp_echo(fleet.host("responder"), SIX.responder) as sources:
        assert traffic.udp_exchange(fleet.host("initiator"), SIX.responder, [10, 1000]) == 2
        assert sources == {str(PUBLIC)}


@pytest.mark.limit(90)
def test_line_1_both_families_through_the_same_ains() -> None:
    with Fleet(both_families()) as fleet:
        lab = fleet.lab
        links = [capture.link(lab, lab["ain1"], lab["ain2"]), capture.link(lab, lab["ain2"], lab["ain3"])]
        for family, addresses in inner.FAMILIES.items():
            client, server = fleet.host(f"initiator{family}"), fleet.host(f"responder{family}")
            done = traffic.TcpExchange(client, server, addresses.responder, 200_000).run()
            assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
            assert ip_address(done.source) in addresses.drawn
        lengths = [capture.ip_sizes(link.stop()) for link in links]
        assert [len(one) for one in lengths] == [1, 1], "one size between two AINs"
