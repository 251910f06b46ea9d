"""A charon for each node: strongSwan's, with the plugin that hands keys to `ain`, told by `ain ike-config` what to negotiate."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from .linux import Linux
from .shell import LabError, run
from .topology import Lab

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "/usr/sbin/charon-systemd"
SHARED = "/tmp/shared"  # the folder of a Linux as it sees it itself
INSIDE = f"STRONGSWAN_CONF={SHARED}/strongswan.conf SWANCTL_DIR={SHARED}/swanctl"
LINUX_CONF = f"""
charon {{
    load_modular = no
    load = random nonce aes sha1 sha2 hmac kdf gcm pem pkcs1 pkcs8 x509 revocation constraints pubkey openssl kernel-netlink socket-default vici
    install_routes = no
    retransmit_timeout = 0.5
    retransmit_base = 1.5
    plugins {{ vici {{ socket = unix:///tmp/charon.vici }} }}
    start-scripts {{ load = /usr/sbin/swanctl --load-all --noprompt --uri unix:///tmp/charon.vici }}
    filelog {{ lab {{ path = {SHARED}/charon.log
        default = 1
        flush_line = yes }} }}
}}
swanctl {{ load = random openssl pem pkcs1 pkcs8 x509 }}
"""


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


def start_inside(host: Linux, connections: str) -> None:
    """Starts a charon that speaks to the kernel of a Linux of its own, told what `ain ike-config --host` printed."""
    (host.folder / "swanctl").mkdir()
    (host.folder / "swanctl" / "swanctl.conf").write_text(connections)
    (host.folder / "strongswan.conf").write_text(LINUX_CONF)
    host.start(f"export {INSIDE}; exec {PROGRAM}")


def swanctl_inside(host: Linux, *words: str) -> None:
    """Has the charon in a Linux do what `swanctl` can ask for."""
    host.script(f"{INSIDE} /usr/sbin/swanctl {shlex.join(words)} --uri unix:///tmp/charon.vici")


def delete_inside(host: Linux) -> None:
    """Ends the tunnel of a Linux by IKE DELETE. Its charon forgets the connection first, or the other end would make it again."""
    conf = host.folder / "swanctl" / "swanctl.conf"
    connections = conf.read_text()
    conf.write_text("")
    swanctl_inside(host, "--load-conns")
    swanctl_inside(host, "--terminate", "--ike", re.findall(r"(?m)^    (\S+) {", connections)[0])
    conf.write_text(connections)


def restore_inside(host: Linux) -> None:
    """Has the charon in a Linux know its connection again, so that the other end can make the tunnel."""
    swanctl_inside(host, "--load-conns")


def swanctl(lab: Lab, node: str, *words: str) -> str:
    """What `swanctl` says of a node's charon."""
    variables = [f"STRONGSWAN_CONF={folder(lab, node)}/strongswan.conf", f"SWANCTL_DIR={folder(lab, node)}/swanctl"]
    uri = f"unix://{folder(lab, node)}/charon.vici"
    return run(["env", *variables, "swanctl", *words, "--uri", uri], check=False).stdout
