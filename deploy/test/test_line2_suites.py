"""Line 2: three AINs brought up under each of the other suites carry what users send, in packets of one size."""

from __future__ import annotations

import pytest
from lab import capture, configs, traffic
from lab.configs import RESPONDER
from lab.processes import Fleet


@pytest.mark.limit(120)  # a week of RSA keys for three nodes: seconds, more on a busy machine
@pytest.mark.parametrize("suite", [1, 2, 4])
def test_line2_a_chain_of_the_suite_carries_a_ping(suite: int) -> None:
    network = configs.chain(3)
    network.suite = suite
    with Fleet(network) as fleet:
        lab = fleet.lab
        link = capture.link(lab, lab["ain1"], lab["ain2"])
        seen = traffic.ping(fleet.host("initiator"), RESPONDER, count=5, size=1000)
        assert seen.received == seen.sent
        sizes = capture.ip_sizes(link.stop())
        assert len(sizes) == 1, f"signals of suite {suite} and data have {sizes}"
        assert fleet.counters("ain2").total("ain_creates_refused_total") == 0
