"""A Linux of its own kernel, in user mode, in the place of a host: a kernel's IPsec that none of us wrote, on machines whose own has none.

    namespace of the host          eth0 --- bridge --- tap --- eth0 of the Linux, which has the host's outer address

It runs on the machine's files, read-only. Commands go in and their output comes out through a folder that both share.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .shell import LabError, run, wait_for
from .topology import OUTER, Host, Lab

PROGRAM = "/usr/bin/linux.uml"
MODULES = "/usr/lib/uml/modules"
INIT = Path(__file__).with_name("linux-init.sh")
CHAT = "python3 chat.py"  # in the folder that both share: places like /tmp are the Linux's own
MEMORY_MIB = 192
BOOT_S = 40


@dataclass(frozen=True)
class Linux(Host):
    """A host whose commands run in a Linux of its own."""

    folder: Path = Path()
    child: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, script: str) -> Path:
        """Starts a script there; returns where its files are, without their endings."""
        place = self.folder / f"{next(self.numbers):04}"
        place.with_suffix(".new").write_text(script + "\n")
        place.with_suffix(".new").rename(place.with_suffix(".run"))
        return place

    def run(self, *words: str, timeout_s: float = 20, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end. Its errors stand in the output."""
        return self.script(shlex.join(words), timeout_s, check)

    def script(self, text: str, timeout_s: float = 20, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a shell script there to its end."""
        place = self.start(text)
        status = place.with_suffix(".status")
        wait_for(f"{self.name} has done: {text[:80]}", lambda: status.exists() or self._dead(), timeout_s, 0.02)
        output = place.with_suffix(".out").read_text(errors="replace")
        done = subprocess.CompletedProcess(["sh", "-c", text], int(status.read_text()), output, "")
        if check and done.returncode != 0:
            raise LabError(f"exit status {done.returncode} in {self.name}: {text}\n{output}")
        return done

    def _dead(self) -> bool:
        if self.child and self.child.poll() is not None:
            raise LabError(f"the Linux of {self.name} has ended: {self.folder}/../{self.name}-linux.log")
        return False


def boot(lab: Lab, names: list[str]) -> dict[str, Linux]:
    """Puts a Linux in the place of each host, all at once."""
    booted = {name: _begin(lab, lab[name]) for name in names}
    for name, linux in booted.items():
        wait_for(f"the Linux of {name} is up", lambda one=linux: (one.folder / "up").exists() or one._dead(), BOOT_S, 0.1)
    return booted


def _begin(lab: Lab, host: Host) -> Linux:
    if not Path(PROGRAM).exists():
        raise LabError(f"{PROGRAM} is not there: run deploy/setup.sh interop")
    address = f"{host.outer}/{OUTER[lab.family].prefixlen}"
    _give_away_leg(host)
    folder = lab.directory / f"{host.name}-linux"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("chat.py"), folder)
    variables = {"LINUX_DIR": folder, "LINUX_MODULES": MODULES, "LINUX_ADDRESS": address}
    words = [
        *["env", "-i", f"PATH={os.environ['PATH']}", "TMPDIR=/dev/shm", f"HOME={folder}"],
        *[PROGRAM, f"mem={MEMORY_MIB}M", f"umid={lab.name}-{host.name}", f"uml_dir={folder}/", "quiet"],
        *["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"],
        *["con=null", "con0=null,fd:1", "ssl=null", f"eth0=tuntap,tap0,{host.mac}"],
        *[f"{name}={value}" for name, value in variables.items()],
    ]
    child = lab.spawn(host, words, f"{host.name}-linux")
    lab.spawn(host, [sys.executable, str(Path(__file__).with_name("nudge.py")), "br0", host.mac], f"{host.name}-nudge")
    return Linux(host.name, host.namespace, host.outer, host.mac, folder, child)


def _give_away_leg(host: Host) -> None:
    """The host's leg at the Internet becomes the Linux's, as do its addresses of both layers."""

    def ip(*words: str) -> None:
        run(["ip", "-n", host.namespace, *words])

    ip("address", "flush", "dev", "eth0")
    ip("link", "set", "eth0", "address", f"02:00:00:00:01:{host.mac[-2:]}")
    ip("link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
    ip("tuntap", "add", "tap0", "mode", "tap")
    for leg in ("eth0", "tap0"):
        ip("link", "set", leg, "master", "br0", "up")
    ip("link", "set", "br0", "up")
    host.run("ethtool", "-K", "tap0", "tx", "off", "tso", "off", check=False)
