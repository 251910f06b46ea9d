"""Line 3: hosts ask for the end of an AIVT with `ain endpoint --close`, as initiator and as responder."""

from __future__ import annotations

import subprocess
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


def close(fleet: Fleet, host: str, source: object, destination: object) -> subprocess.CompletedProcess[str]:
    """What `ain endpoint --close` says in `host`."""
    config = str(fleet.lab.directory / f"{host}.toml")
    words = [str(fleet.ain), "endpoint", "--config", config, "--close", str(source), str(destination)]
    return fleet.host(host).run(*words, check=False)


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
    done = close(chain, host, source, destination)
    assert (done.returncode, done.stdout.strip()) == (0, "closed"), done.stderr
    wait_for("every AIN has freed it", lambda: nothing_left(chain), 5)
    again = close(chain, host, source, destination)
    assert again.returncode == 1 and "no AIVT" in again.stderr
    assert nothing_left(chain), "without new traffic nothing is made again"
