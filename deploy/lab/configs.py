"""Keys and TOML files of a whole network: one file a node, one a host, one directory for all.

    chain      initiator - ain1 - ain2 - ain3 - responder

                            ain2
    diamond    initiator - ain1   ain3 - responder       two disjoint paths from ain1 to ain3
                            ain4
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from . import credentials, inner
from .inner import FAMILY, Address
from .shell import run
from .topology import MTU, OUTER, Lab, outer_of

KEY_BYTES = {
    "hmac-sha2-256-128": 32,
    "aes-128-gmac": 20,
    "aes-cmac-96": 16,
    "aes-128-gcm-16": 20,
    "aes-256-gcm-16": 36,
}
PRIVATE = inner.FAMILIES[inner.FAMILY].private
RESPONDER = inner.FAMILIES[inner.FAMILY].responder
EXIT_PREFIX = inner.FAMILIES[inner.FAMILY].exit_prefix
METRICS = "127.0.0.1:9797"
TUN = "ain0"
TAP = "wan0"


@dataclass(frozen=True)
class Tunnel:
    """A host and the AIN it has its tunnel with."""

    host: str
    node: str
    inner: inner.Address
    responder: bool = False
    more: tuple[inner.Address, ...] = ()  # inner addresses that the host has too
    option: str = "random-private"
    ah: str = "hmac-sha2-256-128"
    esp: str = "aes-128-gcm-16"
    esn: bool = True
    inner_mtu: int = 1386
    host_mtu: int = 0  # what the host takes it for, if that is something else

    @property
    def role(self) -> str:
        """As the files have it."""
        return "responder" if self.responder else "initiator"

    @property
    def inners(self) -> tuple[inner.Address, ...]:
        """All inner addresses of the host."""
        return (self.inner, *self.more)


@dataclass
class Network:
    """What is to be built. `links` are the PVTs; the hosts in `by_hand` exist, but a test plays them."""

    links: list[tuple[str, str]]
    tunnels: list[Tunnel]
    inactivity_s: int = 300
    path_nodes: int = 3
    ah: str = "aes-128-gmac"
    suite: int = 3
    onion_key_period_s: int = 86_400
    families: dict[str, str] = field(default_factory=dict)  # by node
    tickets: str = "wallet = 0"  # section of every node: fetching them makes AIVTs that tests would have to tell from users'
    tickets_of: dict[str, str] = field(default_factory=dict)  # the same by node, where it is another
    ticket_slice_s: int = 3600
    memory_mib: int = 96
    huge: bool | str = "auto"
    max_sleep_us: int = 50
    workers: int = 1
    device: str = "net_af_packet0,iface=eth0,blocksz=65536,framesz=2048,framecnt=2048,qdisc_bypass=1"
    taps: bool = False  # the nodes' kernels have taps instead of eth0, which only the driver sees
    mtu: int = MTU
    crypto: dict[str, str] = field(default_factory=dict)  # by node; "auto" for the others
    by_hand: tuple[str, ...] = ()
    linux: tuple[str, ...] = ()  # hosts and nodes in whose place stands a Linux of its own kernel
    outsiders: tuple[str, ...] = ()  # ordinary hosts, in which no process of ours runs
    sections: dict[str, str] = field(default_factory=dict)  # more of a node's file, by node
    exit_prefixes: dict[str, list[str]] = field(default_factory=dict)  # other ones than its responders', by node
    rate: int | None = None  # of every PVT, packets a second
    host_rate: int | None = None  # of every host tunnel
    realtime: bool = False  # processes go before all others of the machine, as on cores of their own
    family: int = FAMILY  # of the outer addresses
    ike: str = ""  # how AINs prove to each other who they are, "psk" or "cert", whose charons make the keys of PVTs; empty: by hand
    ecdsa: bool = False  # of certificates; EdDSA otherwise
    host_ike: bool = False  # whether hosts and AINs do so too, by pre-shared keys
    rekey_s: int = 3600  # age of such keys
    spi: int = 0x1000
    keys: dict[tuple[str, str, str], tuple[int, str]] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        """The AINs, in order."""
        return sorted({node for link in self.links for node in link} | {tunnel.node for tunnel in self.tunnels})

    @property
    def interface(self) -> str:
        """The kernel's interface of a node's port."""
        return TAP if self.taps else "eth0"

    @property
    def hosts(self) -> list[str]:
        """Every namespace needed."""
        return self.nodes + [tunnel.host for tunnel in self.tunnels] + list(self.outsiders)

    @property
    def processes(self) -> list[str]:
        """Every namespace in which a process of ours runs, nodes first."""
        return [host for host in self.hosts if host not in self.by_hand + self.linux + self.outsiders]

    @property
    def charons(self) -> list[str]:
        """The AINs beside which a charon runs."""
        mine = {tunnel.node for tunnel in self.tunnels} if self.host_ike else set()
        return self.nodes if self.ike else sorted(mine)

    def outer(self, host: str) -> Address:
        """Outer address of a host."""
        return outer_of(host, self.family)

    def sa(self, protocol: str, algorithm: str, sender: str, receiver: str) -> str:
        """The SA of one direction as an inline table: drawn at first use, the same for both ends."""
        place = (protocol, sender, receiver)
        if place not in self.keys:
            self.spi += 1
            self.keys[place] = (self.spi, secrets.token_hex(KEY_BYTES[algorithm]))
        spi, key = self.keys[place]
        return f'{{ spi = {spi}, key = "{key}" }}'

    def renew(self, one: str, other: str) -> None:
        """Forgets the keys of a tunnel: the next files have others."""
        self.keys = {place: sa for place, sa in self.keys.items() if {one, other} != set(place[1:])}

    def keys_of(self, own: str, other: str, ah: str, esp: str, auth: str) -> str:
        """Whence a tunnel's keys are, seen from `own`."""
        if not auth:
            return self.four_sas(own, other, ah, esp)
        file = f', psk_file = "{psk_file(own, other)}"' if auth == "psk" else ""
        return f'ike = {{ auth = "{auth}"{file} }}'

    def four_sas(self, own: str, other: str, ah: str, esp: str) -> str:
        """The four SAs of a tunnel, seen from `own`."""
        return "\n".join(
            [
                f"ah_in = {self.sa('ah', ah, other, own)}",
                f"ah_out = {self.sa('ah', ah, own, other)}",
                f"esp_in = {self.sa('esp', esp, other, own)}",
                f"esp_out = {self.sa('esp', esp, own, other)}",
            ]
        )


def chain(
    count: int = 3, option: str = "random-private", inactivity_s: int = 300, inner_family: int = inner.FAMILY
) -> Network:
    """`count` AINs in a row, an initiator at the first and a responder at the last."""
    nodes = [f"ain{i}" for i in range(1, count + 1)]
    return Network(list(pairwise(nodes)), ends("ain1", nodes[-1], option, inner_family), inactivity_s, count)


def diamond() -> Network:
    """Four AINs: from ain1 to ain3 by way of ain2 or of ain4."""
    links = [("ain1", "ain2"), ("ain2", "ain3"), ("ain1", "ain4"), ("ain4", "ain3")]
    return Network(links, ends("ain1", "ain3"))


def ends(
    entrance: str, exit_node: str, option: str = "random-private", inner_family: int = inner.FAMILY
) -> list[Tunnel]:
    """One initiator, one responder."""
    family = inner.FAMILIES[inner_family]
    return [
        Tunnel("initiator", entrance, family.private, option=option),
        Tunnel("responder", exit_node, family.responder, responder=True),
    ]


def write(lab: Lab, network: Network, ain: Path) -> None:
    """Writes every file of `network` into the run's directory."""
    drafts = {}
    if network.ike or network.host_ike:
        credentials.write(lab.directory, network)
    for node in network.nodes:
        exits = [str(inner.of(one).exit_prefix) for t in network.tunnels if t.responder and t.node == node for one in t.inners]
        printed = make_keys(lab.directory, node, network.outer(node), ain)
        drafts[node] = directory_entry(network, node, printed, exits)
        write_one(lab, network, node)
    sign(lab.directory, drafts, ain)
    for tunnel in network.tunnels:
        write_one(lab, network, tunnel.host)


def write_one(lab: Lab, network: Network, name: str) -> Path:
    """Writes the file of a node or a host."""
    path, tunnels = lab.directory / f"{name}.toml", {tunnel.host: tunnel for tunnel in network.tunnels}
    write_private(path, endpoint_file(network, tunnels[name]) if name in tunnels else node_file(network, name))
    return path


def sign(directory: Path, drafts: dict[str, str], ain: Path) -> None:
    """Has every node sign its draft, as the operators of a network would, and publishes the directory."""
    publish(directory, drafts.values())
    words = [str(ain), "--log", "error", "entry", "--config"]
    publish(directory, [run([*words, str(directory / f"{node}.toml")]).stdout for node in drafts])


def publish(directory: Path, entries: Iterable[str]) -> None:
    """Puts entries together into the directory of all nodes, which never see half a file."""
    new = directory / "directory.toml.new"
    write_private(new, "\n".join(entries))
    new.rename(directory / "directory.toml")


def collect(directory: Path, nodes: Iterable[str]) -> list[str]:
    """The entries that running nodes have written: what operators pass on after a key has changed."""
    return [(directory / node / "state" / "entry.toml").read_text() for node in nodes]


def node_file(network: Network, node: str) -> str:
    """Configuration of one AIN."""
    cores = sorted(os.sched_getaffinity(0))
    first = network.nodes.index(node)
    own = sorted({cores[(first + worker) % len(cores)] for worker in range(network.workers)})
    parts = [
        f"""
[node]
name = "{node}"
identity_key_file = "{node}/identity.key"
directory = "directory.toml"
state_dir = "{node}/state"
admin_socket = "{node}/ain.sock"
metrics = "{METRICS}"

[network]
suite = {network.suite}
inactivity_s = {network.inactivity_s}
onion_key_period_s = {network.onion_key_period_s}
ticket_slice_s = {network.ticket_slice_s}
min_path_nodes = {network.path_nodes}
max_path_nodes = {network.path_nodes}

[tickets]
{network.tickets_of.get(node, network.tickets)}

[dpdk]
memory_mib = {network.memory_mib}
huge = {json.dumps(network.huge)}

[workers]
cores = {own}
idle = "adaptive"
max_sleep_us = {network.max_sleep_us}
crypto = "{network.crypto.get(node, "auto")}"

[[ports]]
name = "wan"
device = "{network.device}"
interface = "{network.interface}"
kernel = "{"tap" if network.taps else "shared"}"
address = "{network.outer(node)}/{OUTER[network.family].prefixlen}"
mtu = {network.mtu}
"""
    ]
    if network.ike or network.host_ike:
        parts.append(credentials.section(network, node))
    parts += [neighbour(network, node, other) for other in neighbours(network, node)]
    parts += [host_tunnel(network, tunnel) for tunnel in network.tunnels if tunnel.node == node]
    return "".join(parts) + network.sections.get(node, "")


def neighbours(network: Network, node: str) -> list[str]:
    """The other ends of a node's PVTs."""
    return [b if a == node else a for a, b in network.links if node in (a, b)]


def neighbour(network: Network, own: str, other: str) -> str:
    """One PVT."""
    return f"""
[[neighbours]]
node = "{other}"
ah = "{network.ah}"
esp = "aes-128-gcm-16"
{rate_line(network.rate)}{network.keys_of(own, other, network.ah, "aes-128-gcm-16", network.ike)}
"""


def psk_file(one: str, other: str) -> str:
    """Where the key is that two ends of a tunnel share."""
    return f"{min(one, other)}-{max(one, other)}.psk"


def rate_line(rate: int | None) -> str:
    """A tunnel's rate, if it has one."""
    return f"rate = {rate}\n" if rate else ""


def host_tunnel(network: Network, tunnel: Tunnel) -> str:
    """A host tunnel as its AIN has it."""
    option = "" if tunnel.responder else f'option = "{tunnel.option}"\n'
    return f"""
[[hosts]]
name = "{tunnel.host}"
role = "{tunnel.role}"
{option}remote = "{network.outer(tunnel.host)}"
addresses = {json.dumps([inner.host_net(one) for one in tunnel.inners])}
inner_mtu = {tunnel.inner_mtu}
esn = {str(tunnel.esn).lower()}
ah = "{tunnel.ah}"
esp = "{tunnel.esp}"
{rate_line(network.host_rate)}{network.keys_of(tunnel.node, tunnel.host, tunnel.ah, tunnel.esp, "psk" if network.host_ike else "")}
"""


def endpoint_file(network: Network, tunnel: Tunnel) -> str:
    """Configuration of `ain endpoint` on a host. An initiator routes the exits' prefix into the tunnel, a responder
    everything private.
    """
    family = inner.of(tunnel.inner)
    routes = list(family.shown) if tunnel.responder else [str(family.exit_prefix)]
    return f"""
[endpoint]
role = "{tunnel.role}"
interface = "eth0"
local = "{network.outer(tunnel.host)}"
remote = "{network.outer(tunnel.node)}"
tun = "{TUN}"
addresses = ["{inner.host_net(tunnel.inner)}"]
routes = {json.dumps(routes)}
inner_mtu = {tunnel.host_mtu or tunnel.inner_mtu}
mtu = {network.mtu}
state_dir = "{tunnel.host}/state"
idle = "adaptive"
max_sleep_us = {network.max_sleep_us}
{rate_line(network.host_rate)}
[tunnel]
esn = {str(tunnel.esn).lower()}
ah = "{tunnel.ah}"
esp = "{tunnel.esp}"
{network.four_sas(tunnel.host, tunnel.node, tunnel.ah, tunnel.esp)}
"""


def directory_entry(network: Network, node: str, printed: str, exits: list[str]) -> str:
    """One AIN in the directory: what `ain keygen` printed, filled in."""
    filled = printed.replace("neighbours = []", f"neighbours = {json.dumps(neighbours(network, node))}")
    families = [network.families[node]] if node in network.families else []
    filled = filled.replace("families = []", f"families = {json.dumps(families)}")
    prefixes = network.exit_prefixes.get(node, exits)
    return filled.replace("exit_prefixes = []", f"exit_prefixes = {json.dumps(prefixes)}")


def admin_socket(directory: Path, node: str) -> Path:
    """Where a node answers `ain status`."""
    return directory / node / "ain.sock"


def make_keys(directory: Path, node: str, address: Address, ain: Path) -> str:
    """Makes a node's identity key in its folder; returns the draft of its directory entry as printed."""
    words = ["keygen", "--out-dir", str(directory / node), "--name", node, "--address", str(address)]
    return run([str(ain), *words]).stdout


def write_private(path: Path, text: str) -> None:
    """A file that may hold keys."""
    path.write_text(text.lstrip("\n"))
    path.chmod(0o600)
