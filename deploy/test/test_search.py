"""The search finds what is there and nothing else: captures that tcpdump wrote between two plain hosts, and made
ones.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from lab import capture, search, table
from lab.oracle import udp
from lab.shell import LabError, inside, wait_for
from lab.topology import Lab, topology

MARKER = bytes.fromhex("00112233445566778899aabbccddeeff" * 2)
NODES = {"ain1": IPv4Address("192.0.2.1"), "ain2": IPv4Address("192.0.2.2"), "ain3": IPv4Address("192.0.2.3")}


def secrets_of(marker: bytes = MARKER) -> search.Secrets:
    return search.Secrets(
        {"outer": IPv4Address("192.0.2.101"), "inner": IPv4Address("10.66.0.5")},
        {"outer": IPv4Address("192.0.2.201"), "inner": IPv4Address("198.51.100.80")},
        marker,
        NODES,
    )


@pytest.fixture(scope="module")
def plain() -> Iterator[Lab]:
    with topology(["initiator", "responder", "ain1"], family=4) as lab:
        yield lab


def talk(lab: Lab, payloads: list[bytes]) -> None:
    """Sends UDP datagrams from initiator to responder and waits until each has arrived."""
    with inside(lab["responder"].namespace):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(lab["initiator"].namespace):
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sink, source:
        sink.bind((str(lab["responder"].outer), 7000))
        sink.settimeout(5)
        for payload in payloads:
            source.sendto(payload, sink.getsockname())
            assert sink.recv(2000) == payload


def test_capture_of_a_link_shows_marker_addresses_and_sizes(plain: Lab) -> None:
    marker = secrets.token_bytes(32)
    running = capture.link(plain, plain["initiator"], plain["responder"])
    talk(plain, [b"x" * 100 + marker + b"y" * n for n in (0, 50, 700, 1000)])
    path = running.stop()
    sight = search.look_at_capture("link", path, secrets_of(marker))
    assert sight.marker_hits == 4
    assert sight.kinds("initiator") == ["outer"] and sight.kinds("responder") == ["outer"]
    assert sight.sizes == {160, 210, 860, 1160} and sight.sees_sizes
    assert not sight.sees("ain1")
    assert len(list(capture.from_source(path, plain["initiator"].outer))) == 4


def test_link_leaves_out_what_others_say(plain: Lab) -> None:
    running = capture.link(plain, plain["ain1"], plain["initiator"])
    talk(plain, [MARKER * 3])
    plain["ain1"].run("ping", "-c1", "-s", "400", str(plain["initiator"].outer))
    sight = search.look_at_capture("link", running.stop(), secrets_of())
    assert sight.marker_hits == 0 and not sight.kinds("responder")
    assert sight.sizes == {428} and not sight.sees_sizes


def test_lengths_survive_a_short_snap(plain: Lab) -> None:
    running = capture.link(plain, plain["initiator"], plain["responder"], snap_bytes=64)
    talk(plain, [bytes(900)])
    assert capture.ip_sizes(running.stop()) == {928: 1}


def test_one_or_two_hits_of_an_address_are_chance() -> None:
    packed = IPv4Address("198.51.100.80").packed
    assert not search.look("x", [packed, b"a" + packed], secrets_of()).kinds("responder")
    assert search.look("x", [packed * 2, b"a" + packed], secrets_of()).kinds("responder") == ["inner"]


def test_text_finds_whole_addresses_only() -> None:
    sight = search.look_at_text("dump", '{"a": "192.0.2.10", "b": "110.66.0.5", "c": "192.0.2.201"}', secrets_of())
    assert sight.kinds("responder") == ["outer"] and not sight.kinds("initiator") and not sight.sees("ain1")
    hexed = search.look_at_text("dump", f'"{IPv4Address("10.66.0.5").packed.hex()}", "{MARKER.hex()}"', secrets_of())
    assert hexed.kinds("initiator") == ["inner"] and hexed.sees_marker


def test_a_row_tells_the_whole_path_from_the_next_hops() -> None:
    def path(text: str, own: set[str]) -> str:
        return table.Row(search.look_at_text("x", text, secrets_of()), frozenset(own), tuple(NODES)).path

    assert path("entrance downstream ain2 path ain2 ain3, peer 192.0.2.1", {"ain1", "ain2"}) == "yes"
    assert path("exit upstream ain2, peer 192.0.2.3", {"ain2", "ain3"}) == "next hops"
    assert path("ain3", {"ain1", "ain2"}) == "in part"
    assert path("10.66.0.5", {"ain1", "ain2"}) == "-"


def test_memory_shows_inner_headers_with_right_checksums_only() -> None:
    source, destination = IPv4Address("10.66.0.5"), IPv4Address("198.51.100.80")
    good = [udp(source, destination, bytes(n)) for n in (24, 1300)] + [udp(destination, source, bytes(99))]
    heap = b"junk" + b"more".join(good) + MARKER
    sight = search.look_at_memory("heap", [heap, bytes(100)], secrets_of())
    assert sight.sizes == {52, 1328, 127} and sight.sees_marker
    assert sight.kinds("initiator") == ["inner"] and sight.kinds("responder") == ["inner"]
    bad = bytearray(good[0])
    bad[11] ^= 1
    assert not search.look_at_memory("heap", [bytes(bad) * 3, source.packed * 9], secrets_of()).hits["initiator inner"]


def test_a_capture_that_cannot_start_says_why(plain: Lab) -> None:
    with pytest.raises(LabError, match="nosuch"):
        capture.interface(plain, plain["ain1"], "nosuch")


def test_a_crashed_run_is_swept(plain: Lab) -> None:
    from lab import topology as t

    left = t.create(["ain1"])
    child = left.spawn(left["ain1"], ["sleep", "1000"], "sleep")
    assert left.lock
    t.sweep()
    assert t.namespace_of(left.name, "ain1") in t.namespaces(), "a live run was swept"
    left.lock.close()
    t.sweep()
    assert t.namespace_of(left.name, "ain1") not in t.namespaces()
    assert t.namespace_of(plain.name, "ain1") in t.namespaces()
    wait_for("the process is gone", lambda: child.poll() is not None)
