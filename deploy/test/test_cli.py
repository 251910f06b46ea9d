"""`ain check` tells file, line and field of what is wrong."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import configs, processes
from lab.topology import Lab

Edit = Callable[[str], str]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """The files of a chain of three, without namespaces."""
    made = Lab("files", tmp_path)
    configs.write(made, configs.chain(3), processes.binary())
    return made


def check(lab: Lab, name: str) -> subprocess.CompletedProcess[str]:
    """`ain check` on one file."""
    return subprocess.run(
        [processes.binary(), "check", lab.directory / name], capture_output=True, text=True, timeout=10
    )


@pytest.mark.parametrize(
    "name", ["ain1.toml", "ain2.toml", "ain3.toml", "directory.toml", "initiator.toml", "responder.toml"]
)
def test_good_files_pass(lab: Lab, name: str) -> None:
    done = check(lab, name)
    assert done.returncode == 0, done.stderr


def swapped(pattern: str, replacement: str) -> Edit:
    """An edit of the first match, which has to exist."""

    def edit(text: str) -> str:
        text, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert count == 1
        return text

    return edit


def equal_keys(text: str) -> str:
    """The second key of the file becomes the first."""
    first, second = re.findall(r'esp_\w+ = .*key = "(\w+)"', text)[:2]
    return text.replace(second, first)


@pytest.mark.parametrize(
    ("name", "edit", "field", "line_holds"),
    [
        ("ain1.toml", swapped("^idle = .*", 'idle = "adaptive"\ncolour = "red"'), "colour", "colour"),
        ("ain1.toml", swapped(r"^(ah_in = \{ spi = )\d+", r"\g<1>7"), "neighbours[0].ah_in.spi", "ah_in"),
        ("ain1.toml", swapped(r'(^ah_in = .*key = "..)', r"\1ff"), "neighbours[0].ah_in.key", "ah_in"),
        ("ain1.toml", equal_keys, "neighbours[0].esp_out.key", "esp_out"),
        ("ain1.toml", swapped("^inactivity_s = .*", "inactivity_s = 0"), "network.inactivity_s", "inactivity_s"),
        ("ain2.toml", swapped('^node = "ain1"', 'node = "ain9"'), "neighbours[0].node", "ain9"),
        (
            "directory.toml",
            swapped(r"^exit_prefixes = \[\]", 'exit_prefixes = ["198.51.100.64/26"]'),
            "exit_prefixes[0]",
            "exit_prefixes",
        ),
        ("initiator.toml", swapped("^routes = .*", 'routes = ["192.0.2.0/24"]'), "endpoint.routes[0]", "routes"),
    ],
)
def test_errors_name_file_line_and_field(lab: Lab, name: str, edit: Edit, field: str, line_holds: str) -> None:
    path = lab.directory / name
    path.write_text(edit(path.read_text()))
    done = check(lab, name)
    assert done.returncode != 0
    complaint = next((line for line in done.stderr.splitlines() if field in line), None)
    assert complaint, done.stderr
    place = re.search(rf"{re.escape(str(path))}:(\d+)", complaint)
    assert place, complaint
    assert line_holds in path.read_text().splitlines()[int(place[1]) - 1]


def test_no_key_is_ever_printed(lab: Lab) -> None:
    path = lab.directory / "ain1.toml"
    path.write_text(equal_keys(path.read_text()))
    done = check(lab, "ain1.toml")
    keys = re.findall(r'key = "(\w+)"', path.read_text())
    assert done.returncode != 0 and keys and not any(key in done.stdout + done.stderr for key in keys)


def test_a_capacity_that_the_machine_has_not_got_is_refused_in_figures(lab: Lab) -> None:
    path = lab.directory / "ain1.toml"
    path.write_text(path.read_text() + '\n[capacity]\naivts = 16777216\nhugepages = "require"\n')
    done = subprocess.run(
        [processes.binary(), "run", "--config", path], capture_output=True, text=True, timeout=20, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(r"capacity of 16777216 AIVTs and \d+ flows needs \d+ MiB of hugepages, \d+ MiB are free", text), text
    assert "set vm.nr_hugepages" in text


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("--host", "nobody", "hosts: none is called `nobody`"),
        ("--neighbour", "initiator", "neighbours: none is called `initiator`"),
        ("--neighbour", "ain2", "aes-128-gmac, which Linux lacks"),
    ],
)
def test_host_config_says_what_no_kernel_can_have(lab: Lab, kind: str, name: str, said: str) -> None:
    words = [processes.binary(), "host-config", "--config", lab.directory / "ain1.toml", kind, name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, ""), "no part of a key is printed"
    assert said in done.stderr
