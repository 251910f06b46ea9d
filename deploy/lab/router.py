"""A router that translates addresses (NAT), between one host and the Internet.

    host   eth0 10.9.0.2 --- 10.9.0.1   router   eth0, the address that the host had --- bridge
"""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path

from .shell import inside, run
from .topology import OUTER, Host, Lab, namespace_of

INSIDE = IPv4Interface("10.9.0.2/24")
GATEWAY = INSIDE.network[1]


def hide(lab: Lab, host: Host) -> None:
    """Puts a host with an IPv4 address behind a router, and gives it `INSIDE`. What it sends shows the address that it had; nobody can
    begin to talk to it.
    """
    router = namespace_of(lab.name, "router")

    def ip(namespace: str, *words: str) -> None:
        run(["ip", "-n", namespace, *words])

    run(["ip", "netns", "add", router])
    ip(lab.inet, "link", "set", host.name, "netns", router)
    ip(router, "link", "add", "eth0", "address", host.mac, "type", "veth", "peer", "name", host.name, "netns", lab.inet)
    ip(lab.inet, "link", "set", host.name, "master", "br0", "up")
    for leg, address in (("eth0", f"{host.outer}/{OUTER[4].prefixlen}"), (host.name, f"{GATEWAY}/{INSIDE.network.prefixlen}")):
        ip(router, "address", "add", address, "dev", leg)
        ip(router, "link", "set", leg, "up")
    ip(host.namespace, "address", "flush", "dev", "eth0")
    ip(host.namespace, "address", "add", str(INSIDE), "dev", "eth0")
    ip(host.namespace, "route", "add", "default", "via", str(GATEWAY))
    with inside(router):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    chain = "{ type nat hook postrouting priority srcnat; }"
    rules = f"add table ip nat; add chain ip nat out {chain}; add rule ip nat out oifname eth0 masquerade"
    run(["ip", "netns", "exec", router, "nft", rules])
