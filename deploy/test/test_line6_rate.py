"""Line 6: links between AINs with a rate, as a capture at the bridge shows them, loaded and idle by turns.

Setup, data, signals and teardown look like silence, over IPv4 and over IPv6: one size, one SPI a direction, as many packets in every
100 ms, where `ain-bench shape` counts windows by their slots, and a slot without packet is one that a node says it missed. What tells
cells from dummies, or load from silence, are figures of `ain-bench shape` and of a classifier that is better than chance with a shaper
that is broken on purpose: the 95% interval of every area under the ROC curve ends below 0.52, and with that shaper begins above 0.6.
"""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
from lab import capture, configs, traffic
from lab.configs import RESPONDER
from lab.processes import Fleet, binary, scrape
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

RATE = 200
WINDOWS_A_SECOND = 10
PHASE_S = 4.0
PHASES = 9  # loaded, idle, ... loaded
NODES = 5  # four links: eight streams at a time
HEADERS = 128  # of each packet: all that tells anything, and the veil
SIZES = {4: 20 + 36 + 8 + 1408, 6: 40 + 40 + 8 + 1408}  # IP, AH with GMAC, veil, cell
AUC_MAX, AUC_BROKEN = 0.52, 0.6
MISSED_MAX = 0.01
FOLDS = 4

both_families = pytest.mark.parametrize("family", SIZES)


class Area(NamedTuple):
    """Under a ROC curve, and half the width of its 95% interval."""

    area: float
    margin: float


@dataclass
class Seen:
    """What was on the links, and what the nodes say of it."""

    size: int
    seconds: float
    missed: float
    slots: float
    figures: dict[str, float] = field(default_factory=dict)
    areas: dict[str, Area] = field(default_factory=dict)
    sizes: set[int] = field(default_factory=set)
    spis: list[int] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)


def rated(family: int, nodes: int = 3) -> configs.Network:
    """AINs whose PVTs have a rate, over an outer network of `family`."""
    return replace(configs.chain(nodes, inactivity_s=2), rate=RATE, realtime=True, family=family)


def slots(fleet: Fleet, **use: str) -> float:
    """Slots of all nodes."""
    return sum(scrape(fleet.host(node)).total("ain_slots_total", **use) for node in fleet.network.nodes)


def watch(ain: Path, network: configs.Network, phases: int) -> Seen:
    """Watches all links while pings at a fixed pace come and go; each time the AIVT is made anew and ends."""
    with Fleet(network, ain=ain) as fleet:
        lab = fleet.lab
        missed, used = slots(fleet, use="missed"), slots(fleet)
        links = [capture.link(lab, lab[one], lab[other], HEADERS) for one, other in network.links]
        loads = []
        for phase in range(phases):
            begin = time.time()
            if phase % 2 == 0:
                count = int((PHASE_S - 0.5) * 100)
                sent = traffic.ping(fleet.host("initiator"), RESPONDER, count=count, size=1000, interval_s=0.01, patience_s=0.1)
                assert sent.received >= 0.5 * sent.sent, "the load was there"
                loads.append((begin, time.time()))
            time.sleep(max(0.0, begin + PHASE_S - time.time()))
        paths = [link.stop(quiet=False) for link in links]
        missed, used = slots(fleet, use="missed") - missed, slots(fleet) - used
        opened = fleet.counters(network.nodes[-1]).total("ain_creates_opened_total")
        assert opened >= len(loads), "silence ended the AIVT each time"
        (lab.directory / "loads").write_text("".join(f"{begin} {end}\n" for begin, end in loads))
        (lab.directory / "keys").write_text(keys(network))
        seconds = loads[-1][1] - loads[0][0]
        return judged(Seen(SIZES[network.family], seconds, missed, used), lab.directory, paths)


def keys(network: configs.Network) -> str:
    """The SPI and the key of the AH association of each direction of each PVT."""
    lines = []
    for (protocol, sender, receiver), (spi, key) in network.keys.items():
        if protocol == "ah" and sender in network.nodes and receiver in network.nodes:
            lines.append(f"{spi} {key}\n")
    return "".join(lines)


def judged(seen: Seen, directory: Path, paths: list[Path]) -> Seen:
    """Captures through `ain-bench shape` and the classifier that it lacks."""
    table = directory / "intervals.csv"
    options = ["--rate", str(RATE), "--loaded", directory / "loads", "--keys", directory / "keys", "--csv", table]
    words = [binary("ain-bench"), "shape", *options, *paths]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        name, value, *more = line.split()
        if more[:1] == ["+-"]:
            seen.areas[name] = Area(float(value), float(more[1]))
        elif not name.endswith(":"):
            seen.figures[name] = float(value)
    for path in paths:
        seen.sizes |= set(capture.ip_sizes(path))
        packets = [packet for frame in capture.frames(path) if (packet := frame.ip)]
        packets = [packet for packet in packets if capture.protocol_of(packet) == capture.PROTO_AH]
        ways = {capture.source_of(packet) + capture.destination_of(packet) + capture.spi_of(packet) for packet in packets}
        seen.spis.append(len(ways))
    with open(table, newline="") as file:
        seen.rows = list(csv.DictReader(file))
    for label in ("loaded", "real"):
        seen.areas[f"{label}_auc_boosted"] = boosted(seen.rows, label)
    print(done.stdout, f"missed {seen.missed} of {seen.slots}", json.dumps(seen.areas, indent=1), sep="\n")
    return seen


def boosted(rows: list[dict[str, str]], label: str) -> Area:
    """Of a gradient-boosted classifier over a slot and its neighbours, judged on times that it has not learned from: streams of one
    time share what else the machine did then.
    """
    lengths, passed = Counter(row["stream"] for row in rows), Counter[str]()
    features, labels, folds = [], [], []
    for before, this, after in zip(rows, rows[1:], rows[2:], strict=False):
        passed[this["stream"]] += 1
        told = int(this[label])
        if told < 0 or len({before["stream"], this["stream"], after["stream"]}) > 1:
            continue
        if label == "real" and this["loaded"] != "1":
            continue
        features.append([float(row[column]) for row in (before, this, after) for column in ("interval_us", "late_us")])
        labels.append(told)
        folds.append(FOLDS * passed[this["stream"]] // (lengths[this["stream"]] + 1))
    seen, truth, fold = numpy.array(features), numpy.array(labels), numpy.array(folds)
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, max_leaf_nodes=8, random_state=1)
    areas = []
    for one in range(FOLDS):
        model.fit(seen[fold != one], truth[fold != one])
        areas.append(roc_auc_score(truth[fold == one], model.predict_proba(seen[fold == one])[:, 1]))
    positives = int(truth.sum())
    margin = 1.96 * float(numpy.sqrt((1 / positives + 1 / (len(truth) - positives)) / 12))
    return Area(float(numpy.mean(areas)), margin)


@pytest.fixture(scope="module", params=SIZES)
def good(request: pytest.FixtureRequest) -> Iterator[Seen]:
    """The product. Once more where the machine was taken away from it for more than a slot in a hundred."""
    seen = watch(binary(), rated(request.param, NODES), PHASES)
    yield seen if seen.missed <= MISSED_MAX * seen.slots else watch(binary(), rated(request.param, NODES), PHASES)


@pytest.mark.limit(110)
def test_line_6_setup_data_signals_and_teardown_have_one_size_one_spi_and_one_rate(good: Seen) -> None:
    assert good.sizes == {good.size}
    assert good.spis == [2] * (NODES - 1), "one SPI a direction"
    assert good.figures["slots_a_window"] == RATE / WINDOWS_A_SECOND
    streams = sum(good.spis)
    assert good.figures["windows"] >= streams * (WINDOWS_A_SECOND * good.seconds - 2)
    assert good.figures["windows_crowded"] == 0
    assert good.figures["slots_missing"] <= good.missed, "a slot without packet that was not reported"
    assert good.missed <= MISSED_MAX * good.slots, f"{good.missed} of {good.slots} slots missed"


@pytest.mark.limit(60)
def test_line_6_load_and_silence_cells_and_dummies_cannot_be_told_apart(good: Seen) -> None:
    assert good.figures["intervals"] >= 20_000
    assert len(good.areas) == 14
    told = {name: area for name, area in good.areas.items() if area.area + area.margin > AUC_MAX}
    assert told == {}


@pytest.mark.limit(110)
@both_families
def test_line_6_the_same_adversary_sees_through_a_careless_shaper(family: int) -> None:
    seen = watch(binary("ain-late"), rated(family), PHASES // 2 + 1)
    for what in ("loaded", "real"):
        found = [area for name, area in seen.areas.items() if name.startswith(what)]
        assert max(area.area - area.margin for area in found) >= AUC_BROKEN, what


@both_families
def test_line_6_hosts_with_a_rate_show_one_size_at_one_pace(family: int) -> None:
    network = replace(rated(family), host_rate=RATE)
    with Fleet(network) as fleet:
        lab, initiator = fleet.lab, fleet.host("initiator")
        link = capture.link(lab, initiator, fleet.host("ain1"), HEADERS)
        time.sleep(2)
        assert traffic.ping(initiator, RESPONDER, count=20, size=1000, interval_s=0.05).received == 20
        path = link.stop(quiet=False)
    assert len(capture.ip_sizes(path)) == 1
    times: dict[bytes, list[float]] = {}
    for frame in capture.frames(path):
        if frame.ip_bytes is not None and (packet := frame.ip):
            times.setdefault(capture.source_of(packet), []).append(frame.at_s)
    assert len(times) == 2
    for passed in times.values():
        pace = (len(passed) - 1) / (passed[-1] - passed[0])
        assert len(passed) >= 2 * RATE and (1 - 5 * MISSED_MAX) * RATE <= pace <= 1.01 * RATE, pace


def test_line_6_a_neighbour_with_another_rate_is_told() -> None:
    network = replace(rated(configs.FAMILY), inactivity_s=300)
    with Fleet(network) as fleet:
        config = fleet.lab.directory / "ain3.toml"
        fleet.stop("ain3")
        config.write_text(config.read_text().replace(f"rate = {RATE}", f"rate = {RATE // 2}"))
        fleet.start("ain3", wait=False)
        deadline = time.time() + 45
        while scrape(fleet.host("ain2")).total("ain_rate_mismatches") != 1 and time.time() < deadline:
            time.sleep(1)
        assert scrape(fleet.host("ain2")).total("ain_rate_mismatches") == 1
        assert "keeps another rate" in fleet.log_tail("ain2", 200)
