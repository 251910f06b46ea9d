#!/usr/bin/python3
"""One stream through three AINs against one through a private Tor network of three relays.

    bench_tor.py [--rounds N] [--megabytes N]

The same user, web server and links for both, in turn. Prints medians of the rounds and writes target/bench/tor.json.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from lab import traffic
from lab.configs import RESPONDER
from lab.shell import LabError
from peers import report, tor
from peers.bench import Up, ain, entry
from peers.cpu import Meter, steal_seconds
from peers.report import Figures

LIMIT_S = 330
SMALL_REQUESTS = 15
STREAM_LIMIT_S = 60
ROWS = [
    ("mbps", "download of one stream, Mb/s"),
    ("first_byte_ms", "its first byte, ms"),
    ("small_ms", "small request, ms"),
    ("processes_s_per_gb", "processes, cpu-s/GB"),
    ("machine_s_per_gb", "machine, cpu-s/GB"),
]


@contextlib.contextmanager
def private_tor() -> Iterator[Up]:
    """Three relays and a client."""
    with tor.Private() as network:
        yield Up(network.lab, network.initiator, network.responder, network.pids)


def fetch(up: Up, name: str, proxy: list[str]) -> dict[str, float]:
    """Fetches a file of the web server; returns what curl measured, seconds and bytes."""
    wanted = ("time_total", "time_starttransfer", "size_download")
    words = ["curl", "-sS", "--max-time", str(STREAM_LIMIT_S), "-o", "/dev/null", *proxy]
    words += ["-w", " ".join(f"%{{{one}}}" for one in wanted), f"http://{RESPONDER}/{name}"]
    done = up.initiator.run(*words, timeout_s=STREAM_LIMIT_S + 5)
    return dict(zip(wanted, map(float, done.stdout.split())))


def turn(up: Up, proxy: list[str], megabytes: int) -> Figures:
    """One turn of one contender."""
    traffic.serve_page(up.lab, up.responder, RESPONDER)
    size = megabytes * 1_000_000
    with open(Path(up.lab.directory) / "site" / "large", "wb") as large:
        large.truncate(size)
    fetch(up, "page.html", proxy)  # makes the AIVT, a circuit
    small = [fetch(up, "page.html", proxy)["time_total"] for _ in range(SMALL_REQUESTS)]
    meter = Meter(up.pids)
    seen = fetch(up, "large", proxy)
    processes, machine = meter.read().per_gb(size)
    if seen["size_download"] != size:
        raise LabError(f"{seen['size_download']:.0f} of {size} bytes came")
    return {
        "mbps": size * 8e-6 / seen["time_total"],
        "first_byte_ms": seen["time_starttransfer"] * 1e3,
        "small_ms": statistics.median(small) * 1e3,
        "processes_s_per_gb": processes,
        "machine_s_per_gb": machine,
    }


def run(rounds: int, megabytes: int) -> None:
    """All turns, the table, the file."""
    contenders = {"ain": (ain, []), "tor": (private_tor, ["--socks5-hostname", f"127.0.0.1:{tor.SOCKS_PORT}"])}
    seen: dict[str, list[Figures]] = {name: [] for name in contenders}
    stolen = steal_seconds()
    for number in range(rounds):
        for name, (start, proxy) in contenders.items():
            with start() as up:
                one = turn(up, proxy, megabytes)
            seen[name].append(one)
            cost = one["machine_s_per_gb"]
            print(f"  round {number + 1}, {name}: {one['mbps']:.0f} Mb/s, {cost:.1f} cpu-s/GB", flush=True)
    figures = {name: report.medians(one) for name, one in seen.items()}
    print("\n" + report.table(list(figures), [(text, [figures[name][key] for name in figures]) for key, text in ROWS]))
    flat = {f"tor.{name}.{key}": value for name, one in figures.items() for key, value in one.items()}
    for measure in ("processes_s_per_gb", "machine_s_per_gb"):
        flat[f"tor.ain_over_tor.{measure}"] = figures["ain"][measure] / figures["tor"][measure]
    flat |= report.machine() | {"tor.steal_s": steal_seconds() - stolen}
    print(f"\nwritten to {report.merge('tor.json', flat)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=40)
    arguments = parser.parse_args()
    sys.exit(entry(functools.partial(run, arguments.rounds, arguments.megabytes), LIMIT_S))
