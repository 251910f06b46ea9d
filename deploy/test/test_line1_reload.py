"""Line 1 of the real peers: hand-made keys are replaced at both ends of a tunnel, one after the other, while traffic runs.

    initiator ===== ain1 ----- ain2 ----- ain3 ===== responder          `=`, and ain1 - ain2, get new keys
"""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import capture, configs, traffic
from lab.configs import RESPONDER, Network
from lab.processes import Fleet
from lab.shell import wait_for
from test_interop_ike import drops

PATIENCE_S = 45  # how long the end that is told first waits for the other one
LOAD_S = PATIENCE_S + 8
PINGS_A_SECOND = 200
TCP_MBPS = 5
BACK_S = 45  # a neighbour that starts anew refuses creating signals as old as its last one


@pytest.mark.limit(LOAD_S + BACK_S + 40)
def test_keys_are_replaced_under_traffic() -> None:
    network = configs.chain(3)
    network.realtime = True  # what is lost is lost by the keys, not for want of a core
    with Fleet(network) as fleet:
        initiator, responder = fleet.host("initiator"), fleet.host("responder")
        assert traffic.ping(initiator, RESPONDER, 20).received == 20
        before, creates = drops(fleet), fleet.signals("ain1", "sent", "create")
        old = spis(network)
        with ThreadPoolExecutor() as pool:
            seen = pool.submit(traffic.ping, initiator, RESPONDER, LOAD_S * PINGS_A_SECOND, 1 / PINGS_A_SECOND)
            moved = pool.submit(traffic.iperf, fleet.lab, initiator, responder, RESPONDER, LOAD_S, mbps=TCP_MBPS)
            time.sleep(1)
            replace_keys(fleet)
            refuse_others(fleet)
            pings, tcp = seen.result(), moved.result()
        print(f"lost {pings.sent - pings.received} of {pings.sent} pings; TCP {tcp.mbps:.1f} Mb/s")
        assert pings.received == pings.sent
        assert tcp.received_bytes > LOAD_S * TCP_MBPS * 1e6 / 8 / 2
        assert drops(fleet) == before
        assert [fleet.aivts(node) for node in network.nodes] == [1, 1, 1]
        assert fleet.signals("ain1", "sent", "create") == creates, "the AIVT is the one that it was"
        wait_for("nothing is sent under the old keys", lambda: shown(fleet).isdisjoint(old), PATIENCE_S)
        assert shown(fleet).issuperset(spis(network))
        restart_with_newer(fleet)
        assert traffic.ping(initiator, RESPONDER, 20).received == 20
        assert shown(fleet).issuperset(spis(network))


def spis(network: Network) -> set[int]:
    """SPIs of the AH associations between ain1 and ain2."""
    return {network.keys["ah", one, other][0] for one, other in (("ain1", "ain2"), ("ain2", "ain1"))}


def shown(fleet: Fleet) -> set[int]:
    """The SPIs that the link between ain1 and ain2 shows for a while, long enough for a KEEPALIVE each way."""
    running = capture.link(fleet.lab, fleet.lab["ain1"], fleet.lab["ain2"])
    time.sleep(2.5)
    packets = [frame.ip for frame in capture.frames(running.stop())]
    return {
        int.from_bytes(capture.spi_of(packet), "big")
        for packet in packets
        if packet and capture.protocol_of(packet) == capture.PROTO_AH
    }


def replace_keys(fleet: Fleet) -> None:
    """New keys for the PVT and the host tunnel of ain1, which hears of them seconds before the other ends do."""
    network = fleet.network
    network.renew("ain1", "ain2")
    network.renew("ain1", "initiator")
    configs.write_one(fleet.lab, network, "ain1")
    done = fleet.reload("ain1")
    assert done.returncode == 0 and "AH 2, ESP 2" in done.stdout, done.stderr
    time.sleep(2)
    configs.write_one(fleet.lab, network, "ain2")
    fleet.running["ain2"].send_signal(signal.SIGHUP)
    wait_for("ain2 has taken its file", lambda: reloads(fleet, "ain2") == (1, 0))
    configs.write_one(fleet.lab, network, "initiator")
    done = fleet.reload("initiator")
    assert done.returncode == 0 and "AH 1, ESP 1" in done.stdout, done.stderr
    done = fleet.reload("initiator")
    assert (done.returncode, done.stdout) == (0, "nothing has changed\n")


def reloads(fleet: Fleet, node: str) -> tuple[float, float]:
    """How often a node has taken, and refused, its file."""
    counters = fleet.counters(node)
    taken, refused = (counters.total("ain_reloads_total", outcome=outcome) for outcome in ("taken", "refused"))
    return taken, refused


def refuse_others(fleet: Fleet) -> None:
    """What cannot be taken is refused with its place, and the node goes on."""
    network = fleet.network
    kept = network.keys
    network.renew("ain1", "ain2")
    refuse(fleet, "ain1", "", "", "ah_out", "are being changed")
    network.keys = kept
    configs.write_one(fleet.lab, network, "ain1")
    refuse(fleet, "ain3", r'^remote = ".*"', 'remote = "198.18.0.99"', "hosts[0].remote", "takes a restart")
    refuse(fleet, "ain3", r'^(ah_in = .*key = "..)', r"\g<1>00", "neighbours[0].ah_in.key", "21 bytes where aes-128-gmac takes 20")
    assert fleet.reload("ain3").stdout == "nothing has changed\n"
    assert reloads(fleet, "ain3") == (1, 2)


def refuse(fleet: Fleet, node: str, pattern: str, replacement: str, field: str, why: str) -> None:
    """A node refuses its file with one change, and names the line; the file is mended afterwards."""
    path = configs.write_one(fleet.lab, fleet.network, node)
    good = path.read_text()
    changed, count = re.subn(pattern, replacement, good, count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)
    done = fleet.reload(node)
    told = re.search(rf"{re.escape(str(path))}:(\d+): (\S+): ", done.stderr)
    assert done.returncode == 1 and told and told[2].endswith(field) and why in done.stderr, done.stderr
    assert field.split(".")[-2 if field.endswith("key") else -1] in changed.splitlines()[int(told[1]) - 1]
    path.write_text(good)


def restart_with_newer(fleet: Fleet) -> None:
    """Keys are replaced once more, and ain2 is killed and starts with them: ain1, which hears it under them, does not wait."""
    network = fleet.network
    network.renew("ain1", "ain2")
    for node in ("ain1", "ain2"):
        configs.write_one(fleet.lab, network, node)
    done = fleet.reload("ain1")
    assert done.returncode == 0, done.stderr
    fleet.kill("ain2")
    fleet.start("ain2")
    begun = time.monotonic()
    wait_for(
        "a ping is answered",
        lambda: traffic.ping(fleet.host("initiator"), RESPONDER, 1, patience_s=1).received == 1,
        BACK_S,
    )
    print(f"answered {time.monotonic() - begun:.1f} s after the restart")
