"""Traffic that users make: pages, pings, datagrams, TCP both ways, iperf3."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .inner import Address
from .shell import LabError, inside, wait_for
from .topology import Host, Lab

WEB_PORT, UDP_PORT, TCP_PORT, IPERF_PORT = 80, 7000, 7001, 5201
FPING_PAUSE_MS = 0.1  # between any two pings, its default would be 10
PAGE_MARKERS = 600


def open_socket(host: Host, kind: socket.SocketKind, address: Address, timeout_s: float = 10) -> socket.socket:
    """A socket inside `host`, of the family of `address`."""
    with inside(host.namespace):
        made = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind)
    made.settimeout(timeout_s)
    return made


def listening(host: Host, address: Address, port: int) -> bool:
    """Whether a TCP server of `host` answers there, asked from the host itself."""
    with open_socket(host, socket.SOCK_STREAM, address, 1) as probe:
        return probe.connect_ex((str(address), port)) == 0


def serve_page(lab: Lab, host: Host, address: Address) -> bytes:
    """Starts a web server whose /page.html holds a fresh marker of 32 random bytes many times, and returns the
    marker.
    """
    marker = secrets.token_bytes(32)
    site = lab.directory / "site"
    site.mkdir(exist_ok=True)
    (site / "page.html").write_bytes(
        b"<!doctype html><title>ain</title>\n"
        + b"".join(b"<p>%d " % n + marker + b"</p>\n" for n in range(PAGE_MARKERS))
    )
    server = Path(__file__).with_name("web.py")
    lab.spawn(host, [sys.executable, str(server), str(address), str(WEB_PORT), str(site)], "web")
    wait_for("the web server listens", lambda: listening(host, address, WEB_PORT))
    return marker


def curl(lab: Lab, host: Host, address: Address, timeout_s: int = 20) -> subprocess.CompletedProcess[str]:
    """Fetches the page to page.html in the run's directory."""
    return host.run(
        "curl",
        "-sS",
        "--max-time",
        str(timeout_s),
        "-o",
        str(page(lab)),
        f"http://{in_url(address)}/page.html",
        timeout_s=timeout_s + 5,
        check=False,
    )


def in_url(address: Address) -> str:
    """The address as a URL has it (RFC 3986 section 3.2.2)."""
    return str(address) if address.version == 4 else f"[{address}]"


def page(lab: Lab) -> Path:
    """Where `curl` puts what it fetched."""
    return lab.directory / "page.html"


@dataclass(frozen=True)
class Ping:
    """What fping saw. An answer that came again is no second answer."""

    sent: int
    received: int
    duplicates: int
    average_ms: float


def ping(
    host: Host,
    address: Address,
    count: int = 10,
    interval_s: float = 0.05,
    size: int = 56,
    whole: bool = False,
    patience_s: float = 5,
) -> Ping:
    """Pings with `size` bytes, which no router may cut if `whole`; losses are no error. Each answer has `patience_s` to come: ping of
    iputils would leave two round trips after it has sent the last one, and count as lost what a busy machine takes longer for.
    """
    words = ["fping", "-q", "-c", count, "-p", 1000 * interval_s, "-i", FPING_PAUSE_MS, "-t", 1000 * patience_s, "-b", size]
    words += ["-M"] * whole
    done = host.run(*map(str, words), str(address), timeout_s=count * interval_s * 2 + patience_s + 15, check=False)
    said = done.stdout + done.stderr
    summary = re.search(r"xmt/rcv/%loss = (\d+)/(\d+)/\d+%(?:, min/avg/max = [\d.]+/([\d.]+)/)?", said)
    if not summary:
        raise LabError(f"fping: {said}")
    sent, received, average = summary.groups()
    return Ping(int(sent), int(received), said.count("duplicate for"), float(average or "nan"))


@contextlib.contextmanager
def udp_echo(host: Host, address: Address, port: int = UDP_PORT) -> Iterator[set[str]]:
    """A UDP server that sends everything back; yields the set of sources it has seen."""
    sources: set[str] = set()
    with open_socket(host, socket.SOCK_DGRAM, address, 0.2) as server:
        server.bind((str(address), port))
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    datagram, source = server.recvfrom(65_535)
                    sources.add(source[0])
                    server.sendto(datagram, source)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield sources
        finally:
            ended.set()
            thread.join()


def udp_exchange(host: Host, address: Address, sizes: list[int], port: int = UDP_PORT) -> int:
    """Sends one random datagram of each size to an echo server, one after the other; returns how many came back
    unchanged.
    """
    returned = 0
    with open_socket(host, socket.SOCK_DGRAM, address, 5) as client:
        for size in sizes:
            payload = secrets.token_bytes(size)
            client.sendto(payload, (str(address), port))
            with contextlib.suppress(TimeoutError):
                returned += client.recv(65_535) == payload
    return returned


@dataclass
class Transfer:
    """A TCP connection that carries `size` random bytes from server to client and then as many back."""

    down_sent: str = ""
    down_received: str = ""
    up_sent: str = ""
    up_received: str = ""
    source: str = ""
    connections: int = 0


class TcpExchange:
    """Server in `server`, client in `client`, one connection. `at_bytes` of the download calls `midway` once."""

    def __init__(self, client: Host, server: Host, address: Address, size: int, timeout_s: float = 30) -> None:
        self.client, self.server, self.address, self.size, self.timeout_s = (
            client,
            server,
            address,
            size,
            timeout_s,
        )
        self.result = Transfer()

    def run(self, midway: Callable[[], None] | None = None, at_bytes: int = 0) -> Transfer:
        """Does it all; raises what either side met."""
        failures: list[BaseException] = []
        with open_socket(self.server, socket.SOCK_STREAM, self.address, self.timeout_s) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(self.address), TCP_PORT))
            listener.listen()
            thread = threading.Thread(target=self._serve, args=(listener, failures), daemon=True)
            thread.start()
            try:
                self._fetch(midway, at_bytes)
            finally:
                thread.join(self.timeout_s + 1)
        if failures:
            raise failures[0]
        return self.result

    def _serve(self, listener: socket.socket, failures: list[BaseException]) -> None:
        try:
            connection, source = listener.accept()
            with connection:
                connection.settimeout(self.timeout_s)
                self.result.connections += 1
                self.result.source = source[0]
                payload = secrets.token_bytes(self.size)
                self.result.down_sent = hashlib.sha256(payload).hexdigest()
                connection.sendall(payload)
                self.result.up_received = _receive(connection, self.size)
        except OSError as error:
            failures.append(error)

    def _fetch(self, midway: Callable[[], None] | None, at_bytes: int) -> None:
        with open_socket(self.client, socket.SOCK_STREAM, self.address, self.timeout_s) as connection:
            connection.connect((str(self.address), TCP_PORT))
            self.result.down_received = _receive(connection, self.size, midway, at_bytes)
            payload = secrets.token_bytes(self.size)
            self.result.up_sent = hashlib.sha256(payload).hexdigest()
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                connection.recv(1)


def _receive(connection: socket.socket, size: int, midway: Callable[[], None] | None = None, at_bytes: int = 0) -> str:
    digest, left = hashlib.sha256(), size
    while left and (chunk := connection.recv(min(left, 65_536))):
        digest.update(chunk)
        left -= len(chunk)
        if midway and size - left >= at_bytes:
            midway()
            midway = None
    return digest.hexdigest() if not left else f"{left} of {size} bytes missing"


@dataclass(frozen=True)
class Iperf:
    """One iperf3 run: bytes that arrived, Mb/s, TCP retransmissions."""

    received_bytes: int
    mbps: float
    retransmits: int


def iperf(
    lab: Lab, client: Host, server: Host, address: Address, seconds: int = 5, reverse: bool = False, mbps: int = 0
) -> Iperf:
    """TCP for some seconds, from client to server or the reverse; as fast as it goes or at `mbps`."""
    child = lab.spawn(server, ["iperf3", "-s", "-1", "-B", str(address), "-p", str(IPERF_PORT)], "iperf3")
    try:
        wait_for("iperf3 listens", lambda: _bound(server, IPERF_PORT))
        words = [
            "iperf3",
            "-J",
            "-c",
            str(address),
            "-p",
            str(IPERF_PORT),
            "-t",
            str(seconds),
            "--connect-timeout",
            "8000",
        ]
        words += ["-b", f"{mbps}M"] if mbps else []
        done = client.run(*words, *(["-R"] if reverse else []), timeout_s=seconds + 25, check=False)
        report = json.loads(done.stdout or "{}")
        if "sum_received" not in report.get("end", {}):
            raise LabError(f"iperf3: {report.get('error', done.stdout + done.stderr)}")
        end = report["end"]
        return Iperf(
            end["sum_received"]["bytes"],
            end["sum_received"]["bits_per_second"] / 1e6,
            end["sum_sent"].get("retransmits", 0),
        )
    finally:
        lab.stop(child)


def _bound(host: Host, port: int) -> bool:
    """Whether a TCP socket listens on `port`, found without connecting (iperf3 would take that for its client)."""
    with inside(host.namespace):
        lines = [line for table in ("tcp", "tcp6") for line in Path(f"/proc/thread-self/net/{table}").open()]
    fields = [line.split() for line in lines]
    return any(one[1].endswith(f":{port:04X}") and one[3] == "0A" for one in fields)
