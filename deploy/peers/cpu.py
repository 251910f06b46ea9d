"""What a transfer costs the processors, by two measures that treat every contender alike.

processes   user and system time of the processes that forward: exact, but the kernel's own work for a packet (softirq)
            is charged to whoever happens to run, or to nobody.
machine     everything that kept the machine's processors busy, interrupts included, less what processes outside of the
            laboratory used. It also holds the traffic's source and sink, the same for every contender.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
GIGA = 1e9


@dataclass(frozen=True)
class Cost:
    """Seconds of processors between two moments."""

    processes_s: float
    machine_s: float
    wall_s: float

    def per_gb(self, transferred: float) -> tuple[float, float]:
        """Processes and machine, in cpu-seconds for 10^9 bytes of `transferred`."""
        return self.processes_s * GIGA / transferred, self.machine_s * GIGA / transferred


class Meter:
    """Runs from when it is made until `read`. `forwarding` are the pids of the processes that forward."""

    def __init__(self, forwarding: Iterable[int]) -> None:
        self.forwarding = set(forwarding)
        self.start = self._now()

    def read(self) -> Cost:
        """The cost since the start."""
        forwarding, busy, outside, wall = (end - start for end, start in zip(self._now(), self.start))
        return Cost(forwarding, busy - outside, wall)

    def _now(self) -> tuple[float, float, float, float]:
        """Seconds: of forwarding processes, of busy processors, of everybody else's processes, of the clock."""
        own = forwarding = outside = 0.0
        mine = descendants(os.getpid())
        for pid, (used, with_children) in process_times().items():
            if pid in self.forwarding:
                forwarding += used
            if pid in mine:
                own += used
            else:
                outside += with_children
        return forwarding, busy_seconds(), outside, time.monotonic()


def process_times() -> dict[int, tuple[float, float]]:
    """Each process's time, and the same with that of the children it has waited for. The second, summed over all, loses
    nothing when processes come and go.
    """
    times = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _fields(stat)
        except OSError:  # it has ended meanwhile
            continue
        used = (int(fields[11]) + int(fields[12])) / TICKS
        times[int(stat.parent.name)] = (used, used + (int(fields[13]) + int(fields[14])) / TICKS)
    return times


def descendants(root: int) -> set[int]:
    """`root` and every process below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(_fields(stat)[1]), []).append(int(stat.parent.name))
        except OSError:
            continue
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def _fields(stat: Path) -> list[str]:
    """Fields of a /proc/PID/stat behind the name, which may hold anything: state, parent, ..."""
    return stat.read_text().rpartition(")")[2].split()


def busy_seconds() -> float:
    """Time that all processors of the machine have spent on anything but waiting: user, nice, system, irq, softirq."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def steal_seconds() -> float:
    """Time the machine's host gave to others."""
    with open("/proc/stat") as stat:
        return int(stat.readline().split()[8]) / TICKS
