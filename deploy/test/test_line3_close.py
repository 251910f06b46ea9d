"""Line 3: hosts ask for the end of an AIVT with `ain endpoint --close`, as initiator and as responder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import configs, traffic
from lab.configs import PRIVATE, RESPONDER
from lab.processes import Fleet
from lab.shell import wait_for


@pytest.fixture(scope="module")
def chain() -> Iterator[Fleet]:
    with Fleet(configs.chain(3, option="as-sent")) as fleet:
        yield fleet


def nothing_left(fleet: Fleet) -> bool:
    """Whether no AIN has a part of an AIVT."""
    return all(fleet.counters(node).total("ain_aivts") == 0 for node in fleet.network.nodes)


@pytest.mark.parametrize(("host", "source", "destination"), [
    ("initiator", PRIVATE, RESPONDER),
    ("responder", RESPONDER, PRIVATE),
])
def test_a_host_ends_its_aivt(chain: Fleet, host: str, source: object, destination: object) -> None:
    assert traffic.ping(chain.host("initiator"), RESPONDER, 5).received == 5
    assert [chain.aivts(node) for node in chain.network.nodes] == [1, 1, 1]
    done = chain.close_aivt(host, source, destination)
    assert (done.returncode, done.stdout.strip()) == (0, "closed"), done.stderr
    wait_for("every AIN has freed it", lambda: nothing_left(chain), 5)
    again = chain.close_aivt(host, source, destination)
    assert again.returncode == 1 and "no AIVT" in again.stderr
    assert nothing_left(chain), "without new traffic nothing is made again"
