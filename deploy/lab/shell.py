"""Running commands, in or outside a network namespace, always with a time limit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something in the laboratory did not work; the text says what and where."""


def run(command: Sequence[str], timeout_s: float = 20, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `command` to its end. A failure raises with the output in the text, unless `check` is off."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"not done within {timeout_s} s: {' '.join(command)}") from error
    if check and done.returncode != 0:
        raise LabError(f"exit status {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = 10, every_s: float = 0.05) -> T:
    """Calls `probe` until it answers something true; raises once `timeout_s` has passed, naming `what`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s} s in vain: {what}")
        time.sleep(every_s)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Moves this thread into `namespace` for the block. Sockets opened there stay there."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
