"""A charon for each node: strongSwan's, with the plugin that hands keys to `ain`, told by `ain ike-config` what to negotiate."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .shell import LabError, run
from .topology import Lab

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "/usr/sbin/charon-systemd"


def plugin() -> Path:
    """What `make plugin` makes. It is installed nowhere: charon finds it because it is loaded already."""
    path = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "strongswan" / "libstrongswan-kernel-ain.so"
    if not path.exists():
        raise LabError(f"{path} is not there: run make plugin")
    return path


def folder(lab: Lab, node: str) -> Path:
    """What `ain ike-config` wrote for a node."""
    return lab.directory / node / "charon"


def log(lab: Lab, node: str) -> str:
    """What a node's charon said."""
    path = lab.directory / f"{node}-ike.log"
    return path.read_text(errors="replace") if path.exists() else ""


def configure(lab: Lab, node: str, ain: Path) -> None:
    """Has a node write what its charon needs."""
    run([str(ain), "ike-config", "--config", str(lab.directory / f"{node}.toml"), "--dir", str(folder(lab, node))])


def start(lab: Lab, node: str) -> subprocess.Popen[bytes]:
    """Starts a node's charon as it has been configured."""
    own = lab.directory / f"{node}-strongswan.conf"
    own.write_text(
        f"include {folder(lab, node)}/strongswan.conf\n"
        f"charon {{ filelog {{ lab {{ path = {lab.directory}/{node}-ike.log\n default = 1\n flush_line = yes\n append = yes\n"
        " time_format = %T } } }\n"
    )
    words = ["env", f"STRONGSWAN_CONF={own}", f"LD_PRELOAD={plugin()}", PROGRAM]
    return lab.spawn(lab[node], words, f"{node}-charon")


def swanctl(lab: Lab, node: str, *words: str) -> str:
    """What `swanctl` says of a node's charon."""
    variables = [f"STRONGSWAN_CONF={folder(lab, node)}/strongswan.conf", f"SWANCTL_DIR={folder(lab, node)}/swanctl"]
    uri = f"unix://{folder(lab, node)}/charon.vici"
    return run(["env", *variables, "swanctl", *words, "--uri", uri], check=False).stdout
