"""A node that a packet generator feeds: packets and files made by `ain-bench pcap`, replayed by DPDK's net_pcap into the
node itself, over and over, from memory; what the node sends is dropped by the driver.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .processes import Counters, binary, scrape
from .shell import LabError, run, wait_for
from .topology import Host, InLab, Lab, create

HOST = "ain1"


class Replay(InLab):
    """One node and its generator. `options` are those of `ain-bench pcap`."""

    def __init__(self, *options: str) -> None:
        self.lab: Lab = create([HOST])
        self.directory: Path = self.lab.directory / "replay"
        self.options = options
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> Host:
        """Where the node runs."""
        return self.lab[HOST]

    @property
    def pid(self) -> int:
        """The node's process."""
        if self.child is None:
            raise LabError("no node runs")
        return self.child.pid

    def up(self) -> None:
        """Makes packets and files, then starts the node and waits until it moves packets."""
        run([str(binary("ain-bench")), "pcap", *self.options, str(self.directory)], timeout_s=60)
        self.host.run("ip", "address", "add", "10.0.0.1/8", "dev", "eth0")
        self.host.run("sh", str(self.directory / "neighbours.sh"))
        words = [str(binary()), "run", "--config", str(self.directory / "ain.toml")]
        self.child = self.lab.spawn(self.host, words, "node")
        try:
            wait_for("the node moves packets", self._moves, 30, 0.2)
        except LabError as error:
            raise LabError(f"{error}\n{self.log[-2000:]}") from error

    @property
    def log(self) -> str:
        """What the node wrote."""
        return (self.lab.directory / "node.log").read_text(errors="replace")

    def counters(self) -> Counters:
        """Scrapes the node."""
        return scrape(self.host)

    def status(self) -> str:
        """`ain status`."""
        return run([str(binary()), "status", "--socket", str(self.directory / "ain.sock")]).stdout

    def _moves(self) -> bool:
        if self.child is None or self.child.poll() is not None:
            raise LabError("the node ended")
        try:
            return sent(self.counters()) > 0
        except OSError:
            return False


def sent(counters: Counters) -> float:
    """Packets handed to the port."""
    return counters.total("ain_port_total", counter="tx_packets")


def received(counters: Counters) -> float:
    """Packets taken from the port."""
    return counters.total("ain_port_total", counter="rx_packets")


def lost(counters: Counters) -> float:
    """Packets dropped for whatever reason, at the port included."""
    at_port = sum(counters.total("ain_port_total", counter=name) for name in ("rx_dropped", "tx_dropped"))
    return counters.total("ain_drops_total") + at_port
