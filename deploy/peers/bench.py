"""What the comparisons share: a contender that carries traffic, our own one, and the entry point of a script."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from lab import configs, topology
from lab.processes import Fleet, binary
from lab.shell import LabError
from lab.topology import Host, Lab

# Others on the machine shall disturb less than they would.
NICE = -15
MAX_SLEEP_US = 200
# A port's own socket comes before this hook. Without the rule the kernel routes a copy of every packet to nowhere.
NOT_THE_KERNELS = """
add table netdev ain
add chain netdev ain ingress { type filter hook ingress device "eth0" priority 0; }
add rule netdev ain ingress ip protocol { ah, esp } drop
"""


@dataclasses.dataclass(frozen=True)
class Up:
    """A contender that carries traffic; `pids` are the processes that forward, those at both ends included."""

    lab: Lab
    initiator: Host
    responder: Host
    pids: list[int]


@contextlib.contextmanager
def ain() -> Iterator[Up]:
    """Three AINs and both ends, as users of shared cores and interfaces would set them up: sleeps long enough to gather
    bursts, the fast AH algorithm on the hosts' tunnels too, and no second look of the kernel at packets of `ain`.
    """
    network = configs.chain(3)
    network.max_sleep_us = MAX_SLEEP_US
    network.tunnels = [dataclasses.replace(tunnel, ah="aes-128-gmac") for tunnel in network.tunnels]
    with Fleet(network, ain=binary()) as fleet:
        for name in network.hosts:
            fleet.host(name).run("nft", NOT_THE_KERNELS)
        pids = [child.pid for child in fleet.running.values()]
        yield Up(fleet.lab, fleet.host("initiator"), fleet.host("responder"), pids)


def entry(run: Callable[[], None], limit_s: int, prepare: Callable[[], object] | None = None) -> int:
    """Runs a script's `run` with its time limit; `prepare`, such as a build, is before and has limits of its own. Returns the exit
    status.
    """
    for one in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(one, _expired)
    try:
        if os.geteuid() != 0:
            raise LabError("network namespaces need root")
        if prepare is not None:
            prepare()
        signal.alarm(limit_s)
        os.nice(NICE)
        topology.sweep()
        run()
    except LabError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    return 0


def _expired(signum: int, frame: FrameType | None) -> None:
    raise LabError(f"ended by signal {signal.Signals(signum).name}")
