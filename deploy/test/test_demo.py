"""`demo.py up` and `down`: a network for a person to play with, and nothing left of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab import configs, processes, topology
from lab.shell import run

DEMO = Path(__file__).resolve().parents[1] / "demo.py"


def demo(verb: str) -> str:
    """Runs the demo's command; what it says."""
    return run([sys.executable, str(DEMO), verb], timeout_s=40).stdout


@pytest.mark.limit(120)
def test_up_twice_then_down() -> None:
    try:
        demo("up")
        assert "curl" in demo("up"), "a second start replaces the first"
        topology.sweep()
        lab = topology.attach("demo")
        page = lab["initiator"].run(
            "curl", "-sS", "-o", "/dev/null", "--max-time", "20", f"http://{configs.RESPONDER}/page.html", check=False
        )
        assert page.returncode == 0, page.stderr
        socket = configs.admin_socket(lab.directory, "ain2")
        report = json.loads(run([str(processes.binary()), "status", "--json", "--socket", str(socket)]).stdout)
        assert [one["up"] for one in report["neighbours"]] == [True, True]
        text = subprocess.run(
            [processes.binary(), "status", "--socket", socket], capture_output=True, text=True, timeout=10
        )
        assert text.returncode == 0 and "ain2" in text.stdout
    finally:
        demo("down")
    assert not [name for name in topology.namespaces() if name.startswith("ain-demo-")]
    assert not (topology.RUNS / "demo").exists()
    demo("down")
