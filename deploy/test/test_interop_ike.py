"""Lines 2 and 3 of the real peers: strongSwan's charon makes the keys of PVTs, and of host tunnels with Linux.

    initiator ===== ain1 ===== ain2 ===== ain3 ===== responder
                   charon     charon     charon
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import charon, configs, router, traffic
from lab.configs import Network
from lab.inner import Address
from lab.interop import Row, rows
from lab.linux import Linux
from lab.processes import Fleet
from lab.shell import run, wait_for
from lab.topology import OUTER, Host
from test_interop_linux import tcp

STRONGSWAN = "strongSwan 5.9.8"
ESP = "aes-128-gcm-16"
ONE_MB = 1_000_000
UP_S = 30
LOOKS, LOOK_EVERY_S = 10, 0.5
ENDED_S = 30
REKEYED_S = 60
REKEY_S = 5
LINUX_PINGS_A_SECOND = 50  # half as often as its clock ticks
PINGS_A_SECOND = 1000
TCP_MBPS = 10


def chain(family: int = 4, ike: str = "psk", ah: str = "hmac-sha2-256-128", **more: object) -> Network:
    """Three AINs whose PVTs have keys by IKE, and hosts with hand-made ones."""
    network = configs.chain(3)
    network.family, network.ike, network.ah = family, ike, ah
    for name, value in more.items():
        setattr(network, name, value)
    return network


def told(case: str, network: Network, verdict: str) -> None:
    """A row of the table."""
    auth = {"psk": "PSK", "cert": "ECDSA" if network.ecdsa else "EdDSA"}[network.ike or "psk"]
    rows.append(Row(case, STRONGSWAN, f"IPv{network.family}", f"{auth}; {network.ah}, {ESP}", verdict))


def drops(fleet: Fleet) -> dict[str, float]:
    """What each node has lost, by reason."""
    lost = {}
    for node in fleet.network.nodes:
        for series, value in fleet.counters(node).items():
            if series.startswith("ain_drops_total") and value and "for_the_kernel" not in series:
                lost[f"{node}: {series}"] = value
    return lost


def until_answered(fleet: Fleet, limit_s: float = UP_S) -> float:
    """Seconds until a ping has gone through all tunnels and come back."""
    begun = time.monotonic()
    address = fleet.tunnel("responder").inner
    wait_for(
        "a ping is answered",
        lambda: fleet.host("initiator").run("ping", "-n", "-c", "1", "-W", "1", str(address), check=False).returncode == 0,
        limit_s,
        0.1,
    )
    return time.monotonic() - begun


CASES = [
    (4, "psk", "hmac-sha2-256-128", False),
    (6, "cert", "hmac-sha2-256-128", False),
    (4, "cert", "aes-cmac-96", True),
]


@pytest.mark.limit(90)
@pytest.mark.parametrize(("family", "ike", "ah", "ecdsa"), CASES)
def test_line2_pvts_come_up_by_ike(family: int, ike: str, ah: str, ecdsa: bool) -> None:
    network = chain(family, ike, ah, ecdsa=ecdsa)
    with Fleet(network) as fleet:
        until_answered(fleet)
        before = drops(fleet)
        responder = fleet.tunnel("responder").inner
        assert traffic.ping(fleet.host("initiator"), responder, 20, 0.02).received == 20
        moved = traffic.TcpExchange(fleet.host("initiator"), fleet.host("responder"), responder, ONE_MB).run()
        assert (moved.down_sent, moved.up_sent) == (moved.down_received, moved.up_received)
        assert drops(fleet) == before
    told("PVTs by IKE, three AINs: ping, TCP", network, "both ways, nothing lost")


@pytest.mark.limit(2 * REKEYED_S + 90)
def test_line2_rekeying_loses_nothing() -> None:
    lost = {}
    for rekey_s in (3600, REKEY_S):
        network = chain(rekey_s=rekey_s)
        with Fleet(network) as fleet:
            until_answered(fleet)
            before, begun = drops(fleet), successors(fleet)
            lost[rekey_s] = load(fleet, REKEYED_S)
            assert drops(fleet) == before
            made = successors(fleet) - begun
    # Each of the two children of each of the two PVTs.
    assert made >= 4 * (REKEYED_S // REKEY_S - 2)
    verdict = f"{made} successors in {REKEYED_S} s; lost of 1 kHz: {lost[REKEY_S]}, without rekeying {lost[3600]}; no drops"
    print(verdict)
    told(f"PVTs rekeyed every {REKEY_S} s under TCP", network, verdict)
    # What rekeying loses it loses each time; a busy machine's interfaces lose a packet now and then.
    assert lost[REKEY_S] <= lost[3600] + made // 10


def load(fleet: Fleet, seconds: int) -> int:
    """TCP and a ping a millisecond at once; returns how many pings were lost."""
    initiator, responder, address = fleet.host("initiator"), fleet.host("responder"), fleet.tunnel("responder").inner
    with ThreadPoolExecutor() as pool:
        tcp = pool.submit(traffic.iperf, fleet.lab, initiator, responder, address, seconds, mbps=TCP_MBPS)
        seen = traffic.ping(initiator, address, seconds * PINGS_A_SECOND, 1 / PINGS_A_SECOND)
        assert tcp.result().received_bytes > seconds * TCP_MBPS * 1e6 / 8 / 2
    return seen.sent - seen.received


def successors(fleet: Fleet) -> int:
    """Children that have replaced others; both ends of each say so."""
    return sum(charon.log(fleet.lab, node).count("] outbound CHILD_SA ") for node in fleet.network.charons) // 2


@pytest.mark.limit(150)
def test_line2_traffic_resumes_without_hands() -> None:
    network = chain()
    times = []
    with Fleet(network) as fleet:
        until_answered(fleet)
        for node in ("ain1", "ain2"):
            lost, took = survive(fleet, f"{node}-charon", lambda node=node: renewed(fleet, node))
            assert lost == 0
            times.append(f"charon of {node} {took:.1f} s, nothing lost")
        for node in ("ain2", "ain1"):
            fleet.kill(node)
            time.sleep(2)
            fleet.start(node, wait=False)
            times.append(f"{node} {until_answered(fleet):.1f} s")
    print("resumed after a restart:", "; ".join(times))
    told("charon or ain killed and started again", network, "resumes: " + "; ".join(times))


def survive(fleet: Fleet, process: str, back: Callable[[], bool]) -> tuple[int, float]:
    """Kills a charon and starts it again while a ping runs; returns how many were lost, and seconds until `back`."""
    initiator, address = fleet.host("initiator"), fleet.tunnel("responder").inner
    with ThreadPoolExecutor() as pool:
        pings = pool.submit(traffic.ping, initiator, address, 500, 0.02)
        time.sleep(1)
        fleet.kill(process)
        time.sleep(1)
        begun = time.monotonic()
        fleet.start_charon(process.removesuffix("-charon"))
        wait_for(f"the tunnels of {process} have successors", back, UP_S)
        took = time.monotonic() - begun
        seen = pings.result()
    return seen.sent - seen.received, took


def renewed(fleet: Fleet, node: str) -> bool:
    """Whether a charon has AH and ESP of each PVT of its node."""
    shown = charon.swanctl(fleet.lab, node, "--list-sas")
    return shown.count("INSTALLED") >= 2 * len(configs.neighbours(fleet.network, node))


@pytest.mark.limit(90)
def test_line2_what_cannot_be_is_refused_clearly() -> None:
    network = chain()
    with Fleet(network) as fleet:
        until_answered(fleet)
        own = charon.folder(fleet.lab, "ain3") / "swanctl" / "swanctl.conf"
        good = own.read_text()
        fleet.stop("ain3-charon")
        own.write_text(re.sub("secret = 0x..", "secret = 0x", good))
        fleet.start_charon("ain3")
        wait_for("a key is refused", lambda: any("MAC mismatched" in line for line in said(fleet, "ain2")), UP_S)
        hide(fleet, "ain3")
        # Only the hidden node can begin, so the other one has keys first, and refuses them.
        for node, words in (("ain3", "local host is behind NAT"), ("ain2", "ain refuses: a NAT stands")):
            wait_for(f"{node}: {words}", lambda node=node, words=words: any(words in line for line in said(fleet, node)), UP_S)
        # Of ain3's one tunnel, and of those of ain2, which still has its other one.
        wait_for("no association is left", lambda: stays(fleet, {"ain2": 4, "ain3": 0}), UP_S)
    told("a NAT on the way", network, "found, refused: AH crosses none")
    told("another PSK", network, "refused: MAC mismatched")


def hide(fleet: Fleet, node: str) -> None:
    """Puts a node behind a router that translates addresses, and tells it the address that it has there."""
    fleet.kill(f"{node}-charon")
    fleet.kill(node)
    router.hide(fleet.lab, fleet.host(node))
    file = fleet.lab.directory / f"{node}.toml"
    net = f"{fleet.network.outer(node)}/{OUTER[4].prefixlen}"
    assert f'"{net}"' in file.read_text()
    file.write_text(file.read_text().replace(f'"{net}"', f'"{router.INSIDE}"'))
    charon.configure(fleet.lab, node, fleet.ain)
    fleet.start(node, wait=False)
    fleet.start_charon(node)


def installed(fleet: Fleet, node: str) -> float:
    """How many associations of IKE a node has."""
    return fleet.counters(node)["ain_ike_associations"]


def stays(fleet: Fleet, wanted: dict[str, float]) -> bool:
    """Whether nodes have so many associations of IKE whenever looked at, for some seconds: charon tries again meanwhile."""
    for _ in range(LOOKS):
        if any(installed(fleet, node) != count for node, count in wanted.items()):
            return False
        time.sleep(LOOK_EVERY_S)
    return True


@pytest.mark.limit(180)
def test_line3_strongswan_inside_linux_rekeys_under_traffic() -> None:
    network = chain(host_ike=True, rekey_s=REKEY_S)
    network.linux = ("initiator", "responder")
    with Fleet(network) as fleet:
        until_answered(fleet)
        initiator, responder, address = fleet.linux["initiator"], fleet.linux["responder"], fleet.tunnel("responder").inner
        before, begun = drops(fleet), successors(fleet)
        with ThreadPoolExecutor() as pool:
            pings = pool.submit(traffic.ping, initiator, address, REKEYED_S * LINUX_PINGS_A_SECOND, 1 / LINUX_PINGS_A_SECOND)
            while not pings.done():
                tcp(initiator, responder, address)
            seen = pings.result()
        made = successors(fleet) - begun
        assert drops(fleet) == before
        refused = [line for host in (initiator, responder) for line in faults(host)]
        # A host that deletes its tunnel ends what it has, long before inactivity would; back again, it gets more for new traffic.
        charon.delete_inside(initiator)
        wait_for("every AIN has freed its part", lambda: not any(map(fleet.aivts, network.nodes)), ENDED_S)
        charon.restore_inside(initiator)
        again = until_answered(fleet)
    lost = seen.sent - seen.received
    verdict = f"{made} successors; TCP whole, {lost} of {seen.sent} pings lost; no drops"
    print(verdict, refused)
    family, algorithm = f"IPv{network.family}", f"PSK; {network.ah}, {ESP}"
    rows.append(Row("a host deletes its tunnel by IKE", f"{STRONGSWAN} in Linux", family, algorithm, f"its AIVT ends; back in {again:.1f} s"))
    rows.append(Row(f"host tunnels and PVTs rekeyed every {REKEY_S} s", f"{STRONGSWAN} in Linux", family, algorithm, verdict))
    # Two children of each of four tunnels.
    assert made >= 8 * (REKEYED_S // (2 * REKEY_S))
    assert not refused
    assert lost <= made // 10


def faults(host: Linux) -> list[str]:
    """What the kernel's own counters of IPsec hold against packets."""
    lines = host.script("cat /proc/net/xfrm_stat").stdout.splitlines()
    return [f"{host.name}: {line}" for line in lines if line.startswith("XfrmIn") and not line.split()[1] == "0"]


def said(fleet: Fleet, node: str) -> list[str]:
    """Lines of a charon."""
    return charon.log(fleet.lab, node).splitlines()


def test_line2_the_plugin_refuses_another_strongswan(tmp_path: Path) -> None:
    """Build identifiers of the libraries are in its file as text."""
    plugin = charon.plugin().read_bytes()
    built = next(charon.plugin().parent.glob("built-for-*")).name.split("-")[2].encode()
    assert plugin.count(built) == 1
    other = tmp_path / "other.so"
    other.write_bytes(plugin.replace(built, built[::-1]))
    conf = tmp_path / "strongswan.conf"
    conf.write_text(
        f"charon {{ load_modular = no\n load = random nonce kernel-ain! kernel-netlink\n"
        f" filelog {{ lab {{ path = {tmp_path}/log\n default = 1\n flush_line = yes }} }} }}\n"
    )
    variables = [f"STRONGSWAN_CONF={conf}", f"LD_PRELOAD={other}"]
    done = run(["unshare", "--net", "env", *variables, charon.PROGRAM], check=False)
    assert done.returncode != 0
    assert "another build: make the plugin again" in (tmp_path / "log").read_text() + done.stderr
