"""A node under a packet generator: the files of `ain-bench pcap`, replayed by net_pcap. Counters, not speeds."""

from __future__ import annotations

import re
import time

import pytest

from lab import replay
from lab.processes import binary
from lab.shell import run

FEW = ("--aivts", "48", "--packets", "500")


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
        time.sleep(0.5)  # flows and bindings are made by the first round of packets
        before = node.counters()
        time.sleep(0.5)
        after = node.counters()
        assert replay.lost(after) == replay.lost(before), node.status()
        for one, way in moved:
            assert after.total("ain_packets_total", role=one, direction=way) > before.total(
                "ain_packets_total", role=one, direction=way
            )
        # A scrape may fall between a burst's way in and its way out.
        came = replay.received(after) - replay.received(before)
        went = replay.sent(after) - replay.sent(before)
        assert came > 1000
        assert abs(came - went) <= 256


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
