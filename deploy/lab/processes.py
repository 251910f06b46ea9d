"""The `ain` processes of a run: starting them, waiting until they serve, asking them, ending them by pid."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import charon, configs, inner, linux
from .configs import Network, Tunnel
from .inner import Address
from .shell import LabError, inside, run, wait_for
from .topology import Host, InLab, Lab, create, take_from_kernel

ROOT = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 32 << 20
OVERLAP_BYTES = 64


def binary(name: str = "ain") -> Path:
    """One of the programs that `deploy/build.sh` makes: ain, ain-no-onion, ain-tag, ..."""
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "lab" / name
    if not path.exists():
        raise LabError(f"{path} is not there: run deploy/build.sh")
    return path


class Counters(dict[str, float]):
    """One scrape: metric with labels, as in the text format -> value."""

    def total(self, name: str, **labels: str) -> float:
        """Sum over every series of `name` that carries `labels`."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for series, value in self.items()
            if series.partition("{")[0] == name and all(one in series for one in wanted)
        )


def scrape(host: Host) -> Counters:
    """What the node in `host` shows at /metrics."""
    address, port = configs.METRICS.split(":")
    with inside(host.namespace):
        connection = http.client.HTTPConnection(address, int(port), timeout=5)
        connection.connect()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return Counters({series: float(value) for series, value in pairs})


class Fleet(InLab):
    """All processes of one network in one run."""

    def __init__(self, network: Network, name: str | None = None, ain: Path | None = None) -> None:
        self.network = network
        self.ain = ain or binary()
        self.altered: dict[str, Path] = {}  # nodes that run another program
        self.lab: Lab = create(network.hosts, name, network.family)
        if network.taps:
            for node in network.nodes:
                take_from_kernel(self.lab[node])
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.linux: dict[str, linux.Linux] = {}

    def up(self) -> None:
        """Writes the files, starts every process, waits until every PVT is up, every next hop known and every host has its TUN device."""
        configs.write(self.lab, self.network, self.ain)
        for tunnel in self.network.tunnels:
            if tunnel.inner.version == 6:
                inner.enable_ipv6(self.lab[tunnel.host].namespace)
        for name in self.network.processes:
            self.start(name, wait=False)
        for node in self.network.charons:
            charon.configure(self.lab, node, self.ain)
            self.start_charon(node)
        self.linux = linux.boot(self.lab, list(self.network.linux))
        for tunnel in self.network.tunnels:
            self._end_in_kernel(tunnel.node, "--host", tunnel.host)
        for one, other in self.network.links:
            self._end_in_kernel(one, "--neighbour", other)
            self._end_in_kernel(other, "--neighbour", one)
        for name in self.network.processes:
            self.wait_ready(name)

    def _end_in_kernel(self, node: str, kind: str, peer: str) -> None:
        """Gives the tunnel of a node with a Linux to the kernel of the latter."""
        if peer in self.linux:
            words = ["host-config", "--config", str(self.lab.directory / f"{node}.toml"), kind, peer]
            self.linux[peer].script(run([str(self.ain), *words]).stdout)
            if self.network.host_ike and kind == "--host":
                words[0] = "ike-config"
                charon.start_inside(self.linux[peer], run([str(self.ain), *words]).stdout)
            if kind == "--neighbour":
                self.linux[peer].start(f"{linux.CHAT} alive {self.lab[peer].outer} {self.lab[node].outer} & echo $! >alive; wait")

    def host(self, name: str) -> Host:
        """A host by name."""
        return self.linux.get(name) or self.lab[name]

    def tunnel(self, host: str) -> Tunnel:
        """The tunnel of a host by name."""
        return next(tunnel for tunnel in self.network.tunnels if tunnel.host == host)

    def start(self, name: str, wait: bool = True) -> None:
        """Starts the process of a node or a host."""
        verb = "run" if name in self.network.nodes else "endpoint"
        words = [str(self.altered.get(name, self.ain)), verb, "--config", str(self.lab.directory / f"{name}.toml")]
        self.running[name] = self.lab.spawn(self.lab[name], words, name)
        if wait:
            self.wait_ready(name)

    def start_charon(self, node: str) -> None:
        """Starts the charon beside a node."""
        self.running[f"{node}-charon"] = charon.start(self.lab, node)

    def wait_ready(self, name: str, timeout_s: float = 20) -> None:
        """Waits until a node has every PVT up and knows every next hop, or a host has its routes into the TUN device; raises with the
        log's end when its process is gone.
        """
        probe = self._node_ready if name in self.network.nodes else self._host_ready
        try:
            wait_for(f"{name} is ready", lambda: probe(name), timeout_s, 0.1)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_tail(name)}") from error
        if self.network.realtime:
            run(["chrt", "--all-tasks", "--fifo", "--pid", "10", str(self.running[name].pid)])

    def _node_ready(self, name: str) -> bool:
        self._check_alive(name)
        report = json.loads(self.ask(name, "status") or "{}")
        return bool(report) and report["next_hops_unknown"] == 0 and all(one["up"] for one in report["neighbours"])

    def _host_ready(self, name: str) -> bool:
        self._check_alive(name)
        family = inner.of(self.tunnel(name).inner)
        # The routes come after the device, the last of them last.
        last = family.shown[-1] if self.tunnel(name).responder else str(family.exit_prefix)
        words = ["ip", "-j", f"-{family.responder.version}", "route", "show", last, "dev", configs.TUN]
        shown = self.lab[name].run(*words, check=False)
        return shown.returncode == 0 and len(json.loads(shown.stdout or "[]")) > 0

    def _check_alive(self, name: str) -> None:
        if self.running[name].poll() is not None:
            raise LabError(f"{name} ended with status {self.running[name].returncode}")

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The end of a process's log."""
        log = self.lab.directory / f"{name}.log"
        return f"--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self, name: str) -> None:
        """Ends a process as a crash would."""
        self.lab.stop(self.running.pop(name), signal.SIGKILL)

    def stop(self, name: str) -> int:
        """Asks a process to end; returns its exit status."""
        return self.lab.stop(self.running.pop(name))

    def reload(self, name: str) -> subprocess.CompletedProcess[str]:
        """What `ain reload` says of a node or a host."""
        words = [str(self.ain), "reload", "--config", str(self.lab.directory / f"{name}.toml")]
        return self.host(name).run(*words, check=False)

    def close_aivt(self, host: str, source: Address, destination: Address) -> subprocess.CompletedProcess[str]:
        """What `ain endpoint --close` says in `host`."""
        words = [str(self.ain), "endpoint", "--config", str(self.lab.directory / f"{host}.toml")]
        return self.host(host).run(*words, "--close", str(source), str(destination), check=False)

    def ask(self, node: str, request: str) -> str | None:
        """The answer of a node's admin socket, or `None` while it has none."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(configs.admin_socket(self.lab.directory, node)))
                connection.sendall(request.encode())
                connection.shutdown(socket.SHUT_WR)
                mark, _, text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode().partition("\n")
        except OSError:
            return None
        return text if mark == "ok" else None

    def dump(self, node: str) -> str:
        """All tables of a node, in text form; only the test build gives them."""
        text = self.ask(node, "dump")
        if not text:
            raise LabError(f"{node} gave no dump: is it the build of deploy/build.sh?")
        return text

    def counters(self, node: str) -> Counters:
        """Scrapes a node."""
        return scrape(self.lab[node])

    def cells(self, node: str, direction: str | None = None) -> float:
        """Cells a node has moved in its parts of AIVTs, forward, backward or both."""
        counters, ways = self.counters(node), [direction] if direction else ["forward", "backward"]
        roles = ("entrance", "intermediate", "exit")
        return sum(counters.total("ain_packets_total", role=role, direction=way) for role in roles for way in ways)

    def drops(self, node: str, reason: str | None = None) -> float:
        """Packets a node has lost, for one reason or all but the one that is the kernel's business."""
        counters = self.counters(node)
        if reason:
            return counters.total("ain_drops_total", reason=reason)
        return counters.total("ain_drops_total") - counters.total("ain_drops_total", reason="for_the_kernel")

    def aivts(self, node: str) -> float:
        """AIVTs that stand at a node."""
        return self.counters(node).total("ain_aivts", state="standing")

    def signals(self, node: str, way: str, kind: str | None = None) -> float:
        """Signals a node has "sent" or "received", of one kind (create, created, destroy, keepalive, ...) or all."""
        labels = {"kind": kind} if kind else {}
        return self.counters(node).total(f"ain_signals_{way}_total", **labels)

    def memory(self, name: str) -> Iterator[bytes]:
        """Everything a process holds in memory, packet buffers included, in overlapping pieces."""
        pid = self.running[name].pid
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for start, end in _resident(Path(f"/proc/{pid}/smaps")):
                for at in range(start, end, CHUNK_BYTES):
                    try:
                        memory.seek(at)
                        yield memory.read(min(end - at, CHUNK_BYTES + OVERLAP_BYTES))
                    except OSError:  # unmapped meanwhile, or the kernel's own ([vvar])
                        continue


def _resident(smaps: Path) -> Iterator[tuple[int, int]]:
    """The mappings that hold pages. The EAL reserves far more addresses than it uses."""
    start = end = 0
    for line in smaps.read_text().splitlines():
        word, *rest = line.split()
        if "-" in word and not word.endswith(":"):
            start, end = (int(edge, 16) for edge in word.split("-"))
        elif word in ("Rss:", "Shared_Hugetlb:", "Private_Hugetlb:") and int(rest[0]) > 0:
            yield start, end
