"""A node under a packet generator: the files of `ain-bench pcap`, replayed by net_pcap. Counters, not speeds."""

from __future__ import annotations

import re

import pytest

from lab import replay
from lab.processes import Counters, binary
from lab.shell import run, wait_for

FEW = ("--aivts", "48", "--packets", "500")
ROUND = 48 + 500


def lossless(node: replay.Replay, packets: int) -> Counters | None:
    """The counters after `packets` more have come, unless one was lost meanwhile."""
    before = node.counters()

    def came() -> Counters | None:
        after = node.counters()
        return after if replay.received(after) >= replay.received(before) + packets else None

    after = wait_for("packets come", came, 30)
    return after if replay.lost(after) == replay.lost(before) else None


def balanced(node: replay.Replay, before: Counters) -> Counters | None:
    """The counters, once many packets have come since `before` and gone, but for a few: a scrape may fall between a burst's way in
    and its way out.
    """
    after = node.counters()
    came = replay.received(after) - replay.received(before)
    went = replay.sent(after) - replay.sent(before)
    return after if came >= 20 * ROUND and abs(came - went) <= 256 else None


@pytest.mark.parametrize("mac", ["gmac", "hmac"])
@pytest.mark.parametrize(
    ("role", "ways", "moved"),
    [
        ("intermediate", "both", [("intermediate", "forward"), ("intermediate", "backward")]),
        ("entrance", "both", [("entrance", "forward"), ("entrance", "backward"), ("host", "in"), ("host", "out")]),
        ("exit", "both", [("exit", "forward"), ("exit", "backward"), ("host", "in"), ("host", "out")]),
    ],
)
def test_every_replayed_packet_is_forwarded(role: str, ways: str, moved: list[tuple[str, str]], mac: str) -> None:
    with replay.Replay("--role", role, "--ways", ways, "--mac", mac, *FEW) as node:
        # Flows and bindings are made by the first rounds of the capture; some packets wait in vain for them.
        before = wait_for("a round of the capture without loss", lambda: lossless(node, ROUND), 30)
        after = wait_for("more rounds, in and out", lambda: balanced(node, before), 30)
        assert replay.lost(after) == replay.lost(before), node.status()
        for one, way in moved:
            assert after.total("ain_packets_total", role=one, direction=way) > before.total(
                "ain_packets_total", role=one, direction=way
            )


def test_it_is_said_loudly_and_kept_apart_from_real_nodes() -> None:
    with replay.Replay("--role", "intermediate", *FEW) as node:
        assert "BENCHMARK" in node.log
        assert "BENCHMARK: 48 static AIVTs with keys that everybody knows, anti-replay OFF" in node.status()
        counters = node.counters()
        assert (counters.total("ain_benchmark_aivts"), counters.total("ain_benchmark_takes_replays")) == (48, 1)
        assert node.child is not None
        node.lab.stop(node.child)
        # The same file without the section: a real node on the state of a benchmark.
        config = node.directory / "ain.toml"
        config.write_text(re.sub(r"\[benchmark\][^\[]*", "", config.read_text()))
        refused = node.host.run(str(binary()), "run", "--config", str(config), check=False)
        assert refused.returncode == 1
        assert "the state of a benchmark" in refused.stderr


def test_a_capture_is_one_that_others_read() -> None:
    with replay.Replay("--role", "entrance", *FEW) as node:
        capture = node.directory / "packets.pcap"
        shown = run(["tcpdump", "-n", "-r", str(capture)]).stdout.splitlines()
        assert len(shown) == 48 + 500
        assert all("AH(spi=" in line for line in shown)
