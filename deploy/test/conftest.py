"""Fixtures and time limits of the namespace and oracle tests."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import interop, topology  # noqa: E402

LIMIT_S = 60


def pytest_sessionstart(session: pytest.Session) -> None:
    """What crashed runs left behind goes first."""
    topology.sweep()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What real peers made of it, if any were there."""
    if interop.rows:
        terminalreporter.section("peers")
        terminalreporter.write_line(interop.table())


@pytest.fixture(autouse=True)
def limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test has 60 s, or what its mark `limit(seconds)` says."""
    mark = request.node.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT_S

    def expired(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
