"""Three nested userspace WireGuard tunnels: the initiator wraps three times, each node takes one off.

    initiator                     ain1            ain2            ain3          responder
    user -> w3 -> w2 -> w1 -> eth0
                        [1[2[3 ]]]  w1 -> eth0
                                       [2[3 ]]    w2 -> eth0
                                                     [3 ]         w3 -> eth0
                                                                     plain      eth0

The outer packet of a tunnel is the inner one of the tunnel before. Its source is the initiator's address in that tunnel,
which the next node reaches through the node before; so nothing is translated. Keys are drawn anew every time.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.configs import EXIT_PREFIX, RESPONDER
from lab.shell import LabError, inside, run, wait_for
from lab.topology import Host, InLab, Lab, create

NODES = ("ain1", "ain2", "ain3")
PORT = 51820
# IPv4, UDP and WireGuard's own header and tag.
OVERHEAD = 20 + 8 + 32
OUTER_MTU = 1500
SOCKETS = Path("/var/run/wireguard")


@dataclass(frozen=True)
class Implementation:
    """A userspace WireGuard: its name, and the command that makes the device `{device}` and stays in the foreground."""

    name: str
    command: tuple[str, ...]


def implementations(cargo_root: Path) -> list[Implementation]:
    """Those that this machine has; `boringtun-cli` also from below `cargo_root`."""
    boringtun = shutil.which("boringtun-cli") or shutil.which("boringtun-cli", path=cargo_root / "bin")
    found = []
    if boringtun:
        found.append(Implementation("boringtun", (boringtun, "-f", "--disable-drop-privileges", "{device}")))
    if shutil.which("wireguard-go"):
        found.append(Implementation("wireguard-go", ("wireguard-go", "-f", "{device}")))
    return found


class Nested(InLab):
    """The whole network."""

    def __init__(self, implementation: Implementation) -> None:
        self.implementation = implementation
        self.lab: Lab = create(["initiator", *NODES, "responder"])
        self.running: list[subprocess.Popen[bytes]] = []
        self.devices: list[str] = []

    def close(self) -> None:
        """Ends everything, and removes the control sockets that killed processes leave."""
        for child in self.running:
            self.lab.stop(child)
        self.lab.close()
        for device in self.devices:
            (SOCKETS / f"{device}.sock").unlink(missing_ok=True)

    @property
    def initiator(self) -> Host:
        """Where the user is."""
        return self.lab["initiator"]

    @property
    def responder(self) -> Host:
        """What the user talks to."""
        return self.lab["responder"]

    @property
    def pids(self) -> list[int]:
        """Every WireGuard process, those of the initiator included."""
        return [child.pid for child in self.running]

    def up(self) -> None:
        """Devices, keys, addresses and routes, from the outermost tunnel to the innermost."""
        for layer, node in enumerate(NODES, start=1):
            self._tunnel(layer, self.lab[node])
        innermost = self._device("i", len(NODES))
        self._ip(self.initiator, "route", "add", str(EXIT_PREFIX), "dev", innermost)
        self._ip(self.responder, "address", "add", f"{RESPONDER}/32", "dev", "lo")
        last = self.lab[NODES[-1]]
        self._ip(last, "route", "add", str(RESPONDER), "via", str(self.responder.outer))
        self._ip(self.responder, "route", "add", f"{inner(len(NODES), 2)}/32", "via", str(last.outer))

    def _tunnel(self, layer: int, node: Host) -> None:
        ends = ((self.initiator, self._device("i", layer)), (node, self._device("n", layer)))
        keys = [run(["wg", "genkey"]).stdout.strip() for _ in ends]
        for (host, device), key in zip(ends, keys):
            words = [word.format(device=device) for word in self.implementation.command]
            self.running.append(self.lab.spawn(host, words, device))
            self.devices.append(device)
            self._await(host, device)
            self._wg(host, device, key, "listen-port", str(PORT + layer), "private-key", "/dev/stdin")
        (_, device), (_, far) = ends
        towards = [
            "endpoint",
            f"{node.outer}:{PORT + layer}",
            "allowed-ips",
            "0.0.0.0/0",
        ]
        self._wg(self.initiator, device, "", "peer", public(keys[1]), *towards)
        self._wg(node, far, "", "peer", public(keys[0]), "allowed-ips", f"{inner(layer, 2)}/32")
        for (host, name), last in zip(ends, (2, 1)):
            self._ip(host, "address", "add", f"{inner(layer, last)}/24", "dev", name)
            self._ip(host, "link", "set", name, "mtu", str(OUTER_MTU - layer * OVERHEAD), "up")
        with inside(node.namespace):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        if layer > 1:
            before = self.lab[NODES[layer - 2]]
            outside = self._device("i", layer - 1)
            self._ip(self.initiator, "route", "add", f"{node.outer}/32", "dev", outside, "src", inner(layer - 1, 2))
            self._ip(node, "route", "add", f"{inner(layer - 1, 2)}/32", "via", str(before.outer))

    def _device(self, side: str, layer: int) -> str:
        """Unique on the machine: the control sockets of all namespaces lie in one folder."""
        return f"w{self.lab.name}{side}{layer}"

    def _await(self, host: Host, device: str) -> None:
        def there() -> bool:
            if self.running[-1].poll() is not None:
                log = (self.lab.directory / f"{device}.log").read_text(errors="replace")
                raise LabError(f"{self.implementation.name} ended: {log[-500:]}")
            return host.run("ip", "link", "show", device, check=False).returncode == 0 and self._answers(host, device)

        wait_for(f"{device} is there", there)

    @staticmethod
    def _answers(host: Host, device: str) -> bool:
        return host.run("wg", "show", device, "listen-port", check=False).returncode == 0

    def _wg(self, host: Host, device: str, stdin: str, *words: str) -> None:
        done = subprocess.run(
            host.command("wg", "set", device, *words), input=stdin, capture_output=True, text=True, timeout=10
        )
        if done.returncode:
            raise LabError(f"wg set {device}: {done.stderr}")

    @staticmethod
    def _ip(host: Host, *words: str) -> None:
        run(["ip", "-n", host.namespace, *words])


def inner(layer: int, last: int) -> str:
    """Address inside a tunnel: .1 is the node, .2 the initiator."""
    return f"10.77.{layer}.{last}"


def public(private: str) -> str:
    """The public half of a key."""
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()
