#!/usr/bin/python3
"""The demo: a user's TCP through three AINs, and what each place on the way could see of it.

    demo.py run     builds the network in namespaces, sends traffic, searches captures and nodes, prints the table
    demo.py up      builds the network and leaves it for a person to play with
    demo.py down    takes that down
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from itertools import pairwise
from types import FrameType

from lab import capture, configs, search, table, topology, traffic
from lab.configs import PRIVATE, RESPONDER
from lab.processes import Fleet, binary
from lab.search import Secrets, Sight
from lab.shell import LabError
from lab.table import Row

KEPT = "demo"
LIMIT_S = 300
IPERF_S = 4
CELL_ROOM_BYTES = 1384
UDP_SIZES = [1, 40, 200, 512, 900, 1200, 1300]
NODES = ("ain1", "ain2", "ain3")
PATH = ("initiator", *NODES, "responder")


class Demo:
    """One built network and what its ends keep secret."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.lab = fleet, fleet.lab
        self.initiator, self.responder = fleet.host("initiator"), fleet.host("responder")
        marker = traffic.serve_page(self.lab, self.responder, RESPONDER)
        self.secrets = Secrets(
            {"outer": self.initiator.outer, "inner": PRIVATE},
            {"outer": self.responder.outer, "inner": RESPONDER},
            marker,
            {node: fleet.host(node).outer for node in NODES},
        )

    def fetch(self, timeout_s: int = 20) -> str:
        """Fetches the page; an empty text when it came whole, else what was wrong."""
        page = traffic.page(self.lab)
        page.unlink(missing_ok=True)
        done = traffic.curl(self.lab, self.initiator, RESPONDER, timeout_s)
        if done.returncode:
            return done.stderr.strip()
        return "" if page.read_bytes().count(self.secrets.marker) == traffic.PAGE_MARKERS else "the page came changed"

    def look_around(self) -> tuple[list[Row], dict[str, Sight]]:
        """Sends a little of everything under whole captures; returns the rows of the links and of the AINs, and the
        two ends.
        """
        links = [capture.link(self.lab, self.lab[a], self.lab[b]) for a, b in pairwise(PATH)]
        ends = {end: capture.interface(self.lab, self.lab[end], configs.TUN) for end in ("initiator", "responder")}
        self.send_a_little_of_everything()
        nodes = [Row(self.look_into(node), frozenset({node, *neighbours(node)}), NODES) for node in NODES]
        rows = [
            Row(search.look_at_capture(f"{a} - {b}", one.stop(), self.secrets), frozenset({a, b}), NODES)
            for (a, b), one in zip(pairwise(PATH), links)
        ]
        return rows + nodes, {end: search.look_at_capture(end, one.stop(), self.secrets) for end, one in ends.items()}

    def send_a_little_of_everything(self) -> None:
        """curl, ping and UDP; raises if anything is lost."""
        pinged = traffic.ping(self.initiator, RESPONDER)
        with traffic.udp_echo(self.responder, RESPONDER) as sources:
            echoed = traffic.udp_exchange(self.initiator, RESPONDER, UDP_SIZES)
        wrong = self.fetch()
        say(f"ping: {pinged.received} of {pinged.sent} answered, {pinged.average_ms:.2f} ms on average")
        say(f"UDP: {echoed} of {len(UDP_SIZES)} datagrams came back, the responder saw {', '.join(sorted(sources))}")
        say(f"curl: {wrong or 'the page came whole'}")
        if wrong or echoed != len(UDP_SIZES) or pinged.received != pinged.sent:
            raise LabError("traffic was lost on the way")

    def look_into(self, node: str) -> Sight:
        """What a node has: a dump of all its tables, and all its memory with the packets last handled."""
        tables = search.look_at_text(node, self.fleet.dump(node), self.secrets)
        memory = search.look_at_memory(node, self.fleet.memory(node), self.secrets)
        return search.joined(node, [tables, memory])


def neighbours(node: str) -> set[str]:
    """The AINs next to one on the path."""
    at = NODES.index(node)
    return set(NODES[max(at - 1, 0) : at + 2])


def say(text: str) -> None:
    """A line of the story."""
    print(f"  {text}", flush=True)


def headline(text: str) -> None:
    """A chapter of the story."""
    print(f"\n{text}", flush=True)


def check(what: str, holds: bool) -> None:
    """One line a condition; raises if it does not hold."""
    say(f"{'ok ' if holds else 'NOT'} {what}")
    if not holds:
        raise LabError(f"not so: {what}")


def between_ains() -> list[str]:
    """The links between AINs by name."""
    return [f"{a} - {b}" for a, b in pairwise(NODES)]


def check_table(rows: list[Row], ends: dict[str, Sight]) -> None:
    """What the protocol promises about the table, and that the search works where there is something to find."""
    by_place = {row.sight.place: row for row in rows}
    for place in [*between_ains(), "ain2"]:
        check(f"{place} showed nothing", by_place[place].sees_nothing)
    first, last = by_place["initiator - ain1"].sight, by_place["ain3 - responder"].sight
    check(
        "initiator - ain1 did not show the responder or the page",
        not first.kinds("responder") and not first.sees_marker,
    )
    check(
        "ain3 - responder did not show the initiator or the page", not last.kinds("initiator") and not last.sees_marker
    )
    check("ain3 did not learn the initiator's address", not by_place["ain3"].sight.kinds("initiator"))
    here, there = ends["initiator"], ends["responder"]
    check(
        "control: inside the initiator the search finds the page, both addresses, the sizes",
        here.sees_marker and here.sees_sizes and bool(here.kinds("initiator")) and bool(here.kinds("responder")),
    )
    check(
        "control: inside the responder it finds the page, its address, the sizes, and not the initiator's",
        there.sees_marker and there.sees_sizes and bool(there.kinds("responder")) and not there.kinds("initiator"),
    )


def measure(demo: Demo) -> None:
    """iperf3 both ways; sizes between AINs and cell counters while it runs."""
    fleet = demo.fleet
    running = [capture.link(demo.lab, demo.lab[a], demo.lab[b], snap_bytes=64) for a, b in pairwise(NODES)]
    for reverse, way in ((False, "to"), (True, "from")):
        way_through = "backward" if reverse else "forward"
        before = {node: fleet.cells(node, way_through) for node in NODES}
        result = traffic.iperf(demo.lab, demo.initiator, demo.responder, RESPONDER, IPERF_S, reverse)
        say(
            f"iperf3 {way} the responder: {result.mbps:.0f} Mb/s, {result.received_bytes / 1e6:.1f} MB, "
            f"{result.retransmits} TCP segments sent again"
        )
        for node in NODES:
            cells = fleet.cells(node, way_through) - before[node]
            check(
                f"{node} counted {cells:.0f} cells: room for these bytes, and not much more",
                result.received_bytes <= cells * CELL_ROOM_BYTES <= 2.5 * result.received_bytes + 1_000_000,
            )
    sizes = set().union(*(capture.ip_sizes(one.stop(lossy=True)) for one in running))
    check(f"every packet between AINs was {' or '.join(map(str, sorted(sizes)))} bytes long", len(sizes) == 1)


def control_without_onion() -> None:
    """The same network from a build without onion layers: now the links between AINs have to show everything."""
    network = configs.chain(len(NODES), option="as-sent")
    with Fleet(network, ain=binary("ain-no-onion")) as fleet:
        rows, ends = Demo(fleet).look_around()
    sights = {row.sight.place: row.sight for row in rows} | {f"inside the {end}": sight for end, sight in ends.items()}
    for place in [*between_ains(), *(f"inside the {end}" for end in ends)]:
        sight = sights[place]
        check(
            f"control without onion: {place}: the page and both inner addresses are found",
            sight.sees_marker and all("inner" in sight.kinds(end) for end in ends),
        )


def run() -> None:
    """The whole demo."""
    began = time.monotonic()
    headline("Five hosts in namespaces: initiator, three AINs with DPDK ports of their own, responder")
    with Fleet(configs.chain(len(NODES))) as fleet:
        demo = Demo(fleet)
        say(f"up after {time.monotonic() - began:.1f} s")
        headline("Traffic from the initiator to the responder")
        rows, ends = demo.look_around()
        headline("Who could see what (searched in captures of the links, and in tables and memory of the AINs)\n")
        print(table.who_could_see_what(rows))
        headline("What has to be true of it")
        check_table(rows, ends)
        headline("Throughput")
        measure(demo)
        headline("Without AIN2 there is no way")
        fleet.stop("ain2")
        check("with ain2 stopped curl fails", demo.fetch(timeout_s=5) != "")
        logs = demo.lab.directory
    headline("The same search without the onion")
    control_without_onion()
    headline(f"Done in {time.monotonic() - began:.0f} s. Where to look next:")
    say(f"captures, logs and configurations of this run: {logs}")
    say("`make demo-up` leaves the network running for you; docs/protocol.md says what the packets are")


def up() -> None:
    """Builds the network and leaves it."""
    down()
    fleet = Fleet(configs.chain(len(NODES)), KEPT)
    try:
        fleet.up()
        demo = Demo(fleet)
        wrong = demo.fetch()
        if wrong:
            raise LabError(f"curl: {wrong}")
    except BaseException:
        fleet.lab.close()
        raise
    (fleet.lab.directory / "keep").touch()
    headline("The network is up.")
    say(f"fetch a page:    ip netns exec {demo.initiator.namespace} curl -s http://{RESPONDER}/page.html | head -c 300")
    say(f"be the user:     ip netns exec {demo.initiator.namespace} ping {RESPONDER}")
    say(f"be the Internet: ip netns exec {demo.lab.inet} tcpdump -ni ain2 -X -c 4")
    say(f"ask a node:      {fleet.ain} status --socket {configs.admin_socket(fleet.lab.directory, 'ain2')}")
    say(f"its metrics:     ip netns exec {fleet.host('ain2').namespace} curl -s http://{configs.METRICS}/metrics")
    say(f"logs, files:     {fleet.lab.directory}")
    say("take it down:    make demo-down")


def down() -> None:
    """Takes down what `up` left. No error if there is nothing."""
    topology.sweep_namespaces(KEPT)
    shutil.rmtree(topology.RUNS / KEPT, ignore_errors=True)


def _expired(signum: int, frame: FrameType | None) -> None:
    raise LabError(
        f"ended by signal {signal.Signals(signum).name}" + (f" after {LIMIT_S} s" if signum == signal.SIGALRM else "")
    )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "up", "down"])
    verb = parser.parse_args().verb
    for one in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(one, _expired)
    signal.alarm(LIMIT_S)
    try:
        if os.geteuid() != 0:
            raise LabError("network namespaces need root")
        topology.sweep()
        {"run": run, "up": up, "down": down}[verb]()
    except LabError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
