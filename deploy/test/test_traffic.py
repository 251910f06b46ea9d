"""What users do, through three AINs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from lab import capture, configs, inner, traffic
from lab.configs import PRIVATE, RESPONDER
from lab.processes import Fleet
from lab.shell import wait_for

TEN_MB = 10_000_000


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(configs.chain(3)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def twins() -> Iterator[Fleet]:
    """Two initiators with the same private address behind one entrance."""
    network = configs.chain(3)
    one = network.tunnels[0]
    network.tunnels[0:1] = [replace(one, host="initiator1"), replace(one, host="initiator2")]
    with Fleet(network) as fleet:
        yield fleet


def sources_at_responder(fleet: Fleet, running: capture.Capture) -> set[str]:
    """Who sent the packets that came out of the responder's tunnel."""
    packets = [packet for frame in capture.frames(running.stop()) if (packet := frame.ip)]
    arrived = [packet for packet in packets if capture.destination_of(packet) == RESPONDER.packed]
    return {str(ip_address(capture.source_of(packet))) for packet in arrived}


@pytest.mark.limit(90)
def test_ten_megabytes_over_tcp_both_ways(chain: Fleet) -> None:
    done = traffic.TcpExchange(chain.host("initiator"), chain.host("responder"), RESPONDER, TEN_MB).run()
    assert done.down_received == done.down_sent
    assert done.up_received == done.up_sent
    assert done.source != str(PRIVATE) and ip_address(done.source) in inner.of(PRIVATE).drawn


def test_udp_of_every_size(chain: Fleet) -> None:
    sizes = [0, 1, 2, 100, 1357, 1358, 1359, 1472, 4000, 8000]
    with traffic.udp_echo(chain.host("responder"), RESPONDER) as sources:
        assert traffic.udp_exchange(chain.host("initiator"), RESPONDER, sizes) == len(sizes)
    assert len(sources) == 1 and str(PRIVATE) not in sources


def test_icmp(chain: Fleet) -> None:
    for size in (0, 56, 1300, 3000):
        seen = traffic.ping(chain.host("initiator"), RESPONDER, count=5, size=size)
        assert seen.received == seen.sent, f"pings of {size} bytes"


@pytest.mark.limit(90)
def test_two_initiators_with_one_private_address(twins: Fleet) -> None:
    lab, responder = twins.lab, twins.host("responder")
    running = capture.interface(lab, responder, configs.TUN)
    with traffic.udp_echo(responder, RESPONDER) as sources:
        counts = {}

        def exchange(name: str) -> None:
            counts[name] = traffic.udp_exchange(twins.host(name), RESPONDER, [100 + n for n in range(40)])

        threads = [threading.Thread(target=exchange, args=(name,)) for name in ("initiator1", "initiator2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == {"initiator1": 40, "initiator2": 40}
    assert len(sources) == 2, "each flow has a source of its own"
    for name in ("initiator1", "initiator2"):
        done = traffic.TcpExchange(twins.host(name), responder, RESPONDER, 1_000_000).run()
        assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
    assert sources_at_responder(twins, running) == sources


@pytest.mark.limit(60)
def test_inactivity_ends_an_aivt_and_the_next_packet_makes_a_new_one() -> None:
    with Fleet(configs.chain(3, inactivity_s=2)) as fleet:
        initiator = fleet.host("initiator")
        assert traffic.ping(initiator, RESPONDER, 1).received == 1
        assert [fleet.aivts(node) for node in fleet.network.nodes] == [1, 1, 1]
        created = fleet.signals("ain1", "sent", "create")
        wait_for(
            "the AIVT ends everywhere", lambda: all(fleet.aivts(node) == 0 for node in fleet.network.nodes), 15, 0.2
        )
        assert fleet.signals("ain1", "sent", "create") == created, "nothing asked for a new one"
        assert traffic.ping(initiator, RESPONDER, 1).received == 1
        assert fleet.signals("ain1", "sent", "create") > created


def test_as_sent_keeps_the_source() -> None:
    """The option of protocol section 7 for hosts that want it."""
    with Fleet(configs.chain(3, option="as-sent")) as fleet, traffic.udp_echo(
        fleet.host("responder"), RESPONDER
    ) as sources:
        assert traffic.udp_exchange(fleet.host("initiator"), RESPONDER, [10, 1000]) == 2
        assert sources == {str(PRIVATE)}


@pytest.mark.limit(90)
def test_two_workers_share_a_port_of_one_queue() -> None:
    """What one worker receives and another owns crosses over, and what the other sends leaves through the first."""
    network = configs.chain(3)
    network.workers = 2
    with Fleet(network) as fleet:
        done = traffic.TcpExchange(fleet.host("initiator"), fleet.host("responder"), RESPONDER, 1_000_000).run()
        assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
        port = json.loads(fleet.ask("ain2", "status") or "{}")["ports"][0]
        if len(os.sched_getaffinity(0)) > 1:
            assert port["spread"]["mode"] == "software hand-off", port["spread"]
            assert "1 pair of queues for 2 workers" in port["spread"]["reason"]
            assert sum(fleet.counters(node).total("ain_handovers_total") for node in network.nodes) > 100


@pytest.mark.limit(90)
def test_nodes_on_another_device() -> None:
    """libpcap instead of packet sockets below the ports: the nodes do not notice."""
    network = configs.chain(3)
    network.device = "net_pcap0,rx_iface_in=eth0,tx_iface=eth0"
    with Fleet(network) as fleet:
        done = traffic.TcpExchange(fleet.host("initiator"), fleet.host("responder"), RESPONDER, 200_000).run()
        assert (done.down_received, done.up_received) == (done.down_sent, done.up_sent)
        port = json.loads(fleet.ask("ain2", "status") or "{}")["ports"][0]
        assert port["spread"]["mode"] == "one queue"


def test_backends_of_cryptography_meet_on_the_wire() -> None:
    """Portable at the entrance, the machine's best at the others: the same bytes, and status says which is which."""
    network = configs.chain(3)
    network.crypto["ain1"] = "portable"
    flags = set(Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split())
    best = "ipsec-mb/" if {"aes", "pclmulqdq", "avx2", "bmi2"} <= flags else "portable"
    with Fleet(network) as fleet:
        seen = traffic.ping(fleet.host("initiator"), RESPONDER, count=5, size=1300)
        assert seen.received == seen.sent
        shown = [json.loads(fleet.ask(node, "status"))["crypto"]["mac"] for node in network.nodes]
    assert shown[0] == "portable"
    assert all(mac.startswith(best) for mac in shown[1:]), shown
