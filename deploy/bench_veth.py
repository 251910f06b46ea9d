#!/usr/bin/python3
"""Through the kernel over veth, as a user would see it: three AINs against three nested WireGuard tunnels.

    bench_veth.py [--rounds N] [--seconds N]

    initiator - ain1 - ain2 - ain3 - responder, each in a network namespace, in turn with
        ain            ESP+AH to ain1, three AINs, ESP+AH to the responder (`ain endpoint` at both ends)
        WireGuard      three nested tunnels from the initiator, nothing between ain3 and the responder

Every contender is up for its turn alone. Prints medians of the rounds and merges them into target/bench/peers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator

from lab import traffic
from lab.configs import RESPONDER
from lab.shell import LabError
from peers import report, wireguard
from peers.bench import Up, ain, entry
from peers.cpu import Meter, steal_seconds
from peers.report import Figures

LIMIT_S = 330
ROWS = [
    ("to_mbps", "TCP to the responder, Mb/s"),
    ("from_mbps", "TCP from the responder, Mb/s"),
    ("ping_ms", "ping on average, ms"),
    ("to_processes_s_per_gb", "processes, cpu-s/GB, to"),
    ("from_processes_s_per_gb", "processes, cpu-s/GB, from"),
    ("to_machine_s_per_gb", "machine, cpu-s/GB, to"),
    ("from_machine_s_per_gb", "machine, cpu-s/GB, from"),
    ("idle_cpus", "processors busy without traffic"),
]


def nested(implementation: wireguard.Implementation) -> Callable[[], contextlib.AbstractContextManager[Up]]:
    """Three nested tunnels of one implementation."""

    @contextlib.contextmanager
    def start() -> Iterator[Up]:
        with wireguard.Nested(implementation) as network:
            yield Up(network.lab, network.initiator, network.responder, network.pids)

    return start


def turn(up: Up, seconds: int) -> Figures:
    """One turn of one contender."""
    first = traffic.ping(up.initiator, RESPONDER, count=3)  # makes the AIVT, shakes hands
    if not first.received:
        raise LabError("no answer to ping")
    idle = Meter(up.pids)
    time.sleep(1)
    cost = idle.read()
    pinged = traffic.ping(up.initiator, RESPONDER, count=20)
    figures = {"ping_ms": pinged.average_ms, "idle_cpus": cost.processes_s / cost.wall_s}
    for way, reverse in (("to", False), ("from", True)):
        meter = Meter(up.pids)
        done = traffic.iperf(up.lab, up.initiator, up.responder, RESPONDER, seconds, reverse)
        processes, machine = meter.read().per_gb(done.received_bytes)
        figures[f"{way}_mbps"] = done.mbps
        figures[f"{way}_processes_s_per_gb"] = processes
        figures[f"{way}_machine_s_per_gb"] = machine
    return figures


def run(rounds: int, seconds: int) -> None:
    """All turns, the table, the file."""
    contenders = {"ain": ain}
    for implementation in wireguard.implementations(report.bench_directory().parent / "peers"):
        contenders[implementation.name] = nested(implementation)
    if len(contenders) == 1:
        raise LabError("no userspace WireGuard: deploy/setup.sh bench-veth")
    seen: dict[str, list[Figures]] = {name: [] for name in contenders}
    stolen = steal_seconds()
    for number in range(rounds):
        for name, start in contenders.items():
            with start() as up:
                seen[name].append(turn(up, seconds))
            one = seen[name][-1]
            print(
                f"  round {number + 1}, {name}: {one['to_mbps']:.0f} and {one['from_mbps']:.0f} Mb/s, "
                f"{one['to_machine_s_per_gb']:.1f} and {one['from_machine_s_per_gb']:.1f} cpu-s/GB",
                flush=True,
            )
    figures = {name: report.medians(one) for name, one in seen.items()}
    rows = [(text, [figures[name][key] for name in contenders]) for key, text in ROWS]
    print("\n" + report.table(list(contenders), rows))
    flat = {f"veth.{name}.{key}": value for name, one in figures.items() for key, value in one.items()}
    flat |= ratios(figures) | report.machine() | {"veth.steal_s": steal_seconds() - stolen}
    for name, value in flat.items():
        if name.startswith("veth.ain_over"):
            print(f"{name.removeprefix('veth.').replace('_', ' ')}: {value:.2f}")
    print(f"\nwritten to {report.merge('peers.json', flat)}")


def ratios(figures: dict[str, Figures]) -> dict[str, float]:
    """Ours over each peer's cpu-seconds per GB, by both measures, the mean of both ways."""
    out = {}
    for measure in ("processes", "machine"):
        mean = {
            name: (one[f"to_{measure}_s_per_gb"] + one[f"from_{measure}_s_per_gb"]) / 2 for name, one in figures.items()
        }
        for name in figures:
            if name != "ain":
                out[f"veth.ain_over_{name}.{measure}_s_per_gb"] = mean["ain"] / mean[name]
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    sys.exit(entry(functools.partial(run, arguments.rounds, arguments.seconds), LIMIT_S))
