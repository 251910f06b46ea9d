#!/usr/bin/python3
"""What a user loses when AINs fail: each in turn is killed, stopped, cut off and restarted under TCP and a ping a millisecond.

    bench_failures.py [--cases NAME ...]

                            ain2
    diamond    initiator - ain1   ain3 - responder       the AIN between that fails is the one in use, `middle`
                            ain4

Prints a table: the longest time without an answer, pings lost of those sent, what TCP moved, and what was left over when the traffic
had ended. What is killed, stopped or cut off is so for 8 s, what is restarted for as long as that takes.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab import configs, traffic
from lab.configs import RESPONDER
from lab.processes import Fleet
from lab.shell import LabError, wait_for

PING_S = 40
FAIL_AFTER_S = 5
OUTAGE_S = 8
INACTIVITY_S = 15
# A fourth rebuild waits until a minute after the first attempt.
BACK_S = 90


def kill(fleet: Fleet, node: str) -> None:
    """Dies at once and is started again after the outage."""
    fleet.kill(node)
    time.sleep(OUTAGE_S)
    fleet.start(node, wait=False)


def restart(fleet: Fleet, node: str) -> None:
    """Goes down in order, and is back as soon as it can be."""
    fleet.stop(node)
    fleet.start(node, wait=False)


def stop(fleet: Fleet, node: str) -> None:
    """Does nothing for a while, and then goes on."""
    fleet.running[node].send_signal(signal.SIGSTOP)
    time.sleep(OUTAGE_S)
    fleet.running[node].send_signal(signal.SIGCONT)


def cut(fleet: Fleet, node: str) -> None:
    """Its leg at the bridge is down for a while."""
    for state, wait_s in (("down", OUTAGE_S), ("up", 0)):
        subprocess.run(["ip", "-n", fleet.lab.inet, "link", "set", node, state], check=True, timeout=10)
        time.sleep(wait_s)


WAYS: dict[str, Callable[[Fleet, str], None]] = {"kill": kill, "stop": stop, "cut": cut, "restart": restart}
PLACES = ("ain1", "middle", "ain3")


@dataclass(frozen=True)
class Loss:
    """What pings saw: how many were sent and not answered, and the longest time without an answer."""

    sent: int
    lost: int
    silence_s: float


def pings(fleet: Fleet, found: list[Loss]) -> None:
    """A ping a millisecond to the responder."""
    words = ["ping", "-n", "-D", "-i", "0.001", "-w", str(PING_S), "-s", "16", str(RESPONDER)]
    began = time.time()
    done = fleet.host("initiator").run(*words, timeout_s=PING_S + 20, check=False)
    answers = [line for line in done.stdout.splitlines() if "ttl=" in line]
    answered = {line.split("icmp_seq=")[1].split()[0] for line in answers}
    times = [began, *(float(line[1:].partition("]")[0]) for line in answers), began + PING_S]
    sent = int(done.stdout.split(" packets transmitted")[0].split()[-1])
    silence_s = max(after - before for before, after in zip(times, times[1:], strict=False))
    found.append(Loss(sent, sent - len(answered), silence_s))


def tcp(fleet: Fleet, moved: list[str]) -> None:
    """One TCP stream for as long as the pings go."""
    try:
        done = traffic.iperf(fleet.lab, fleet.host("initiator"), fleet.host("responder"), RESPONDER, PING_S - 2)
        moved.append(f"{done.mbps:.1f} Mb/s")
    except LabError:
        moved.append("broken off")


def case(way: str, place: str) -> str:
    """One line of the table."""
    network = configs.diamond()
    network.inactivity_s = INACTIVITY_S
    network.realtime = True
    with Fleet(network) as fleet:
        assert traffic.ping(fleet.host("initiator"), RESPONDER, 5).received == 5
        node = max(("ain2", "ain4"), key=fleet.cells) if place == "middle" else place
        found: list[Loss] = []
        moved: list[str] = []
        users = [threading.Thread(target=tcp, args=(fleet, moved)), threading.Thread(target=pings, args=(fleet, found))]
        for user in users:
            user.start()
        time.sleep(FAIL_AFTER_S)
        WAYS[way](fleet, node)
        for user in users:
            user.join()
        wait_for("it works again", lambda: traffic.ping(fleet.host("initiator"), RESPONDER, 1).received == 1, BACK_S, 1)
        wait_for("nothing is left over", lambda: left(fleet) == 0, 3 * INACTIVITY_S, 1)
        [loss] = found
        pinged = f"{1000 * loss.silence_s:11.0f} {loss.lost:7} {loss.sent:7}"
        return f"{way:8} {place:7} {pinged}   {moved[0]:>12}   {left(fleet):.0f}"


def left(fleet: Fleet) -> float:
    """Parts of AIVTs on all AINs."""
    return sum(fleet.counters(node).total("ain_aivts") for node in fleet.network.nodes)


def main() -> None:
    """Runs the cases asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [f"{way}-{place}" for way in WAYS for place in PLACES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="NAME")
    print(f"{'failure':8} {'AIN':7} {'silence, ms':>11} {'lost':>7} {'pings':>7}   {'TCP':>12}   left over", flush=True)
    for name in parser.parse_args().cases:
        print(case(*name.split("-")), flush=True)


if __name__ == "__main__":
    sys.exit(main())
