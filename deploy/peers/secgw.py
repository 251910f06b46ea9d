"""DPDK's sample security gateway, ipsec-secgw: built from the source package of the installed DPDK, fed and drained like
`ain` in `lab.replay`: one net_pcap port that replays a capture over and over from memory and drops what is sent.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from lab.shell import LabError, run

TUNNELS = 64
FRAME_BYTES = 1420
PACKETS = 1024
SOURCES = "https://deb.debian.org/debian"
MACS = bytes.fromhex("020000000001" "020000000002")


@dataclass(frozen=True)
class Suite:
    """An ESP suite as secgw's files and drivers name it."""

    name: str
    driver: str
    words: str


GCM = Suite("gcm", "crypto_aesni_gcm0", f"aead_algo aes-128-gcm aead_key {':'.join(['1b'] * 20)}")
CBC = Suite(
    "cbc-hmac",
    "crypto_aesni_mb0",
    f"cipher_algo aes-128-cbc cipher_key {':'.join(['1b'] * 16)} "
    f"auth_algo sha256-hmac auth_key {':'.join(['2c'] * 32)}",
)


def build(directory: Path) -> Path:
    """The program; built below `directory` unless it is there. Its checksum offload goes: net_pcap has none."""
    version = run(["dpkg-query", "-W", "-f", "${source:Version}", "libdpdk-dev"]).stdout
    program = directory / f"ipsec-secgw-{re.sub('[^0-9.]', '-', version)}"
    if program.exists():
        return program
    shutil.rmtree(directory / "src", ignore_errors=True)
    source = _source(directory / "src", version)
    main = source / "ipsec-secgw.c"
    text = main.read_text()
    changed = text.replace("RTE_ETH_RX_OFFLOAD_CHECKSUM", "0")
    if changed == text:
        raise LabError(f"{main} has no RTE_ETH_RX_OFFLOAD_CHECKSUM to drop")
    main.write_text(changed)
    run(["make", "-C", str(source), "shared"], timeout_s=280)
    shutil.copy(source / "build" / "ipsec-secgw-shared", program)
    shutil.rmtree(directory / "src")
    return program


def _source(directory: Path, version: str) -> Path:
    """The sample's folder: from dpdk-dev where that has it, else from the source package of the same version."""
    packaged = Path("/usr/share/dpdk/examples")
    if (packaged / "ipsec-secgw").is_dir():
        shutil.copytree(packaged, directory)
        return directory / "ipsec-secgw"
    lists = directory / "lists"
    (lists / "partial").mkdir(parents=True)
    (directory / "sources.list").write_text(
        f"deb-src {SOURCES} bookworm main\ndeb-src {SOURCES}-security bookworm-security main\n"
    )
    options = ["-o", f"Dir::Etc::SourceList={directory / 'sources.list'}", "-o", "Dir::Etc::SourceParts=/dev/null"]
    options += ["-o", f"Dir::State::Lists={lists}", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
    run(["apt-get", *options, "-q", "update"], timeout_s=120)
    fetch = ["apt-get", *options, "-q", "source", "--download-only", f"dpdk={version}"]
    run(["sh", "-c", f'cd "$0" && exec "$@"', str(directory), *fetch], timeout_s=120)
    tarball = next(directory.glob("dpdk_*.orig.tar.*"))
    wanted = ["--wildcards", "*/examples/ipsec-secgw/*", "*/examples/common/*"]
    run(["tar", "-C", str(directory), "-xf", str(tarball), *wanted], timeout_s=60)
    return next(directory.glob("*/examples/ipsec-secgw"))


def command(
    program: Path, suite: Suite, inbound: bool, capture: str, core: int, folder: Path, memory: list[str]
) -> list[str]:
    """secgw on one core, that of its only thread, its port's devargs being `capture`."""
    config = folder / f"secgw-{suite.name}-{'in' if inbound else 'out'}.cfg"
    config.write_text(gateway_file(suite, inbound))
    devices = ["--vdev", f"net_pcap0,{capture}", "--vdev", suite.driver]
    # The unprotected side is the one that ESP comes in from.
    side = ["-u", "0x1"] if inbound else []
    return [
        *[str(program), "-l", str(core), "--no-pci", *memory, *devices, "--"],
        *["-p", "0x1", *side, f"--config=(0,0,{core})", "-f", str(config)],
    ]


def gateway_file(suite: Suite, inbound: bool) -> str:
    """Policies, associations and routes of one direction: secgw wants a core for every association, and here only one
    side has a port.
    """
    way = "in" if inbound else "out"
    ports = "sport 0:65535 dport 0:65535"
    lines = [f"sp ipv4 {way} esp protect {n + 1} pri 1 dst 192.168.{n}.0/24 {ports}" for n in range(TUNNELS)]
    lines += [
        f"sa {way} {n} {suite.words} mode ipv4-tunnel src 172.16.1.{n} dst 172.16.2.{n}" for n in range(1, TUNNELS + 1)
    ]
    lines += ["rt ipv4 dst 172.16.2.0/24 port 0", "rt ipv4 dst 192.168.0.0/16 port 0", "neigh port 0 02:00:00:00:00:02"]
    return "\n".join(lines) + "\n"


def write_plain(path: Path) -> None:
    """A capture of UDP datagrams, one tunnel's after the other's."""
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(PACKETS):
            frame = _frame(number % TUNNELS)
            out.write(struct.pack("<IIII", 0, number, len(frame), len(frame)) + frame)


def _frame(tunnel: int) -> bytes:
    length = FRAME_BYTES - 14
    header = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0))
    header += bytes([10, 0, 0, 1, 192, 168, tunnel, 7])
    total = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header[10:12] = (0xFFFF - total).to_bytes(2, "big")
    datagram = struct.pack("!HHHH", 1000, 2000, length - 20, 0) + os.urandom(length - 28)
    return MACS + b"\x08\x00" + bytes(header) + datagram
