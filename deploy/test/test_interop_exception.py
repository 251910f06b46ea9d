"""Line 5 of the real peers: the exception path. What is the kernel's of a node reaches it and comes back, over interfaces that it shares
with the node and over taps, and the packet path does not feel it.

    initiator ==ESP+AH== ain1 -- ain2 -- ain3 ==ESP+AH== responder        outsider: a kernel that knows no IPsec, on the same link
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from lab import configs, topology, traffic, wire
from lab.capture import PROTO_AH, PROTO_ICMPV6, protocol_of
from lab.interop import Row, rows
from lab.processes import Fleet
from lab.shell import inside, wait_for
from lab.topology import Host

ONE_MB = 1_000_000
NODE, OUTSIDER = "ain2", "responder2"
IKE_PORTS = (500, 4500)
SIZES = [0, 1, 100, 1000, 1400]
ETH_P_ALL, PROTO_ESP, PROTO_ICMP = 3, 50, 1
# Of one worker and port, a second and at once (dataplane/src/limits.rs): neighbours, IKE, the rest.
RATES, BURSTS = 1000 + 2000 + 10_000, 128 + 128 + 256
FLOOD_S, FLOOD_BURST, FLOOD_PAUSE_S = 4, 500, 0.02
AF_PACKET = configs.Network([], []).device
AF_XDP = "net_af_xdp0,iface=eth0"


@dataclass(frozen=True)
class Kind:
    """How a node's kernel has its part in a port."""

    driver: str
    taps: bool

    def __str__(self) -> str:
        """As the table has it."""
        return f"{self.driver.split('0,')[0]}, {'tap' if self.taps else 'shared'}"

    @property
    def joins_fragments(self) -> bool:
        """Whether the driver has its kernel put fragments of IPv4 together, and loses what is longer than its frames."""
        return self.driver == AF_PACKET


SHARED, TAP, XDP = Kind(AF_PACKET, False), Kind(AF_PACKET, True), Kind(AF_XDP, True)


def network(kind: Kind, family: int) -> configs.Network:
    """Three AINs, and somebody who is not of the network."""
    return replace(
        configs.chain(3),
        family=family,
        device=kind.driver,
        taps=kind.taps,
        outsiders=(OUTSIDER,),
    )


@pytest.fixture(
    scope="module",
    params=[(kind, family) for kind in (SHARED, TAP, XDP) for family in (4, 6)],
    ids=lambda param: f"{param[0]}, ipv{param[1]}",
)
def at(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Fleet]]:
    """Each kind of port with each family."""
    kind, family = request.param
    with Fleet(network(kind, family)) as fleet:
        yield kind, fleet


@pytest.mark.limit(120)
def test_line5_the_kernel_is_reached_and_answers(at: tuple[Kind, Fleet]) -> None:
    kind, fleet = at
    node, outsider = fleet.host(NODE), fleet.host(OUTSIDER)
    through(fleet)
    before, seen = fleet.drops(NODE), exceptions(fleet)
    with Heard(node, fleet.network.interface) as heard:
        reach(outsider, node)
        reach(node, outsider)
        through(fleet)
    assert mac_at(outsider, node) == node.mac and mac_at(node, outsider) == outsider.mac
    if kind.taps:
        assert heard.protocols and not heard.protocols & {PROTO_AH, PROTO_ESP}
        assert all(now > then for now, then in zip(exceptions(fleet), seen, strict=True))
        assert fleet.drops(NODE, "for_the_kernel") == 0
        workers, all_cores = cores(fleet, "ain-worker"), os.sched_getaffinity(0)
        assert cores(fleet, "ain-taps") == (all_cores - workers or all_cores)
    else:
        assert exceptions(fleet) == [0, 0]
    # TCP learns by loss how fast it may be.
    assert fleet.drops(NODE) - fleet.drops(NODE, "exception_rate") == before
    note(kind, fleet, "exception path: neighbours, ping, TCP, UDP 500 and 4500", "both ways, none twice")


@pytest.mark.limit(120)
def test_line5_frames_of_all_sizes_and_none_that_is_for_nobody(at: tuple[Kind, Fleet]) -> None:
    kind, fleet = at
    node, outsider = fleet.host(NODE), fleet.host(OUTSIDER)
    headers = 28 if node.outer.version == 4 else 48
    assert traffic.ping(outsider, node.outer, 5, size=topology.MTU - headers, whole=True).received == 5
    fragments = node.outer.version == 6 or not kind.joins_fragments
    if fragments:
        assert traffic.ping(outsider, node.outer, 5, size=4000).received == 5
    before = {reason: fleet.drops(NODE, reason) for reason in ("for_nobody", "malformed", "for_the_kernel")}
    echo = wire.packet(outsider.outer, node.outer, PROTO_ICMP, bytes(64))
    vlan, lldp, ieee = b"\x81\0\0\x05\x08\0" + echo, b"\x88\xcc" + bytes(46), b"\0\x26" + b"\x42" * 46
    esp = ethertype(node) + wire.packet(outsider.outer, node.outer, PROTO_ESP, bytes(64))
    cut = ethertype(node) + wire.packet(outsider.outer, node.outer, PROTO_AH, bytes(64))[:30]
    sent = raw(fleet, [vlan, lldp, ieee, esp, cut] * 10)
    nobody = "for_nobody" if kind.taps else "for_the_kernel"
    wait_for(f"{sent} are counted", lambda: fleet.drops(NODE, nobody) + fleet.drops(NODE, "malformed") >= before[nobody] + before["malformed"] + sent)
    assert fleet.drops(NODE, "malformed") == before["malformed"] + 10
    through(fleet)
    reach(outsider, node)
    case = f"frames of all sizes{', fragments' if fragments else ''}; VLAN, LLDP, 802.3, ESP alone, cut AH"
    note(kind, fleet, case, "answered; dropped and counted")


@pytest.mark.limit(120)
@pytest.mark.parametrize("family", [4, 6])
def test_line5_a_flood_does_not_slow_the_workers(family: int) -> None:
    """Of pings and neighbour discovery, tens of thousands a second, at the AIN in the middle."""
    with Fleet(network(TAP, family)) as fleet:
        node, outsider = fleet.host(NODE), fleet.host(OUTSIDER)
        through(fleet)
        before, passed = fleet.drops(NODE), exceptions(fleet)[0]
        begun = time.monotonic()
        with Flood(fleet, [ping(fleet)]) as pings:
            carry(fleet)
            # The pings starve neither neighbour discovery nor IKE.
            outsider.run("ip", "neighbour", "flush", "dev", "eth0")
            with traffic.udp_echo(node, node.outer, IKE_PORTS[0]):
                wait_for("IKE passes", lambda: traffic.udp_exchange(outsider, node.outer, [100], IKE_PORTS[0]) == 1, 30)
        with Flood(fleet, [question(fleet)]) as questions:
            carry(fleet)
        passed = exceptions(fleet)[0] - passed
        assert 0 < passed <= RATES * (time.monotonic() - begun) + BURSTS
        lost = fleet.drops(NODE, "exception_rate")
        assert lost > 0
        assert fleet.drops(NODE) - lost == before, "nothing else is lost"
        through(fleet)
        reach(outsider, node)
        note(TAP, fleet, f"flood of {pings.sent + questions.sent} pings and neighbour discovery", "AH traffic whole, rest dropped and counted")


@pytest.mark.limit(120)
@pytest.mark.parametrize("family", [4, 6])
def test_line5_a_tap_goes_with_its_node_and_comes_again(family: int) -> None:
    with Fleet(network(TAP, family)) as fleet:
        node, outsider = fleet.host(NODE), fleet.host(OUTSIDER)
        reach(outsider, node)
        fleet.kill(NODE)
        wait_for("the tap is gone", lambda: node.run("ip", "link", "show", configs.TAP, check=False).returncode != 0)
        assert traffic.ping(outsider, node.outer, 1, patience_s=1).received == 0
        fleet.start(NODE)
        reach(outsider, node)
        wait_for("a path again", lambda: traffic.ping(fleet.host("initiator"), configs.RESPONDER, 1).received == 1, 40, 0.5)
        assert fleet.stop(NODE) == 0
        assert node.run("ip", "link", "show", configs.TAP, check=False).returncode != 0
        note(TAP, fleet, "node killed and restarted", "tap gone, back, reached")


def note(kind: Kind, fleet: Fleet, case: str, verdict: str) -> None:
    """A row of the table."""
    rows.append(Row(case, f"Linux kernel; {kind}", f"IPv{fleet.network.family}", "-", verdict))


def cores(fleet: Fleet, name: str) -> set[int]:
    """Those on which the node's threads of that name may run."""
    tasks = Path(f"/proc/{fleet.running[NODE].pid}/task").iterdir()
    named = [int(task.name) for task in tasks if (task / "comm").read_text().startswith(name)]
    return {core for thread in named for core in os.sched_getaffinity(thread)}


def exceptions(fleet: Fleet) -> list[float]:
    """Frames that the node's tap has given to the kernel, and taken from it."""
    counters = fleet.counters(NODE)
    return [counters.total("ain_exception_total", counter=f"{way}_kernel_packets") for way in ("to", "from")]


def through(fleet: Fleet) -> None:
    """The packet path carries what it should."""
    assert traffic.ping(fleet.host("initiator"), configs.RESPONDER, 10).received == 10


def carry(fleet: Fleet) -> None:
    """TCP through the tunnels, whole at both ends."""
    done = traffic.TcpExchange(fleet.host("initiator"), fleet.host("responder"), configs.RESPONDER, ONE_MB, timeout_s=40).run()
    assert done.down_received == done.down_sent and done.up_received == done.up_sent


def reach(one: Host, other: Host) -> None:
    """Ping, TCP and the ports of IKE, from one to the other; no answer comes twice."""
    pings = traffic.ping(one, other.outer, 20, 0.02)
    assert (pings.received, pings.duplicates) == (20, 0)
    done = traffic.TcpExchange(one, other, other.outer, ONE_MB).run()
    assert done.down_received == done.down_sent and done.up_received == done.up_sent
    for port in IKE_PORTS:
        with traffic.udp_echo(other, other.outer, port) as sources:
            assert traffic.udp_exchange(one, other.outer, SIZES, port) == len(SIZES)
            assert sources == {str(one.outer)}


def mac_at(one: Host, other: Host) -> str:
    """The link-layer address that one has found out of the other."""
    words = one.run("ip", "neighbour", "show", str(other.outer)).stdout.split()
    return words[words.index("lladdr") + 1]


def ethertype(host: Host) -> bytes:
    """Of the family of its outer address."""
    return b"\x08\0" if host.outer.version == 4 else b"\x86\xdd"


def leg(fleet: Fleet) -> socket.socket:
    """A socket at the bridge, whose frames reach the node."""
    with inside(fleet.lab.inet):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.bind((NODE, 0))
    return made


def raw(fleet: Fleet, frames: list[bytes]) -> int:
    """Sends the node frames, which begin with their EtherTypes; returns how many."""
    to = bytes.fromhex(fleet.host(NODE).mac.replace(":", ""))
    with leg(fleet) as sender:
        for frame in frames:
            sender.send(to + wire.STRANGER + frame)
    return len(frames)


def ping(fleet: Fleet) -> bytes:
    """An echo request to the node, from a host that nobody has heard of."""
    node = fleet.host(NODE).outer
    source = topology.OUTER[node.version][66]
    kind, protocol = (8, PROTO_ICMP) if node.version == 4 else (128, PROTO_ICMPV6)
    pseudo = b"" if node.version == 4 else source.packed + node.packed + (64).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    message = bytes([kind]) + bytes(63)
    message = message[:2] + wire.checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    return ethertype(fleet.host(NODE)) + wire.packet(source, node, protocol, message)


def question(fleet: Fleet) -> bytes:
    """Who has the node's address?"""
    node = fleet.host(NODE).outer
    source = topology.OUTER[node.version][66]
    if node.version == 4:
        return bytes.fromhex("0806 0001 0800 0604 0001") + wire.STRANGER + source.packed + bytes(6) + node.packed
    pseudo = source.packed + node.packed + (32).to_bytes(4, "big") + bytes([0, 0, 0, PROTO_ICMPV6])
    message = bytes([135]) + bytes(7) + node.packed + b"\x01\x01" + wire.STRANGER
    message = message[:2] + wire.checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    return ethertype(fleet.host(NODE)) + wire.packet(source, node, PROTO_ICMPV6, message, hop_limit=255)


class Flood:
    """Frames to the node in bursts, for some seconds and until the block is over."""

    def __init__(self, fleet: Fleet, frames: list[bytes]) -> None:
        self.fleet, self.frames, self.sent = fleet, frames, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        """Up to 25000 a second."""
        until = time.monotonic() + FLOOD_S
        while time.monotonic() < until or not self.over.is_set():
            self.sent += raw(self.fleet, self.frames * (FLOOD_BURST // len(self.frames)))
            time.sleep(FLOOD_PAUSE_S)

    def __enter__(self) -> Flood:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


class Heard:
    """The IP protocols of what an interface of a host hears and sends."""

    def __init__(self, host: Host, interface: str) -> None:
        self.protocols: set[int] = set()
        self.over = threading.Event()
        with inside(host.namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        """Takes everything in."""
        while not self.over.is_set():
            try:
                packet, place = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            if place[1] in (0x0800, 0x86DD):
                self.protocols.add(protocol_of(packet))

    def __enter__(self) -> Heard:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.socket.close()
