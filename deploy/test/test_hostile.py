"""Packets of strangers and of thieves at a live node: each kind falls under its own reason, nothing else is
disturbed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from lab import capture, configs, traffic, wire
from lab.capture import PROTO_AH
from lab.configs import RESPONDER
from lab.processes import Fleet
from lab.shell import wait_for

HEADER_BYTES = 20


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(replace(configs.chain(3), family=4)) as fleet:  # its packets are made by hand
        yield fleet


@pytest.fixture(scope="module")
def packet(chain: Fleet) -> bytes:
    """A cell from ain1 to ain2, as somebody between them saw it pass: delivered already."""
    lab = chain.lab
    running = capture.link(lab, lab["ain1"], lab["ain2"])
    assert traffic.ping(lab["initiator"], RESPONDER, 5).received == 5
    return [one for one in capture.from_source(running.stop(), lab["ain1"].outer) if one[9] == PROTO_AH][-1]


def changed(packet: bytes, at: int, bits: int = 1) -> bytes:
    """`packet` with bits flipped in the byte at `at`, its header checksum right."""
    return wire.with_checksum(packet[:at] + bytes([packet[at] ^ bits]) + packet[at + 1 :])


def cut(packet: bytes, length: int) -> bytes:
    """The first `length` bytes as a packet of that total length."""
    return wire.with_checksum(packet[:2] + length.to_bytes(2, "big") + packet[4:length])


def expect(chain: Fleet, packets: list[bytes], reason: str) -> None:
    """Injects, waits until exactly that many fall under `reason`, and sees that traffic goes on and no other counter
    moved.
    """
    before = {r: chain.drops("ain2", r) for r in REASONS}
    cells = chain.cells("ain2")
    sent = wire.inject(chain.lab, chain.host("ain2"), packets)
    wait_for(f"{sent} drops under {reason}", lambda: chain.drops("ain2", reason) - before[reason] >= sent, 5)
    after = {r: chain.drops("ain2", r) for r in REASONS}
    assert after == before | {reason: before[reason] + sent}
    assert chain.cells("ain2") == cells
    assert traffic.ping(chain.host("initiator"), RESPONDER, 3).received == 3


REASONS = (
    "malformed",
    "outer_fragment",
    "unknown_peer",
    "unknown_spi",
    "ah_icv",
    "ah_replay",
    "ah_replay_old",
    "esp_icv",
    "esp_replay",
    "wrong_protocol",
    "cell_length",
    "cell_broken",
    "cell_replay",
)


def test_replay(chain: Fleet, packet: bytes) -> None:
    expect(chain, [packet] * 3, "ah_replay")


def test_wrong_key(chain: Fleet, packet: bytes) -> None:
    """A new sequence number under an ICV that does not fit it: what a thief without the key can make."""
    sequence_at = HEADER_BYTES + 8
    later = packet[:sequence_at] + (int.from_bytes(packet[sequence_at : sequence_at + 4], "big") + 500).to_bytes(
        4, "big"
    )
    expect(chain, [later + packet[sequence_at + 4 :]] * 3, "ah_icv")


def test_unknown_spi(chain: Fleet, packet: bytes) -> None:
    expect(chain, [changed(packet, HEADER_BYTES + 4, 0x55)], "unknown_spi")


def test_unknown_source(chain: Fleet, packet: bytes) -> None:
    expect(chain, [changed(packet, 15, 0x40)], "unknown_peer")


def test_outer_fragments(chain: Fleet, packet: bytes) -> None:
    """DPDK's af_packet driver has the kernel keep fragments back until they are whole: these reach nobody."""
    cells = chain.cells("ain2")
    wire.inject(chain.lab, chain.host("ain2"), [changed(packet, 6, 0x20), changed(packet, 7, 0x01)])
    expect(chain, [packet], "ah_replay")
    assert chain.cells("ain2") > cells, "traffic went on"


def test_truncated(chain: Fleet, packet: bytes) -> None:
    expect(chain, [cut(packet, HEADER_BYTES + n) for n in range(12)], "malformed")
