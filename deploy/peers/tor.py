"""A private Tor network: three relays that are its directory authorities too, and a client.

    initiator        ain1    ain2    ain3        responder
    tor, SOCKS       tor     tor     tor         web server

Every circuit goes through the three relays, in an order that the client draws. `TestingTorNetwork` shortens what takes
an hour on the public network; nothing here reaches it: the namespaces have no way out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from lab.configs import RESPONDER
from lab.shell import LabError, run, wait_for
from lab.topology import Host, InLab, Lab, create

RELAYS = ("ain1", "ain2", "ain3")
OR_PORT, DIR_PORT, SOCKS_PORT = 5000, 7000, 9050
BOOTSTRAP_S = 120
PASSPHRASE = b"of a key that lives for one run\n"
# cc_alg=2: congestion control as on the public network, where it made streams several times faster.
COMMON = """
TestingTorNetwork 1
DataDirectory {directory}
Log notice stdout
PathsNeededToBuildCircuits 0.67
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 2
V3AuthDistDelay 2
"""
RELAY = """
Nickname {nickname}
Address {address}
ORPort {address}:5000 IPv4Only
DirPort {address}:7000
SocksPort 0
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo none@example.invalid
AssumeReachable 1
ExitRelay 1
ExitPolicy accept *:*
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingMinExitFlagThreshold 0
ConsensusParams cc_alg=2
"""
CLIENT = """
SocksPort 127.0.0.1:9050
UseEntryGuards 0
"""


class Private(InLab):
    """The whole network."""

    def __init__(self) -> None:
        self.lab: Lab = create(["initiator", *RELAYS, "responder"])
        self.running: list[subprocess.Popen[bytes]] = []

    @property
    def initiator(self) -> Host:
        """Where the user is."""
        return self.lab["initiator"]

    @property
    def responder(self) -> Host:
        """What the user talks to."""
        return self.lab["responder"]

    @property
    def pids(self) -> list[int]:
        """Relays and client."""
        return [child.pid for child in self.running]

    def up(self) -> None:
        """Keys, files, relays, client; waits until the client has a circuit."""
        run(["ip", "-n", self.responder.namespace, "address", "add", f"{RESPONDER}/32", "dev", "lo"])
        for relay in RELAYS:
            way = ["route", "add", str(RESPONDER), "via", str(self.responder.outer)]
            run(["ip", "-n", self.lab[relay].namespace, *way])
        authorities = [self._authority(self.lab[relay]) for relay in RELAYS]
        for relay in RELAYS:
            self._start(self.lab[relay], relay_file(self.lab[relay]), authorities)
        self._start(self.initiator, CLIENT, authorities)
        try:
            wait_for("the Tor client has a circuit", self._bootstrapped, BOOTSTRAP_S, 0.5)
        except LabError as error:
            raise LabError(f"{error}\n{self._log('initiator')[-1500:]}\n{self._log('ain1')[-1500:]}") from error

    def _bootstrapped(self) -> bool:
        for child in self.running:
            if child.poll() is not None:
                raise LabError(f"a tor ended with status {child.returncode}")
        return "Bootstrapped 100%" in self._log("initiator")

    def _log(self, name: str) -> str:
        return (self.lab.directory / f"{name}.log").read_text(errors="replace")

    def _directory(self, host: Host) -> Path:
        directory = self.lab.directory / host.name
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def _authority(self, host: Host) -> str:
        """Makes the keys of an authority; returns the line by which all know it."""
        keys = self._directory(host) / "keys"
        keys.mkdir(mode=0o700)
        words = ["tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "1"]
        words += ["-a", f"{host.outer}:{DIR_PORT}"]
        for option, name in (("-i", "identity_key"), ("-s", "signing_key"), ("-c", "certificate")):
            words += [option, str(keys / f"authority_{name}")]
        done = subprocess.run(words, input=PASSPHRASE, capture_output=True, timeout=60)
        if done.returncode:
            raise LabError(f"tor-gencert: {done.stderr.decode()}")
        found = re.search(r"^fingerprint (\w+)$", (keys / "authority_certificate").read_text(), re.MULTILINE)
        only_keys = self._files(host, f"DataDirectory {keys.parent}\nORPort 1", [])
        listed = run(["tor", *only_keys, "--list-fingerprint"], 60)
        identity = re.search(r"((?:[0-9A-F]{4} ?){10})", listed.stdout)
        if not found or not identity:
            raise LabError(f"no fingerprint: {listed.stdout}{listed.stderr}")
        return (
            f"DirAuthority {host.name} orport={OR_PORT} no-v2 v3ident={found[1]} "
            f"{host.outer}:{DIR_PORT} {identity[1].replace(' ', '')}"
        )

    def _files(self, host: Host, text: str, authorities: list[str]) -> list[str]:
        """Writes a torrc; returns the options that make tor read it and nothing else."""
        directory = self._directory(host)
        torrc, nothing = self.lab.directory / f"{host.name}.torrc", self.lab.directory / "nothing.torrc"
        # Without authorities of its own, tor takes a testing network for a mistake.
        common = COMMON.format(directory=directory) if authorities else ""
        torrc.write_text("\n".join([common, text, *authorities]) + "\n")
        nothing.touch()
        return ["-f", str(torrc), "--defaults-torrc", str(nothing)]

    def _start(self, host: Host, text: str, authorities: list[str]) -> None:
        self.running.append(self.lab.spawn(host, ["tor", *self._files(host, text, authorities)], host.name))


def relay_file(host: Host) -> str:
    """What a relay has beside what all have."""
    return RELAY.format(nickname=host.name, address=host.outer)
