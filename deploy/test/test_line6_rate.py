"""Line 6: links between AINs with a rate, as a capture at the bridge shows them, loaded and idle by turns.

Setup, data, signals and teardown look like silence: one size, one SPI a direction, as many packets in every 100 ms. What tells
cells from dummies, or load from silence, are figures of `ain-bench shape` and of a classifier that is better than chance with a
shaper that is broken on purpose.
"""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import pytest
from lab import capture, configs, traffic
from lab.configs import RESPONDER
from lab.processes import Fleet, binary, scrape
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

RATE = 200
PHASE_S = 4.0
PHASES = 9  # loaded, idle, ... loaded
HEADERS = 128  # of each packet: all that tells anything, and the veil
SIZE = 1472  # IPv4, GMAC, veil, cell
AUC_MAX, AUC_BROKEN = 0.52, 0.6


@dataclass
class Seen:
    """What was on the links, and what the nodes say of it."""

    figures: dict[str, float]
    sizes: set[int]
    spis: list[int]
    missed: float
    slots: float
    rows: list[dict[str, str]]


def rated(rate: int = RATE) -> configs.Network:
    """Three AINs whose PVTs have a rate."""
    network = configs.chain(3, inactivity_s=2)
    return replace(network, rate=rate, realtime=True)


def slots(fleet: Fleet, **use: str) -> float:
    """Slots of all nodes."""
    return sum(scrape(fleet.host(node)).total("ain_slots_total", **use) for node in fleet.network.nodes)


def watch(ain: Path) -> Seen:
    """Watches both links while pings at a fixed pace come and go; each time the AIVT is made anew and ends."""
    with Fleet(rated(), ain=ain) as fleet:
        lab = fleet.lab
        missed, used = slots(fleet, use="missed"), slots(fleet)
        nodes = ["ain1", "ain2", "ain3"]
        links = [
            capture.link(lab, lab[one], lab[other], HEADERS) for one, other in zip(nodes, nodes[1:], strict=False)
        ]
        loads = []
        for phase in range(PHASES):
            begin = time.time()
            if phase % 2 == 0:
                count = int((PHASE_S - 0.5) * 100)
                sent = traffic.ping(fleet.host("initiator"), RESPONDER, count=count, size=1000, interval_s=0.01)
                assert sent.received >= 0.95 * sent.sent
                loads.append((begin, begin + PHASE_S))
            time.sleep(max(0.0, begin + PHASE_S - time.time()))
        paths = [link.stop(quiet=False) for link in links]
        missed, used = slots(fleet, use="missed") - missed, slots(fleet) - used
        (lab.directory / "loads").write_text("".join(f"{begin} {end}\n" for begin, end in loads))
        (lab.directory / "keys").write_text(keys(fleet.network))
        return judged(lab.directory, paths, missed, used)


def keys(network: configs.Network) -> str:
    """The AH SPI and the ESP key of each direction of each PVT."""
    lines = []
    for (protocol, sender, receiver), (spi, _) in network.keys.items():
        if protocol == "ah" and sender in network.nodes and receiver in network.nodes:
            lines.append(f"{spi} {network.keys['esp', sender, receiver][1]}\n")
    return "".join(lines)


def judged(directory: Path, paths: list[Path], missed: float, used: float) -> Seen:
    """Captures through `ain-bench shape`."""
    table = directory / "intervals.csv"
    options = ["--rate", str(RATE), "--loaded", directory / "loads", "--keys", directory / "keys", "--csv", table]
    words = [binary("ain-bench"), "shape", *options, *paths]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    figures = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        if not name.endswith(":"):
            figures[name] = float(value.split()[0])
    sizes, spis = set(), []
    for path in paths:
        sizes |= set(capture.ip_sizes(path))
        packets = [packet for frame in capture.frames(path) if (packet := frame.ip)]
        packets = [packet for packet in packets if capture.protocol_of(packet) == capture.PROTO_AH]
        ways = {capture.source_of(packet) + capture.destination_of(packet) + capture.spi_of(packet) for packet in packets}
        spis.append(len(ways))
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    return Seen(figures, sizes, spis, missed, used, rows)


def boosted(rows: list[dict[str, str]], label: str) -> tuple[float, float, int]:
    """AUC of a gradient-boosted classifier over a slot and its neighbours, on samples it has not learned from; half the width of
    the 95% interval; samples.
    """
    features, labels = [], []
    for before, this, after in zip(rows, rows[1:], rows[2:], strict=False):
        told = int(this[label])
        if told < 0 or len({before["stream"], this["stream"], after["stream"]}) > 1:
            continue
        if label == "real" and this["loaded"] != "1":
            continue
        features.append([float(row[column]) for row in (before, this, after) for column in ("interval_us", "late_us")])
        labels.append(told)
    truth = numpy.array(labels)
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, max_leaf_nodes=8, random_state=1)
    scores = cross_val_predict(model, numpy.array(features), truth, cv=4, method="predict_proba")[:, 1]
    area = float(roc_auc_score(truth, scores))
    positives = int(truth.sum())
    margin = 1.96 * float(numpy.sqrt((1 / positives + 1 / (len(truth) - positives)) / 12))
    return area, margin, len(truth)


def areas(seen: Seen) -> dict[str, float]:
    """Every adversary's area, the boosted ones included."""
    found = {name: value for name, value in seen.figures.items() if "_auc_" in name}
    for label in ("loaded", "real"):
        area, margin, count = boosted(seen.rows, label)
        print(f"{label}_auc_boosted {area:.4f} +- {margin:.4f} ({count} samples)")
        found[f"{label}_auc_boosted"] = area
    print(json.dumps(found, indent=1))
    return found


@pytest.fixture(scope="module")
def good() -> Iterator[Seen]:
    """The product."""
    yield watch(binary())


@pytest.mark.limit(110)
def test_line_6_setup_data_signals_and_teardown_have_one_size_one_spi_and_one_rate(good: Seen) -> None:
    assert good.sizes == {SIZE}
    assert good.spis == [2, 2], "one SPI a direction"
    assert good.figures["slots_a_window"] == 20
    assert good.figures["windows_crowded"] == 0
    assert good.figures["slots_missing"] <= good.missed, "a slot without packet that was not reported"
    assert good.missed <= 0.01 * good.slots, f"{good.missed} of {good.slots} slots missed"


@pytest.mark.limit(60)
def test_line_6_load_and_silence_cells_and_dummies_cannot_be_told_apart(good: Seen) -> None:
    assert good.figures["intervals"] >= 20_000
    found = areas(good)
    assert len(found) == 14 and max(found.values()) <= AUC_MAX, found


@pytest.mark.limit(110)
def test_line_6_the_same_adversary_sees_through_a_careless_shaper() -> None:
    found = areas(watch(binary("ain-late")))
    assert max(value for name, value in found.items() if name.startswith("loaded")) >= AUC_BROKEN
    assert max(value for name, value in found.items() if name.startswith("real")) >= AUC_BROKEN


def test_line_6_hosts_with_a_rate_show_one_size_at_one_pace() -> None:
    network = replace(rated(), host_rate=RATE)
    with Fleet(network) as fleet:
        lab, initiator = fleet.lab, fleet.host("initiator")
        link = capture.link(lab, initiator, fleet.host("ain1"), HEADERS)
        time.sleep(2)
        assert traffic.ping(initiator, RESPONDER, count=20, size=1000, interval_s=0.05).received == 20
        sizes = capture.ip_sizes(link.stop(quiet=False))
        assert len(sizes) == 1 and sum(sizes.values()) >= 3 * RATE


def test_line_6_a_neighbour_with_another_rate_is_told() -> None:
    network = replace(rated(), inactivity_s=300)
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
