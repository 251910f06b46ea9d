"""Line 8, the signed directory, and the rotation of line 2, on running nodes.

    many       initiator - ain1 - ain2, ain3, ain4 - ain5 - responder       three ways from ain1 to ain5
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
from lab import configs, traffic
from lab.configs import RESPONDER, Network
from lab.processes import Fleet
from lab.shell import run, wait_for

ENTRANCE, EXIT = "ain1", "ain5"
MIDDLES = ["ain2", "ain3", "ain4"]


def many(**options: object) -> Network:
    """Three middle nodes to choose from."""
    links = [pair for middle in MIDDLES for pair in ((ENTRANCE, middle), (middle, EXIT))]
    return Network(links, configs.ends(ENTRANCE, EXIT), **options)  # type: ignore[arg-type]


def edited(fleet: Fleet, node: str, pattern: str, replacement: str) -> str:
    """The directory with one field of one node changed, its signature as it was."""
    text = (fleet.lab.directory / "directory.toml").read_text()
    entries = re.split(r"(?=^\[\[nodes\]\])", text, flags=re.MULTILINE)
    at = next(i for i, entry in enumerate(entries) if f'name = "{node}"' in entry)
    entries[at], count = re.subn(pattern, replacement, entries[at], count=1, flags=re.MULTILINE)
    assert count == 1
    return "".join(entries)


def resign(fleet: Fleet, nodes: list[str]) -> None:
    """Has the operators of `nodes` sign their entries anew, as they stand in the directory."""
    directory = fleet.lab.directory
    text = (directory / "directory.toml").read_text()
    entries = [e for e in re.split(r"(?=^\[\[nodes\]\])", text, flags=re.MULTILINE) if e.strip()]
    for node in nodes:
        at = next(i for i, entry in enumerate(entries) if f'name = "{node}"' in entry)
        words = [str(fleet.ain), "--log", "error", "entry", "--config", str(directory / f"{node}.toml")]
        entries[at] = run(words).stdout
    configs.publish(directory, entries)


def directories(fleet: Fleet, node: str, outcome: str) -> float:
    """How often a node has taken, or refused, a new directory."""
    return fleet.counters(node).total("ain_directories_total", outcome=outcome)


def wait_taken(fleet: Fleet, nodes: list[str], times: float) -> None:
    """Waits until every one of `nodes` has taken a new directory so often."""
    for node in nodes:
        wait_for(f"{node} takes the directory", lambda n=node: directories(fleet, n, "taken") >= times, 10, 0.2)


def middle_of(fleet: Fleet) -> str:
    """The one middle node that the AIVT leads over."""
    found = [node for node in MIDDLES if fleet.aivts(node) > 0]
    assert len(found) == 1, found
    return found[0]


def reach(fleet: Fleet) -> None:
    """A datagram goes to the responder and back."""
    pinged = traffic.ping(fleet.host("initiator"), RESPONDER)
    assert pinged.received > 0


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """The network with three ways."""
    with Fleet(many()) as fleet:
        yield fleet


def test_a_changed_entry_is_refused_by_name_and_the_old_directory_stays_even_after_a_restart(fleet: Fleet) -> None:
    good = (fleet.lab.directory / "directory.toml").read_text()
    configs.publish(fleet.lab.directory, [edited(fleet, "ain3", "^weight = 1$", "weight = 1000")])
    wait_for("ain1 refuses it", lambda: directories(fleet, ENTRANCE, "refused") == 1, 10, 0.2)
    log = (fleet.lab.directory / f"{ENTRANCE}.log").read_text()
    assert "directory is refused" in log and 'node "ain3": the signature is not that of' in log
    words = [str(fleet.ain), "check", str(fleet.lab.directory / "directory.toml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    assert done.returncode == 2 and 'node "ain3": the signature' in done.stderr
    reach(fleet)
    # A start is no reason to stand still either: the node takes the one that it took before, and says so.
    fleet.stop(ENTRANCE)
    fleet.start(ENTRANCE)
    log = (fleet.lab.directory / f"{ENTRANCE}.log").read_text()
    assert "starts with the directory that it took last" in log
    reach(fleet)
    assert directories(fleet, ENTRANCE, "taken") == 0
    configs.publish(fleet.lab.directory, [good.replace("\n\n", "\n")])
    wait_taken(fleet, [ENTRANCE], 1)


def test_the_guard_is_the_same_after_a_restart_and_gives_way_while_it_is_down(fleet: Fleet) -> None:
    reach(fleet)
    guard = middle_of(fleet)
    kept = fleet.lab.directory / ENTRANCE / "state" / "guards"
    assert kept.stat().st_mode & 0o777 == 0o600
    before = kept.read_text()
    assert len(before.splitlines()) == 3
    for _ in range(2):
        fleet.stop(ENTRANCE)
        fleet.start(ENTRANCE)
        reach(fleet)
        assert middle_of(fleet) == guard
    fleet.kill(guard)
    wait_for("another way", lambda: traffic.ping(fleet.host("initiator"), RESPONDER).received > 0, 20, 0.5)
    assert kept.read_text() == before


def test_two_of_one_family_never_stand_on_one_path() -> None:
    with Fleet(many(families={ENTRANCE: "x", "ain2": "x", "ain3": "y", EXIT: "y"})) as fleet:
        reach(fleet)
        assert middle_of(fleet) == "ain4"
        fleet.kill("ain4")
        assert traffic.ping(fleet.host("initiator"), RESPONDER).received == 0
        assert fleet.aivts("ain2") == fleet.aivts("ain3") == 0


@pytest.mark.limit(90)
def test_a_node_joins_at_run_time_and_paths_lead_over_it() -> None:
    """ain4 joins beside ain3, which wants to stand on no path any more; ain2 and ain5, the neighbours of ain4, get its tunnels
    and start anew; ain1 runs on.
    """
    first = [("ain1", "ain2"), ("ain2", "ain3"), ("ain3", "ain5")]
    network = Network([*first, ("ain2", "ain4"), ("ain4", "ain5")], configs.ends(ENTRANCE, EXIT), 1, path_nodes=4)
    fleet, links = Fleet(network), network.links
    try:
        network.links = first
        fleet.up()
        reach(fleet)
        network.links = links
        directory = fleet.lab.directory
        for node in ("ain2", "ain4", "ain5"):
            configs.write_private(directory / f"{node}.toml", configs.node_file(network, node))
        for neighbour in ("ain2", "ain5"):
            neighbours = f"neighbours = {json.dumps(configs.neighbours(network, neighbour))}"
            configs.publish(directory, [edited(fleet, neighbour, "^neighbours = .*", neighbours)])
        configs.publish(directory, [edited(fleet, "ain3", "^weight = 1$", "weight = 0")])
        printed = configs.make_keys(directory, "ain4", network.outer("ain4"), fleet.ain)
        draft = configs.directory_entry(network, "ain4", printed, [])
        text = (directory / "directory.toml").read_text()
        configs.publish(directory, [text, draft])
        resign(fleet, ["ain2", "ain3", "ain4", "ain5"])
        for node in ("ain2", "ain5"):
            fleet.stop(node)
        for node in ("ain4", "ain2", "ain5"):
            fleet.start(node, wait=False)
        for node in ("ain4", "ain2", "ain5"):
            fleet.wait_ready(node)
        wait_taken(fleet, [ENTRANCE], 1)
        # AINs that start anew refuse creating signals for some seconds.
        wait_for("a way over ain4", lambda: traffic.ping(fleet.host("initiator"), RESPONDER).received > 0, 40, 0.5)
        assert fleet.cells("ain4") > 0
    finally:
        fleet.close()


def key_files(fleet: Fleet, node: str) -> list[str]:
    """Names of a node's onion key files, the oldest first."""
    return sorted(path.name for path in (fleet.lab.directory / node / "state" / "onion").iterdir())


PERIOD_S = 5


def test_line2_rotation_traffic_goes_on_and_old_keys_are_gone() -> None:
    with Fleet(many(onion_key_period_s=PERIOD_S, inactivity_s=1)) as fleet:
        seen = set(key_files(fleet, "ain2"))
        rounds = 0
        begun = time.monotonic()
        while rounds < 3:
            before = key_files(fleet, "ain2")[0]
            # AIVTs end in between, so that every round is a creating signal for the keys of its time.
            wait_for("the key changes", lambda b=before: key_files(fleet, "ain2")[0] != b, 3 * PERIOD_S, 0.2)
            rounds += 1
            configs.publish(fleet.lab.directory, configs.collect(fleet.lab.directory, fleet.network.nodes))
            wait_taken(fleet, [ENTRANCE], rounds)
            pinged = traffic.ping(fleet.host("initiator"), RESPONDER)
            assert pinged.received == pinged.sent
            assert before not in key_files(fleet, "ain2")
            seen |= set(key_files(fleet, "ain2"))
        assert time.monotonic() - begun >= 2 * PERIOD_S
        assert len(seen) >= 9 + rounds - 1
        for node in fleet.network.nodes:
            assert len(key_files(fleet, node)) == 9
            assert fleet.counters(node).total("ain_creates_refused_total") == 0


def test_line2_rotation_a_signal_for_a_key_that_is_gone_is_refused_and_the_entrance_tries_again() -> None:
    with Fleet(configs.chain(3)) as fleet:
        fleet.stop("ain2")
        for file in (fleet.lab.directory / "ain2" / "state" / "onion").iterdir():
            file.unlink()
        fleet.start("ain2")
        fleet.wait_ready(ENTRANCE)
        assert traffic.ping(fleet.host("initiator"), RESPONDER).received == 0
        refused = fleet.counters("ain2").total("ain_creates_refused_total", reason="protocol_error")
        assert refused >= 1
        assert "lists other keys than it has" in (fleet.lab.directory / "ain2.log").read_text()
        configs.publish(fleet.lab.directory, configs.collect(fleet.lab.directory, fleet.network.nodes))
        wait_taken(fleet, [ENTRANCE], 1)
        wait_for("the flow is rebuilt", lambda: traffic.ping(fleet.host("initiator"), RESPONDER).received > 0, 30, 0.5)
