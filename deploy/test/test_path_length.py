"""Must show: the length of a path cannot be told from a creating signal, in any suite. A classifier sees all bytes, sizes and counts of what each
hop receives and passes on, 1000 CREATEs for each length of 2 to 6 AINs, and does no better than chance; the same classifier finds the
length at once when onions shrink on their way as the paper's do.

What a hop is told is no feature: that it is the exit, and where it stands if its neighbour is the entrance. So exits are compared with
exits, and others with those at the same position.
"""

from __future__ import annotations

import struct
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from lab.processes import binary
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

SUITES = [1, 2, 3, 4]
PATHS = 1000
# Enough for the control, which is told at once.
UNPADDED_PATHS = 100
RECORD = struct.Struct(">BBBxII")
DATAGRAM_BYTES = 1374
SEED = 4797
# Above chance by this many standard deviations would be no chance.
SIGMAS = 4


@dataclass(frozen=True)
class Place:
    """Who looks: an exit, or another hop at this position behind the entrance."""

    exit: bool
    position: int = 0

    def __str__(self) -> str:
        return "exit" if self.exit else f"hop {self.position}"


Seen = dict[Place, tuple[list[bytes], list[int]]]


def creates(suite: int, paths: int, *how: str) -> Seen:
    """What hops see, as rows of bytes, and the lengths of the paths, of which there are `paths` of each."""
    words = [str(binary("creates")), str(suite), str(paths), *how]
    data = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    seen: Seen = defaultdict(lambda: ([], []))
    at = 0
    while at < len(data):
        nodes, position, is_exit, received, passed = RECORD.unpack_from(data, at)
        at += RECORD.size
        sizes = struct.pack(">HHBB", received, passed, received // DATAGRAM_BYTES, passed // DATAGRAM_BYTES)
        row = sizes + data[at : at + received + passed]
        at += received + passed
        rows, lengths = seen[Place(True) if is_exit else Place(False, position)]
        rows.append(row)
        lengths.append(nodes)
    return seen


def success(rows: list[bytes], lengths: list[int]) -> tuple[float, float]:
    """The share of lengths that a classifier tells right of signals it has not seen, and what chance would give it."""
    longest = max(map(len, rows))
    features = np.frombuffer(b"".join(row.ljust(longest, b"\0") for row in rows), np.uint8).reshape(len(rows), longest)
    labels = np.array(lengths)
    trees = ExtraTreesClassifier(16, max_features=0.05, max_depth=8, random_state=SEED)
    folds = StratifiedKFold(2, shuffle=True, random_state=SEED)
    told = cross_val_predict(trees, features, labels, cv=folds)
    chance = max(np.bincount(labels)) / len(labels)
    return float(np.mean(told == labels)), float(chance)


def places(seen: Seen) -> list[Place]:
    """Those at which there is something to tell: more than one length."""
    return [place for place, (_, lengths) in seen.items() if len(set(lengths)) > 1]


@pytest.mark.limit(300)
@pytest.mark.parametrize("suite", SUITES)
def test_the_length_of_a_path_cannot_be_told(suite: int) -> None:
    seen = creates(suite, PATHS)
    assert sorted(map(str, places(seen))) == ["exit", "hop 1", "hop 2", "hop 3"]
    for place in places(seen):
        right, chance = success(*seen[place])
        bound = chance + SIGMAS * sqrt(chance * (1 - chance) / len(seen[place][1]))
        print(f"suite {suite}, {place}: {right:.3f} right, chance {chance:.3f}")
        assert right <= bound, f"{place} tells {right:.3f} of the lengths, by chance {chance:.3f}"


@pytest.mark.limit(300)
@pytest.mark.parametrize("suite", SUITES)
def test_the_same_classifier_finds_onions_that_shrink(suite: int) -> None:
    seen = creates(suite, UNPADDED_PATHS, "unpadded")
    hops = [place for place in places(seen) if not place.exit]  # nothing is left behind an exit in either build
    assert sorted(map(str, hops)) == ["hop 1", "hop 2", "hop 3"]
    for place in hops:
        right, chance = success(*seen[place])
        print(f"suite {suite} unpadded, {place}: {right:.3f} right, chance {chance:.3f}")
        assert right > 0.8, f"{place} tells only {right:.3f}: the classifier is blind"
