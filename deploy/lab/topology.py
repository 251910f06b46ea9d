"""Hosts in network namespaces, joined by one bridge that stands for the Internet.

      initiator     ain1      ain2      ain3    responder
      eth0 .101    eth0 .1   eth0 .2   eth0 .3  eth0 .201        192.0.2.0/24 or, of family 6, 2001:db8:a1::/64 with the
          |           |         |         |         |            same numbers; MTU 1500, no offloads
      ----+-----------+---------+---------+---------+----        br0 in namespace `inet`, a port a host

Namespaces are called ain-RUN-HOST. A run's directory /run/ain-lab/RUN holds its logs, configurations and captures,
and a lock that its owner holds: a run whose lock is free was left behind by a crash and the next start sweeps it.
Nothing is made outside namespaces and that directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import IO, Self

from .inner import FAMILY, Address
from .shell import LabError, inside, run, wait_for

RUNS = Path("/run/ain-lab")
OUTER: dict[int, IPv4Network | IPv6Network] = {4: IPv4Network("192.0.2.0/24"), 6: IPv6Network("2001:db8:a1::/64")}
MTU = 1500
INET = "inet"


@dataclass(frozen=True)
class Host:
    """One host and its leg at the bridge."""

    name: str
    namespace: str
    outer: Address
    mac: str

    def command(self, *words: str) -> list[str]:
        """`words` as a command that runs in this host."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, *words: str, timeout_s: float = 20, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in this host to its end."""
        return run(self.command(*words), timeout_s, check)


@dataclass
class Lab:
    """One run: its directory, its hosts and the processes started in them."""

    name: str
    directory: Path
    family: int = FAMILY
    lock: IO[str] | None = None
    hosts: dict[str, Host] = field(default_factory=dict)
    children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def inet(self) -> str:
        """Namespace of the bridge."""
        return namespace_of(self.name, INET)

    def spawn(self, host: Host | None, words: list[str], log: str) -> subprocess.Popen[bytes]:
        """Starts a process in `host` (the bridge's namespace if `None`), output appended to LOG.log in the run's
        directory.
        """
        namespace = host.namespace if host else self.inet
        with open(self.directory / f"{log}.log", "ab") as out:
            child = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children[child.pid] = child
        return child

    def stop(self, child: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, timeout_s: float = 10) -> int:
        """Sends `how` to one of our processes and waits for its end; SIGKILL when it does not come."""
        if child.poll() is None:
            child.send_signal(how)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout_s)
        self.children.pop(child.pid, None)
        return child.returncode

    def close(self) -> None:
        """Ends every process and removes the namespaces. Logs and captures stay until the name is used again or
        swept.
        """
        sweep_namespaces(self.name)
        for child in list(self.children.values()):
            self.stop(child)
        if self.lock:
            self.lock.close()


def namespace_of(run_name: str, host: str) -> str:
    """Name of a host's namespace."""
    return f"ain-{run_name}-{host}"


def outer_of(host: str, family: int = FAMILY) -> Address:
    """Outer address by name: ain1 has number 1, initiator (or initiator1) 101, responder 201."""
    kind = host.rstrip("0123456789")
    number = int(host[len(kind) :] or 1)
    return OUTER[family][{"ain": 0, "initiator": 100, "responder": 200}[kind] + number]


def mac_of(address: Address) -> str:
    """A locally administered address that ends like the IP address."""
    return f"02:00:00:00:00:{int(address) & 0xFF:02x}"


class InLab:
    """Something that runs in a laboratory of its own: `with` brings it up and takes the laboratory down, also when it
    never came up.
    """

    lab: Lab

    def up(self) -> None:
        """Starts everything and waits until it is ready."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends everything."""
        self.lab.close()

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create(hosts: list[str], name: str | None = None, family: int = FAMILY) -> Lab:
    """Makes the bridge and the hosts, whose outer addresses are of `family`. `name` is drawn at random if not given; a
    run of the same name is taken down first.
    """
    if os.geteuid() != 0:
        raise LabError("network namespaces need root")
    name = name or secrets.token_hex(3)
    sweep_namespaces(name)
    directory = RUNS / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    lock = open(directory / "lock", "w")  # noqa: SIM115 (held as long as the run)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (directory / "family").write_text(str(family))
    lab = Lab(name, directory, family, lock)
    try:
        _make_namespace(lab.inet)
        _bridge_only(lab.inet)
        run(["ip", "-n", lab.inet, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])
        run(["ip", "-n", lab.inet, "link", "set", "br0", "up"])
        for host in hosts:
            lab.hosts[host] = _join(lab, host)
    except BaseException:
        lab.close()
        raise
    return lab


def attach(name: str) -> Lab:
    """An existing run as another process made it, to look into it or to use its hosts; its processes are not children
    of ours.
    """
    if not (RUNS / name).is_dir():
        raise LabError(f"there is no run {name}")
    prefix = namespace_of(name, "")
    hosts = [n.removeprefix(prefix) for n in namespaces() if n.startswith(prefix)]
    lab = Lab(name, RUNS / name, int((RUNS / name / "family").read_text()))
    lab.hosts = {h: _host(lab, h) for h in hosts if h != INET}
    return lab


def take_from_kernel(host: Host) -> None:
    """Has the host's kernel see nothing of eth0 any more, as of a NIC that is bound to a user-space driver: no address, no ARP, and what
    comes in is dropped behind the packet sockets.
    """
    host.run("ip", "address", "flush", "dev", "eth0")
    host.run("ip", "link", "set", "eth0", "arp", "off")
    with inside(host.namespace):
        Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("1")
    chain = '{ type filter hook ingress device "eth0" priority 0; policy drop; }'
    host.run("nft", f"add table netdev bound; add chain netdev bound in {chain}")


@contextlib.contextmanager
def topology(hosts: list[str], family: int = FAMILY) -> Iterator[Lab]:
    """`create` for a block; the run goes down at its end."""
    lab = create(hosts, family=family)
    try:
        yield lab
    finally:
        lab.close()


def namespaces() -> list[str]:
    """Names of all network namespaces of the machine."""
    return [entry["name"] for entry in json.loads(run(["ip", "-j", "netns", "list"]).stdout or "[]")]


def sweep_namespaces(name: str) -> None:
    """Kills, pid by pid, what runs in the namespaces of run `name`, then removes these."""
    mine = [n for n in namespaces() if n.startswith(namespace_of(name, ""))]

    def alive() -> list[int]:
        return [int(p) for n in mine for p in run(["ip", "netns", "pids", n], check=False).stdout.split()]

    def all_gone() -> bool:
        for pid in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return not alive()

    wait_for(f"the processes of run {name} end", all_gone)
    for namespace in mine:
        run(["ip", "netns", "del", namespace])


def sweep() -> None:
    """Removes every run that a crash left behind: its lock is free and nobody asked to keep it."""
    for directory in RUNS.glob("*"):
        if (directory / "keep").exists() or not (directory / "lock").exists():
            continue
        with open(directory / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            sweep_namespaces(directory.name)
            shutil.rmtree(directory, ignore_errors=True)


def _make_namespace(namespace: str) -> None:
    run(["ip", "netns", "add", namespace])
    # IPv6 off wherever nothing needs it: the kernel's listener reports would be noise in every capture.
    with inside(namespace):
        for kind in ("all", "default"):
            Path(f"/proc/sys/net/ipv6/conf/{kind}/disable_ipv6").write_text("1")
    run(["ip", "-n", namespace, "link", "set", "lo", "up"])


def _bridge_only(namespace: str) -> None:
    """Keeps the bridge from showing IP packets to the firewall: the Internet it stands for does not either."""
    with inside(namespace):
        for switch in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
            switch.write_text("0")


def _host(lab: Lab, host: str) -> Host:
    outer = outer_of(host, lab.family)
    return Host(host, namespace_of(lab.name, host), outer, mac_of(outer))


def _neighbour_discovery(host: Host) -> None:
    """Lets the leg have IPv6 addresses at once: no duplicate can be there, no router is asked for."""
    with inside(host.namespace):
        for switch, value in (("accept_dad", 0), ("accept_ra", 0), ("router_solicitations", 0), ("disable_ipv6", 0)):
            Path(f"/proc/sys/net/ipv6/conf/eth0/{switch}").write_text(str(value))


def _join(lab: Lab, name: str) -> Host:
    host = _host(lab, name)
    _make_namespace(host.namespace)
    run(
        [
            "ip",
            "-n",
            host.namespace,
            "link",
            "add",
            "eth0",
            "address",
            host.mac,
            "mtu",
            str(MTU),
            "type",
            "veth",
            "peer",
            "name",
            name,
            "mtu",
            str(MTU),
            "netns",
            lab.inet,
        ]
    )
    # Offloads would show captures and af_packet ports giant packets with partial checksums.
    for namespace, interface in ((host.namespace, "eth0"), (lab.inet, name)):
        run(
            [
                "ip",
                "netns",
                "exec",
                namespace,
                "ethtool",
                "-K",
                interface,
                "tx",
                "off",
                "gso",
                "off",
                "tso",
                "off",
                "gro",
                "off",
            ]
        )
    run(["ip", "-n", lab.inet, "link", "set", name, "master", "br0", "up"])
    if lab.family == 6:
        _neighbour_discovery(host)
    net = f"{host.outer}/{OUTER[lab.family].prefixlen}"
    run(["ip", "-n", host.namespace, "address", "add", net, "dev", "eth0"])
    run(["ip", "-n", host.namespace, "link", "set", "eth0", "up"])
    return host
