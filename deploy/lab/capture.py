"""Captures at the bridge, one a link, and inside hosts; and reading them back.

The leg of a host shows all it sends and hears. A link is what two hosts say to each other: the frames on the leg of
the one that come from or go to the other. Frames are picked by MAC address, so that nothing of their content decides
what is looked at.
"""

from __future__ import annotations

import re
import signal
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .inner import Address
from .shell import LabError, wait_for
from .topology import Host, Lab

LINK_ETHERNET, LINK_RAW = 1, 101
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
PROTO_AH, PROTO_ICMPV6 = 51, 58
NEIGHBOUR_DISCOVERY = range(133, 138)
# Longer than any frame here. A larger figure costs tcpdump that much buffer a packet, however short.
WHOLE = 2048
REPORT = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel")


@dataclass
class Capture:
    """One running tcpdump."""

    lab: Lab
    name: str
    child: subprocess.Popen[bytes]

    @property
    def path(self) -> Path:
        """The capture file."""
        return self.lab.directory / f"{self.name}.pcap"

    def stop(self, lossy: bool = False, quiet: bool = True) -> Path:
        """Ends the capture once it has written all it has seen. Raises if the kernel lost some of it, unless `lossy`:
        a search must see everything. Where it never is `quiet`, as on links with a rate, the end comes at some packet.
        """
        if quiet:
            wait_for(f"capture {self.name} has written all", self._drained, every_s=0.1)
        self.lab.stop(self.child, signal.SIGINT)
        if not lossy and self._log().splitlines()[-1] != "0 packets dropped by kernel":
            raise LabError(f"capture {self.name} is not whole: {self._log()}")
        return self.path

    def _log(self) -> str:
        return (self.lab.directory / f"{self.name}.log").read_text().strip()

    def _drained(self) -> bool:
        """Asks tcpdump for its counts; true once the answer is that everything received was written."""
        before = len(REPORT.findall(self._log()))
        self.child.send_signal(signal.SIGUSR1)
        answers = wait_for(f"tcpdump {self.name} reports", lambda: REPORT.findall(self._log())[before:])
        written, received, dropped = map(int, answers[-1])
        return written + dropped >= received


def link(lab: Lab, left: Host, right: Host, snap_bytes: int = WHOLE) -> Capture:
    """Captures what two hosts say to each other, on the leg of `left` at the bridge. `snap_bytes` cuts frames."""
    rule = f"(ether src {left.mac} and ether dst {right.mac}) or (ether src {right.mac} and ether dst {left.mac})"
    return _start(lab, None, f"link-{left.name}-{right.name}", left.name, rule, snap_bytes)


def interface(lab: Lab, host: Host, device: str, snap_bytes: int = WHOLE) -> Capture:
    """Captures everything on a device inside a host."""
    return _start(lab, host, f"{host.name}-{device}", device, "", snap_bytes)


def _start(lab: Lab, host: Host | None, name: str, device: str, rule: str, snap_bytes: int) -> Capture:
    log = lab.directory / f"{name}.log"
    log.unlink(missing_ok=True)
    words = [
        "tcpdump",
        "-i",
        device,
        "-n",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-B",
        "32768",
        "-s",
        str(snap_bytes),
        "-w",
        str(lab.directory / f"{name}.pcap"),
    ]
    child = lab.spawn(host, words + ([rule] if rule else []), name)
    wait_for(f"tcpdump on {device} listens", lambda: "listening on" in log.read_text() or child.poll() is not None)
    if child.poll() is not None:
        raise LabError(f"tcpdump on {device}: {log.read_text().strip()}")
    return Capture(lab, name, child)


@dataclass(frozen=True)
class Frame:
    """One packet of a capture: its bytes, its length on the wire (longer if the capture cut it), the capture's link
    type, when it passed (Unix time).
    """

    data: bytes
    wire_bytes: int
    link_type: int
    at_s: float

    @property
    def ip(self) -> bytes | None:
        """The IP packet in it, if it holds one, of either family. Ethernet's padding of short frames is cut off."""
        if self.link_type == LINK_ETHERNET:
            ethertype, packet = int.from_bytes(self.data[12:14], "big"), self.data[14:]
        else:
            ethertype, packet = 0, self.data
        version = packet[0] >> 4 if packet else 0
        if version not in ETHERTYPES or ethertype not in (0, ETHERTYPES[version]):
            return None
        return packet[: total_bytes(packet)]

    @property
    def ip_bytes(self) -> int | None:
        """Total length of the IP packet in it, header included; none for neighbour discovery, which is to IPv6 what
        ARP is to IPv4.
        """
        packet = self.ip
        return None if packet is None or is_neighbour_discovery(packet) else total_bytes(packet)


def total_bytes(packet: bytes) -> int:
    """Length of an IP packet by its header."""
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big")
    return 40 + int.from_bytes(packet[4:6], "big")


def source_of(packet: bytes) -> bytes:
    """Source address of an IP packet."""
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def destination_of(packet: bytes) -> bytes:
    """Destination address of an IP packet."""
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]


def protocol_of(packet: bytes) -> int:
    """Protocol of an IPv4 packet, next header of an IPv6 packet."""
    return packet[9] if packet[0] >> 4 == 4 else packet[6]


def spi_of(packet: bytes) -> bytes:
    """SPI of an AH packet without IP options or extension headers."""
    return packet[24:28] if packet[0] >> 4 == 4 else packet[44:48]


def is_neighbour_discovery(packet: bytes) -> bool:
    """Whether the kernel asks or answers for a link-layer address (RFC 4861)."""
    return packet[0] >> 4 == 6 and packet[6] == PROTO_ICMPV6 and packet[40] in NEIGHBOUR_DISCOVERY


def frames(path: Path) -> Iterator[Frame]:
    """The packets of a capture file (libpcap format, written on this machine)."""
    with open(path, "rb") as file:
        header = file.read(24)
        if len(header) < 24 or header[:4] != struct.pack("=I", 0xA1B2C3D4):
            raise LabError(f"{path} is not a capture")
        link_type = struct.unpack("=I", header[20:24])[0]
        while record := file.read(16):
            seconds, microseconds, kept, wire = struct.unpack("=IIII", record)
            yield Frame(file.read(kept), wire, link_type, seconds + microseconds / 1e6)


def ip_sizes(path: Path) -> Counter[int]:
    """How many IP packets of which total length a capture holds, neighbour discovery left out."""
    return Counter(size for frame in frames(path) if (size := frame.ip_bytes) is not None)


def from_source(path: Path, source: Address) -> Iterator[bytes]:
    """The IP packets of a capture that come from `source`."""
    for frame in frames(path):
        packet = frame.ip
        if packet and source_of(packet) == source.packed:
            yield packet
