"""Line 4 of the real peers: one table of cases that scapy makes, for `ain endpoint` and for a Linux kernel at the same end of the same
tunnel; what both of them seal, opened by scapy; ESP of a running node and of the golden packets as tshark reads it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from lab import capture, cases, golden, tshark, wire
from lab.capture import PROTO_AH
from lab.configs import PRIVATE, RESPONDER
from lab.endpoint import Endpoint, awake
from lab.interop import Row, rows
from lab.linux import CHAT
from lab.shell import wait_for
from lab.traffic import open_socket

PORTS = (40_002, 40_001)  # nothing that tshark would read further
MARK = 0x4D41_0000
VARIANTS = [
    (4, "hmac-sha2-256-128", "aes-128-gcm-16", True),
    (4, "aes-cmac-96", "aes-256-gcm-16", False),
    (6, "hmac-sha2-256-128", "aes-256-gcm-16", False),
    (6, "aes-cmac-96", "aes-128-gcm-16", True),
]
SIZES = (0, 1, 100, 777, 1300)


@pytest.mark.limit(240)
def test_line4_scapys_packets_before_the_node_and_a_kernel() -> None:
    tried: dict[str, set[tuple[str, str]]] = {case.name: set() for case in cases.CASES}
    for family, ah, esp, esn in VARIANTS:
        node = at_the_node(Endpoint(ah, esp, esn, family))
        linux = at_linux(Endpoint(ah, esp, esn, family, linux=True))
        for case in cases.CASES:
            if case.name in node:
                assert (node[case.name], linux[case.name]) == (case.node, case.linux), case.name
                tried[case.name].add((f"IPv{family}", ah))
    for case in cases.CASES:
        assert tried[case.name], f"no tunnel can have: {case.name}"
        families, algorithms = (", ".join(sorted(set(some))) for some in zip(*tried[case.name], strict=True))
        verdict = f"node {case.node}, Linux {case.linux}: {case.why}"
        rows.append(Row(f"from scapy: {case.name}", "scapy, Linux kernel", families, algorithms, verdict))


def at_the_node(made: Endpoint) -> Counter[str]:
    """Every case before `ain endpoint`; and scapy opens what it seals."""
    with made.fleet, open_socket(made.host, socket.SOCK_DGRAM, PRIVATE) as app:
        app.bind((str(PRIVATE), PORTS[1]))
        heard: Counter[int] = Counter()

        def collect() -> Counter[int]:
            try:
                while True:
                    heard[int.from_bytes(app.recv(2000)[:4], "big")] += 1
            except BlockingIOError:
                return heard

        app.setblocking(False)
        verdicts = judged(made, collect)
        with wire.Listener(made.far) as wires:
            awake(app, wires, made)
            for size in SIZES:
                payload = os.urandom(size)
                app.sendto(payload, (str(RESPONDER), PORTS[0]))
                opened(made, next(wires.packets(PROTO_AH, made.host)), payload)
    rows.append(Row("opened by scapy", "ain endpoint", f"IPv{made.host.outer.version}", ", ".join(made.variant[:2]), f"{len(SIZES)} of {len(SIZES)}"))
    return verdicts


def at_linux(made: Endpoint) -> Counter[str]:
    """The same before a Linux kernel in its place."""
    with made.fleet as fleet:
        linux = fleet.linux["initiator"]
        place = linux.start(f"{CHAT} collect {PORTS[1]} collected").with_suffix(".out")
        wait_for("Linux listens", lambda: place.exists() and "listening" in place.read_text(), 20)

        def collect() -> Counter[int]:
            data = (linux.folder / "collected").read_bytes()
            return Counter(what for (what,) in struct.iter_unpack("!I", data[: len(data) // 4 * 4]))

        verdicts = judged(made, collect)
        with wire.Listener(made.far) as wires:
            linux.script(f"ip route replace {RESPONDER} dev eth0 src {PRIVATE}")  # no exit has the prefix in this network
            linux.start(f"{CHAT} ask {RESPONDER} {PORTS[0]} 777")
            opened(made, next(wires.packets(PROTO_AH, made.host, 20)), None)
    rows.append(Row("opened by scapy", "Linux kernel", f"IPv{made.host.outer.version}", ", ".join(made.variant[:2]), "1 of 1"))
    return verdicts


def judged(made: Endpoint, collect: Callable[[], Counter[int]]) -> Counter[str]:
    """How many datagrams of each case come through. Behind each of them goes a packet that surely does."""
    hand = cases.Hand(made.peer, RESPONDER, PRIVATE, PORTS)
    verdicts: Counter[str] = Counter()
    for what, case in enumerate(cases.CASES, start=1):
        packets = case.make(hand, what)
        if packets is None:
            continue
        wire.inject(made.fleet.lab, made.host, [*packets, hand.seal(MARK + what)])
        wait_for(f"the packet behind: {case.name}", lambda mark=MARK + what: collect()[mark] == 1, 10, 0.02)
        verdicts[case.name] = collect()[what]
    return verdicts


def opened(made: Endpoint, outer: bytes, payload: bytes | None) -> None:
    """scapy finds AH and ESP right, and the payload inside if it is known."""
    inner, _ = made.peer.open(outer)
    assert inner[12:20] == PRIVATE.packed + RESPONDER.packed
    assert payload is None or inner[28:] == payload


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("esp", ["aes-128-gcm-16", "aes-256-gcm-16"])
def test_line4_tshark_reads_a_running_node(family: int, esp: str) -> None:
    """It decrypts every packet and finds its ICV right; with a wrong key it finds none."""
    made = Endpoint("hmac-sha2-256-128", esp, esn=False, family=family)
    with made.fleet as fleet:
        with open_socket(made.host, socket.SOCK_DGRAM, PRIVATE) as app, wire.Listener(made.far) as wires:
            app.bind((str(PRIVATE), PORTS[1]))
            awake(app, wires, made)
            running = capture.link(fleet.lab, made.host, made.far)
            sent = [os.urandom(size) for size in SIZES]
            for payload in sent:
                app.sendto(payload, (str(RESPONDER), PORTS[0]))
                next(wires.packets(PROTO_AH, made.host))
            path = running.stop()
        sa = made.peer.sa_in
        ends = (made.host.outer, made.far.outer)
        read = tshark.read(path, [(*ends, sa)])
        assert [one.datagram[28 : capture.total_bytes(one.datagram)] for one in read] == sent
        assert {(one.icv_good, one.next_header, one.spi) for one in read} == {(True, socket.IPPROTO_IPIP, sa.spi)}
        wrong = type(sa)(sa.spi, bytes([sa.key[0] ^ 1]) + sa.key[1:])
        assert not any(one.icv_good for one in tshark.read(path, [(*ends, wrong)]))
    rows.append(Row("ESP of a running node: decrypted, ICV right", "tshark", f"IPv{family}", esp, f"{len(read)} of {len(sent)}"))


def test_line4_tshark_reads_the_golden_packets() -> None:
    """It decrypts ESP of every kind and checks the ICVs of those with short numbers."""
    checked = 0
    by_path: dict[str, list[golden.Golden]] = defaultdict(list)
    for packet in golden.packets():
        if packet.packet[packet.ah_at] == socket.IPPROTO_ESP:
            by_path[str(packet.path)].append(packet)
    for packets in by_path.values():
        one = packets[0]
        sas = {(each.esp.source, each.esp.destination, each.esp.sa) for each in packets}
        read = tshark.read(one.path, sas)
        assert len(read) == len(packets), one.kind
        if not one.esp.esn:
            assert all(each.icv_good for each in read), one.kind
            checked += len(read)
        if "dummy" not in one.kind:
            assert all(each.next_header in (4, 41) for each in read), one.kind
    assert checked >= 4
    rows.append(Row("golden packets: ESP decrypted, short numbers' ICVs right", "tshark", "both", "all", f"{len(by_path)} files, {checked} ICVs"))
