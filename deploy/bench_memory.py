#!/usr/bin/python3
"""Memory to memory on one core: our node in each role against DPDK's sample security gateway, ipsec-secgw.

    bench_memory.py [--rounds N] [--seconds N]

All have the same source and sink: DPDK's net_pcap replays a capture over and over from memory, and drops what is sent.
What these two cost alone is measured beside them, by testpmd that forwards without looking, and is subtracted from
nothing. Ours does more: ESP and AH, and the onion's layers; secgw does ESP alone. All take turns; medians go into
target/bench/peers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab import replay
from lab.shell import LabError, wait_for
from lab.topology import Lab, create
from peers import report, secgw
from peers.bench import entry
from peers.cpu import process_times, steal_seconds
from peers.report import Figures

LIMIT_S = 350
WARM_UP_S = 0.7
PREFIX = f"ain-peers-{os.getpid()}"
TELEMETRY = Path("/var/run/dpdk") / PREFIX
BUFFERS_MB = 200
ROLES = [("entrance", "forward"), ("intermediate", "both"), ("exit", "forward")]
# What stands beside what: the AH algorithm decides.
BESIDE = {"gmac": secgw.GCM, "hmac": secgw.CBC}

# Packets and bytes received, packets sent.
Reading = tuple[float, float, float]
Contender = Callable[[], contextlib.AbstractContextManager[tuple[int, Callable[[], Reading]]]]


def last_core() -> int:
    """The core of all measured threads; the first is left to everything else."""
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def ain(role: str, ways: str, mac: str) -> Iterator[tuple[int, Callable[[], Reading]]]:
    """Our node."""
    options = ("--role", role, "--ways", ways, "--mac", mac, "--aivts", str(secgw.TUNNELS))
    with replay.Replay(*options, "--packets", str(secgw.PACKETS), "--cores", str(last_core())) as node:

        def read() -> Reading:
            counters = node.counters()
            octets = counters.total("ain_port_total", counter="rx_bytes")
            return replay.received(counters), octets, replay.sent(counters)

        yield node.pid, read


@contextlib.contextmanager
def dpdk(lab: Lab, words: list[str]) -> Iterator[tuple[int, Callable[[], Reading]]]:
    """A DPDK application that serves telemetry, and its port 0."""
    child = lab.spawn(None, words, "application")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(5)

    def connected() -> bool:
        if child.poll() is not None:
            raise LabError(f"{words[0]} ended:\n{(lab.directory / 'application.log').read_text()[-1500:]}")
        return connection.connect_ex(str(TELEMETRY / "dpdk_telemetry.v2")) == 0

    def ask() -> dict[str, int]:
        connection.send(b"/ethdev/stats,0")
        return json.loads(connection.recv(65_536))["/ethdev/stats"] or {}

    try:
        wait_for("telemetry answers", connected, 15)
        connection.recv(65_536)
        wait_for("packets move", lambda: ask().get("opackets", 0) > 0, 15)

        def read() -> Reading:
            stats = ask()
            return stats["ipackets"], stats["ibytes"], stats["opackets"]

        yield child.pid, read
    finally:
        connection.close()
        lab.stop(child, signal.SIGINT)


def memory() -> list[str]:
    """Hugepages for all or for none."""
    lines = Path("/proc/meminfo").read_text()
    free, promised = (int(lines.partition(f"HugePages_{what}:")[2].split()[0]) for what in ("Free", "Rsvd"))
    free -= promised
    if free < 3 * BUFFERS_MB // 2 // 2:
        raise LabError(f"{free} free hugepages of 2 MiB are not enough: deploy/setup.sh bench")
    return ["--in-memory", "--file-prefix", PREFIX, "-m", str(BUFFERS_MB)]


def gateway_program() -> Path:
    """secgw; built the first time, which takes minutes."""
    return secgw.build(report.bench_directory().parent / "peers")


def peers(lab: Lab) -> dict[str, Contender]:
    """testpmd and secgw by name, with their captures; those with ESP are made by secgw itself."""
    program = gateway_program()
    plain = lab.directory / "plain.pcap"
    secgw.write_plain(plain)
    core, options = last_core(), memory()
    start = functools.partial(dpdk, lab)

    def gateway(suite: secgw.Suite, inbound: bool, capture: str) -> list[str]:
        return secgw.command(program, suite, inbound, capture, core, lab.directory, options)

    testpmd = ["dpdk-testpmd", "-l", f"{min(os.sched_getaffinity(0))},{core}", "--no-pci", *options]
    testpmd += ["--vdev", f"net_pcap0,rx_pcap={plain},infinite_rx=1", "--", "--forward-mode=io", "--nb-cores=1"]
    testpmd += ["--port-topology=loop", "--total-num-mbufs=16384", "--auto-start", "--stats-period=600"]
    contenders: dict[str, Contender] = {"source and sink": functools.partial(start, testpmd)}
    for suite in (secgw.GCM, secgw.CBC):
        sealed = lab.directory / f"{suite.name}.pcap"
        seal(lab, gateway(suite, False, f"rx_pcap={plain},tx_pcap={sealed}"), sealed)
        out = gateway(suite, False, f"rx_pcap={plain},infinite_rx=1")
        back = gateway(suite, True, f"rx_pcap={sealed},infinite_rx=1")
        contenders[f"secgw {suite.name} out"] = functools.partial(start, out)
        contenders[f"secgw {suite.name} in"] = functools.partial(start, back)
    return contenders


def seal(lab: Lab, words: list[str], into: Path) -> None:
    """Runs secgw over a capture once."""
    child = lab.spawn(None, words, "seal")
    whole = secgw.PACKETS * secgw.FRAME_BYTES
    try:
        wait_for(f"{into.name} is whole", lambda: into.exists() and into.stat().st_size > whole, 20)
    finally:
        lab.stop(child, signal.SIGINT)


def turn(contender: Contender, seconds: float) -> Figures:
    """One turn. Rates are those of a whole core: by the processor time used, not by the clock."""
    with contender() as (pid, read):
        time.sleep(WARM_UP_S)
        before, used = read(), process_times()[pid][0]
        time.sleep(seconds)
        after, used = read(), process_times()[pid][0] - used
        packets, octets, sent = (end - start for end, start in zip(after, before))
        if not used or sent < 0.999 * packets - 1000:
            raise LabError(f"{packets:.0f} packets came and {sent:.0f} went")
        return {
            "mpps": packets / used / 1e6,
            "gbps": octets * 8 / used / 1e9,
            "s_per_gb": used / octets * 1e9,
            "frame_bytes": octets / packets,
        }


def run(rounds: int, seconds: float) -> None:
    """All turns, the table, the file."""
    lab, stolen = create([]), steal_seconds()
    try:
        contenders = peers(lab)
        for mac in BESIDE:
            contenders |= {f"ain {role} {mac}": functools.partial(ain, role, ways, mac) for role, ways in ROLES}
        seen: dict[str, list[Figures]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                seen[name].append(turn(contender, seconds))
    finally:
        lab.close()
        with contextlib.suppress(OSError):
            TELEMETRY.rmdir()
    figures = {name: report.medians(one) for name, one in seen.items()}
    rows = [(name, [one[key] for key in ("frame_bytes", "mpps", "gbps", "s_per_gb")]) for name, one in figures.items()]
    print(report.table(["frame in, bytes", "Mpps", "Gb/s", "cpu-s/GB"], rows))
    over = ratios(figures)
    print("\ncpu-s/GB, ours / theirs")
    for name, value in over.items():
        print(f"  {name.removeprefix('memory.').removesuffix('.s_per_gb').replace('_', ' ')}: {value:.2f}")
    flat = {
        f"memory.{name.replace(' ', '_')}.{key}": value for name, one in figures.items() for key, value in one.items()
    }
    flat |= over | report.machine() | {"memory.steal_s": steal_seconds() - stolen}
    print(f"\nwritten to {report.merge('peers.json', flat)}")


def ratios(figures: dict[str, Figures]) -> dict[str, float]:
    """An entrance beside secgw's outbound side, an exit beside its inbound side, an intermediate node beside the mean of
    both.
    """
    out = {}
    for mac, suite in BESIDE.items():
        outbound, inbound = (figures[f"secgw {suite.name} {way}"]["s_per_gb"] for way in ("out", "in"))
        beside = {"entrance": outbound, "intermediate": (outbound + inbound) / 2, "exit": inbound}
        for role, theirs in beside.items():
            out[f"memory.ain_{role}_{mac}_over_secgw_{suite.name}.s_per_gb"] = (
                figures[f"ain {role} {mac}"]["s_per_gb"] / theirs
            )
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    sys.exit(entry(functools.partial(run, arguments.rounds, arguments.seconds), LIMIT_S, prepare=gateway_program))
