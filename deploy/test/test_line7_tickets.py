"""Line 7 on running nodes: a network in which every node demands tickets.

    star       initiator  - ain1 -+
               initiator2 - ain4 -+- ain2 - ain3 - responder
               initiator3 - ain5 -+

ain5 begins without a wallet, and at ain3 a share is 64 tickets.

    chain      initiator - ain1 - ain2 - ain3 - responder

The chain runs over the other outer family, and a slice ends in the middle of its test.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import select
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest
from lab import configs, inner, traffic
from lab.configs import RESPONDER, Network, Tunnel
from lab.processes import Fleet
from lab.shell import wait_for
from lab.topology import Host

RICH = "demand = true\nwallet = 64"
POOR = "demand = true\nwallet = 0"
# A node that is killed costs each flow through it three tickets for as many tries.
SHARE = 64
TICKET, INPUT_TAG, SLICE = 96, slice(4, 20), slice(0, 4)
# Addresses of the initiators' own: each source is a flow.
SOURCES = {4: ip_network("10.66.1.0/24"), 6: ip_network("fd66:1::/112")}[RESPONDER.version]
# Creating signals may be dated 20 s back, and a node that was killed refuses those dated before its end.
OLDEST_S = 22
REJOIN_S = 45
# Four creating signals within this time; then the initiator is told.
REFUSED_S = 30


def slice_that_ends(after_s: int) -> int:
    """A length of slices by which one of them ends so many seconds from now, or a few more, and is not shorter."""
    end = int(time.time()) + after_s
    return next(s for late in range(60) for s in range(max(240, after_s + 60), 1800) if (end + late) % s == 0)


def star() -> Network:
    """Three entrances at one neighbour of the exit."""
    links = [("ain1", "ain2"), ("ain2", "ain3"), ("ain4", "ain2"), ("ain5", "ain2")]
    own = inner.FAMILIES[inner.FAMILY].private
    others = [Tunnel("initiator2", "ain4", own), Tunnel("initiator3", "ain5", own)]
    return Network(
        links,
        configs.ends("ain1", "ain3") + others,
        tickets=RICH,
        tickets_of={"ain3": f"{RICH}\nquota = {SHARE}", "ain5": POOR},
        ticket_slice_s=slice_that_ends(900),  # and before its last quarter no tickets of the next one are fetched
    )


def events(fleet: Fleet, node: str, name: str) -> int:
    """How often the control node has counted something."""
    return int(fleet.counters(node).total("ain_control_events_total", event=name))


def wallet(fleet: Fleet, node: str) -> int:
    """Tickets that an entrance holds."""
    return int(fleet.counters(node).total("ain_wallet_tickets"))


def refused(fleet: Fleet, node: str) -> int:
    """Creating signals that a node has refused for their tickets."""
    return int(fleet.counters(node).total("ain_creates_refused_total", reason="ticket_refused"))


def wait_filled(fleet: Fleet, nodes: list[str], tickets: int) -> None:
    """Waits until each of `nodes` has fetched so many tickets."""
    for node in nodes:
        wait_for(f"the wallet of {node}", lambda n=node: events(fleet, n, "tickets_received") >= tickets, 30, 0.2)


def assert_books_balance(fleet: Fleet) -> None:
    """What was issued was received, and what has left a wallet was spent, somewhere and once."""
    nodes = fleet.network.nodes
    issued, received, spent = (
        sum(events(fleet, node, f"tickets_{what}") for node in nodes) for what in ("issued", "received", "spent")
    )
    assert issued == received == sum(wallet(fleet, node) for node in nodes) + spent


@dataclass
class Sources:
    """Sources of an initiator's own, each of which begins a flow of its own."""

    host: Host
    used: int = 0

    def __post_init__(self) -> None:
        self.host.run("ip", f"-{SOURCES.version}", "route", "add", "local", str(SOURCES), "dev", "lo")

    def open(self, count: int) -> list[socket.socket]:
        """Sends a datagram from each of `count` fresh sources to the responder."""
        opened = []
        for _ in range(count):
            self.used += 1
            one = traffic.open_socket(self.host, socket.SOCK_DGRAM, RESPONDER, 0)
            one.bind((str(SOURCES[self.used]), 0))
            one.connect((str(RESPONDER), traffic.UDP_PORT))
            one.send(secrets.token_bytes(16))
            opened.append(one)
        return opened

    def reach(self, count: int, timeout_s: float = 15) -> None:
        """As many fresh flows reach the responder and hear of it."""
        outcomes = hear(self.open(count), timeout_s)
        assert outcomes == ["answered"] * count


def hear(flows: list[socket.socket], timeout_s: float) -> list[str]:
    """What comes back: "answered", "refused" by an ICMP error, or "silence"."""
    outcomes, end = {one: "silence" for one in flows}, time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0 and "silence" in outcomes.values():
        waiting = [one for one in flows if outcomes[one] == "silence"]
        for one in select.select(waiting, [], [], left)[0]:
            try:
                one.recv(100)
                outcomes[one] = "answered"
            except OSError as error:
                assert error.errno in (errno.EHOSTUNREACH, errno.EACCES), error
                outcomes[one] = "refused"
    for one in flows:
        one.close()
    return list(outcomes.values())


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """The star, its wallets full."""
    with Fleet(star()) as fleet:
        wait_filled(fleet, ["ain1", "ain2", "ain3", "ain4"], 4 * SHARE)
        yield fleet


@pytest.fixture(scope="module")
def echo(fleet: Fleet) -> Iterator[set[str]]:
    """What the responder sees."""
    with traffic.udp_echo(fleet.host("responder"), RESPONDER) as seen:
        yield seen


@pytest.fixture(scope="module")
def poor_flow(fleet: Fleet, echo: set[str]) -> list[socket.socket]:
    """A flow of the entrance that has no wallet. It is heard of later."""
    return Sources(fleet.host("initiator3")).open(1)


@pytest.fixture(scope="module")
def modest(fleet: Fleet) -> Sources:
    """The initiator of ain4."""
    return Sources(fleet.host("initiator2"))


@pytest.mark.limit(90)
def test_each_aivt_costs_a_ticket_at_each_node_after_the_entrance(
    fleet: Fleet, echo: set[str], poor_flow: list[socket.socket], modest: Sources
) -> None:
    assert_books_balance(fleet)
    before = [events(fleet, node, "tickets_spent") for node in ("ain2", "ain3")]
    modest.reach(4)
    after = [events(fleet, node, "tickets_spent") for node in ("ain2", "ain3")]
    assert [a - b for a, b in zip(after, before, strict=True)] == [4, 4]
    assert len(echo) == 4
    assert_books_balance(fleet)


def test_an_entrance_that_used_up_its_share_waits_and_others_go_on(
    fleet: Fleet, echo: set[str], modest: Sources
) -> None:
    greedy = Sources(fleet.host("initiator"))
    greedy.reach(SHARE)
    wait_for("ain3 issues no more", lambda: events(fleet, "ain3", "tickets_not_issued") > 0, 15, 0.2)
    seen = len(echo)
    assert hear(greedy.open(1), 2) == ["silence"], "it waits for a ticket, for a minute"
    modest.reach(2)
    assert len(echo) == seen + 2
    assert events(fleet, "ain3", "tickets_missing") == 0, "nobody tried without"


@pytest.mark.limit(90)
def test_a_restart_of_the_issuer_forgets_no_spent_ticket_and_no_share(
    fleet: Fleet, echo: set[str], modest: Sources
) -> None:
    state = fleet.lab.directory / "ain3" / "state"
    [spent_file], [issued_file] = state.glob("spent-*"), state.glob("issued-*")
    assert spent_file.stat().st_mode & 0o777 == issued_file.stat().st_mode & 0o777 == 0o600
    heap = Heap(fleet, "ain4")
    before = heap.read()
    modest.reach(1)
    place = heap.place_of_spent(before, spent_file.read_bytes())
    fleet.kill("ain3")
    killed = time.monotonic()
    fleet.start("ain3")
    assert fleet.stop("ain1") == 0
    fleet.start("ain1")  # its wallet is empty, and asks at once
    assert hear(modest.open(1), REJOIN_S) == ["answered"]
    time.sleep(max(0.0, killed + OLDEST_S - time.monotonic()))

    fresh = events(fleet, "ain3", "tickets_spent")
    heap.put_back(place, before)
    assert hear(modest.open(1), 15) == ["answered"], "with the ticket after it"
    assert events(fleet, "ain3", "tickets_spent_twice") == refused(fleet, "ain3") == 1
    assert events(fleet, "ain3", "tickets_spent") == fresh + 1
    wait_for("ain1 asks again", lambda: events(fleet, "ain3", "tickets_not_issued") > 0, REJOIN_S, 0.5)
    assert events(fleet, "ain3", "tickets_issued") == 0, "all had theirs before the restart"


def test_an_entrance_without_tickets_is_refused_until_it_may_have_some(
    fleet: Fleet, echo: set[str], poor_flow: list[socket.socket]
) -> None:
    seen = len(echo)
    assert hear(poor_flow, REFUSED_S) == ["refused"], "its initiator has been told meanwhile"
    assert events(fleet, "ain2", "tickets_missing") == refused(fleet, "ain2") == 4
    assert events(fleet, "ain5", "flows_refused") == 1
    assert fleet.counters("ain5").total("ain_aivts", role="entrance") == 0
    assert len(echo) == seen
    assert fleet.stop("ain5") == 0
    file = fleet.lab.directory / "ain5.toml"
    file.write_text(file.read_text().replace(POOR, RICH))
    fleet.start("ain5")
    wait_filled(fleet, ["ain5"], 4 * SHARE)
    rich = fleet.host("initiator3")
    wait_for("traffic flows", lambda: traffic.ping(rich, RESPONDER, 1).received == 1, 10)


@dataclass
class Heap:
    """The heap of a node: where a wallet lies that its operator has changed to spend a ticket twice."""

    fleet: Fleet
    node: str

    @property
    def pid(self) -> int:
        """The node's process."""
        return self.fleet.running[self.node].pid

    def bounds(self) -> tuple[int, int]:
        """First address, and the one after the last."""
        with open(f"/proc/{self.pid}/maps") as maps:
            parts = [line.split()[0].split("-") for line in maps if line.endswith("[heap]\n")]
        return int(parts[0][0], 16), int(parts[-1][1], 16)

    def read(self) -> tuple[int, bytes]:
        """Where it begins, and what is in it."""
        start, end = self.bounds()
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            return start, memory.read(end - start)

    def place_of_spent(self, before: tuple[int, bytes], tags: bytes) -> int:
        """Where in `before` the wallet had the ticket that it has taken since then, of those on record as spent."""
        (start, old), now = before, self.read()[1]
        records = [tags[at : at + 16] for at in range(0, len(tags), 16)]
        hits = [(match.start(), tag) for tag in records for match in re.finditer(re.escape(tag), old)]
        places = [at - INPUT_TAG.start for at, tag in hits if now[at : at + len(tag)] != tag]
        # In the wallet the next one that is taken lies in front of it.
        places = [at for at in places if old[at - TICKET : at][SLICE] == old[at : at + TICKET][SLICE]]
        assert len(places) == 1, (places, hits)
        return start + places[0]

    def put_back(self, place: int, before: tuple[int, bytes]) -> None:
        """Puts the ticket that was at `place`, and is spent, over the one that is taken next: the last still there."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            (start, old), now = before, self.read()[1]
            at = place - start
            spent = old[at : at + TICKET]
            while now[at : at + TICKET] != old[at : at + TICKET]:
                at -= TICKET
            assert now[at : at + TICKET][SLICE] == spent[SLICE]
            with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(start + at)
                memory.write(spent)
        finally:
            os.kill(self.pid, signal.SIGCONT)


@pytest.mark.limit(130)
def test_tickets_of_the_next_slice_are_there_when_it_begins() -> None:
    length_s = slice_that_ends(50)
    network = replace(configs.chain(3), family=10 - inner.FAMILY, tickets=RICH, ticket_slice_s=length_s)
    with Fleet(network) as fleet, contextlib.ExitStack() as stack:
        stack.enter_context(traffic.udp_echo(fleet.host("responder"), RESPONDER))
        slice_number = int(time.time()) // length_s
        # In the last quarter of a slice the wallets hold the tickets of the next one as well.
        wait_filled(fleet, fleet.network.nodes, 2 * 2 * SHARE)
        assert_books_balance(fleet)
        assert int(time.time()) // length_s == slice_number, "the machine is too slow for the test"
        initiator, state = Sources(fleet.host("initiator")), fleet.lab.directory / "ain3" / "state"
        while int(time.time()) // length_s == slice_number or initiator.used < 6:
            initiator.reach(1)
            time.sleep(3)
        before = initiator.used
        for _ in range(4):
            initiator.reach(1)
        spent = {n: len((state / f"spent-{length_s}-{slice_number + n}").read_bytes()) // 16 for n in (0, 1)}
        assert spent[0] >= before - 1 and spent[1] >= 4, (spent, before)
        assert spent[0] + spent[1] == events(fleet, "ain3", "tickets_spent")
        for node in fleet.network.nodes:
            assert refused(fleet, node) == 0
        assert_books_balance(fleet)
