"""What happens when nodes die, and when somebody plays old packets to those that come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from lab import capture, configs, traffic, wire
from lab.capture import PROTO_AH, PROTO_ICMPV6
from lab.configs import RESPONDER
from lab.oracle import udp
from lab.processes import Fleet
from lab.shell import run, wait_for

TEN_MB = 10_000_000
KEEPALIVE_S = 1.0
# A creating signal may be dated 20 s back, and a node that was killed refuses those dated before its end.
REJOIN_S = 45
PROTO_ICMP = 1


@pytest.fixture
def diamond() -> Iterator[Fleet]:
    with Fleet(configs.diamond()) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(configs.chain(3)) as fleet:
        yield fleet


@pytest.mark.limit(120)
def test_tcp_outlives_an_ain_on_its_path(diamond: Fleet) -> None:
    """Of the two AINs between entrance and exit the one that carries the download is killed in its middle."""
    lab = diamond.lab
    spares: list[tuple[str, float]] = []

    def kill_the_busy_one() -> None:
        busy = max(("ain2", "ain4"), key=diamond.cells)
        spare = "ain4" if busy == "ain2" else "ain2"
        spares.append((spare, diamond.cells(spare)))
        diamond.kill(busy)

    running = capture.interface(lab, lab["responder"], configs.TUN, snap_bytes=64)
    exchange = traffic.TcpExchange(lab["initiator"], lab["responder"], RESPONDER, TEN_MB, timeout_s=60)
    done = exchange.run(kill_the_busy_one, at_bytes=TEN_MB // 3)
    [(spare, cells_before)] = spares
    assert done.connections == 1
    assert done.down_received == done.down_sent
    assert done.up_received == done.up_sent
    sources = {
        capture.source_of(packet)
        for frame in capture.frames(running.stop())
        if (packet := frame.ip) and capture.destination_of(packet) == RESPONDER.packed
    }
    assert sources == {ip_address(done.source).packed}, "the responder saw one source throughout"
    assert diamond.cells(spare) > cells_before + TEN_MB / 1408, f"{spare} took over"


@pytest.mark.limit(90)
def test_a_restarted_ain_resumes_and_refuses_old_packets(chain: Fleet) -> None:
    lab = chain.lab
    running = capture.link(lab, lab["ain1"], lab["ain2"])
    assert traffic.ping(lab["initiator"], RESPONDER, 20, 0.02).received == 20
    time.sleep(2 * KEEPALIVE_S)  # signals among the old packets too
    sent_before = capture.from_source(running.stop(), lab["ain1"].outer)
    old = [packet for packet in sent_before if capture.protocol_of(packet) == PROTO_AH]
    time.sleep(2 * KEEPALIVE_S)  # the highest number accepted is on disk each second
    chain.kill("ain2")
    chain.start("ain2", wait=False)
    wait_for("ain2 answers", lambda: chain.ask("ain2", "status"), 20, 0.02)
    began = time.monotonic()
    chain.wait_ready("ain2")
    assert time.monotonic() - began < KEEPALIVE_S + 0.5, "the PVTs resume within one round of KEEPALIVE"

    moved, dropped = chain.cells("ain2"), chain.drops("ain2")
    received = chain.signals("ain2", "received")
    sent = wire.inject(lab, lab["ain2"], old)
    assert sent > 10
    wait_for("ain2 has refused all", lambda: chain.drops("ain2") - dropped >= sent, 5)
    assert chain.cells("ain2") == moved
    reasons = {
        reason: chain.drops("ain2", reason) for reason in ("ah_replay", "ah_replay_old", "unknown_spi", "ah_icv")
    }
    assert reasons["ah_replay"] + reasons["ah_replay_old"] > 0, reasons
    assert reasons["ah_icv"] == 0, reasons
    assert chain.signals("ain2", "received") - received <= 8, "keepalives only"
    wait_for("traffic flows again", lambda: traffic.ping(lab["initiator"], RESPONDER, 1).received == 1, REJOIN_S)


@pytest.mark.limit(60)
def test_a_crash_leaves_nothing_that_stops_the_next_start(chain: Fleet) -> None:
    for name in ("ain3", "responder", "ain3"):
        chain.kill(name)
        chain.start(name)
    wait_for("traffic flows again", lambda: traffic.ping(chain.host("initiator"), RESPONDER, 1).received == 1, REJOIN_S)


def test_a_host_waits_until_it_knows_its_next_hop(chain: Fleet) -> None:
    """Its datagrams do so too, in its TUN device."""
    initiator = chain.host("initiator")
    assert chain.stop("initiator") == 0
    plug("initiator", "down", chain)
    initiator.run("ip", "neighbour", "flush", "dev", "eth0")
    chain.start("initiator")
    with ThreadPoolExecutor() as pool:
        pings = pool.submit(traffic.ping, initiator, RESPONDER, 5)
        time.sleep(1)
        plug("initiator", "up", chain)
        assert pings.result().received == 5


def plug(host: str, state: str, chain: Fleet) -> None:
    """Pulls the cable of a host at the bridge, or plugs it in again."""
    run(["ip", "-n", chain.lab.inet, "link", "set", host, state])


def test_the_kernel_answers_no_tunnel_packet(chain: Fleet) -> None:
    """The kernel shares the interface; without a rule it would answer protocol-unreachable and spoil the silence."""
    lab = chain.lab
    stranger = lab["initiator"]  # its address: an answer would have a way to go
    running = capture.link(lab, lab["ain2"], stranger)
    for protocol in (50, 51):
        packet = wire.packet(stranger.outer, lab["ain2"].outer, protocol, bytes(range(100)))
        wire.inject(lab, lab["ain2"], [packet] * 5)
    # A datagram to a closed port is answered: the capture would have seen an ICMP error.
    wire.inject(lab, lab["ain2"], [udp(stranger.outer, lab["ain2"].outer, bytes(4), (9, 9))])
    wait_for("ain2's kernel answers the datagram", lambda: icmp_errors(running) != [], 5, 0.2)
    running.stop()
    assert icmp_errors(running) == [17], "one answer, to UDP; none to ESP (50) or AH (51)"


def icmp_errors(running: capture.Capture) -> list[int]:
    """Protocols of the packets that ICMP errors (destination or next header unreachable) in a capture complain about."""
    packets = [packet for frame in capture.frames(running.path) if (packet := frame.ip)]
    over_ipv4 = [packet[28:] for packet in packets if packet[:1] == b"\x45" and packet[9] == PROTO_ICMP and packet[20] == 3]
    over_ipv6 = [packet[48:] for packet in packets if packet[0] >> 4 == 6 and packet[6] == PROTO_ICMPV6 and packet[40] in (1, 4)]
    return [capture.protocol_of(quoted) for quoted in over_ipv4 + over_ipv6]
