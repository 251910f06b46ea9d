"""Small servers and clients for hosts in which no socket of ours can be opened.

    chat.py serve ADDRESS PORT DOWN UP SOURCE     one TCP connection: sends the file DOWN, writes what comes to UP, the peer's address to SOURCE
    chat.py fetch ADDRESS PORT DOWN UP            the other side of it
    chat.py echo  ADDRESS PORT                    sends every UDP datagram back
    chat.py ask   ADDRESS PORT SIZE...            sends datagrams of random bytes to an echo, prints how many came back the same
    chat.py collect PORT FILE                     writes the first 4 bytes of every UDP datagram of either family to FILE
    chat.py alive OWN NODE                        answers the KEEPALIVEs of a neighbouring node (docs/protocol.md section 6)
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

LIMIT_S = 30
SIGNALS_PORT = 4797
KEEPALIVE, KEEPALIVE_ACK = 3, 4


def family(address: str) -> socket.AddressFamily:
    """The family of an address in text form."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address: str, port: str, down: str, up: str, source: str) -> None:
    """One TCP connection, both ways one after the other."""
    with socket.create_server((address, int(port)), family=family(address)) as server:
        print("listening", flush=True)
        connection, peer = server.accept()
    with connection:
        connection.sendall(Path(down).read_bytes())
        connection.shutdown(socket.SHUT_WR)
        Path(source).write_text(peer[0])
        write_all(connection, up)


def fetch(address: str, port: str, down: str, up: str) -> None:
    """The other side of `serve`."""
    with socket.create_connection((address, int(port)), LIMIT_S) as connection:
        write_all(connection, down)
        connection.sendall(Path(up).read_bytes())


def write_all(connection: socket.socket, file: str) -> None:
    """Everything that comes, until the other side has no more."""
    with open(file + ".new", "wb") as out:
        while got := connection.recv(65_536):
            out.write(got)
    os.rename(file + ".new", file)


def echo(address: str, port: str) -> None:
    """Sends every datagram back."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as server:
        server.bind((address, int(port)))
        print("listening", flush=True)
        while True:
            datagram, peer = server.recvfrom(65_535)
            server.sendto(datagram, peer)


def ask(address: str, port: str, *sizes: str) -> None:
    """One datagram of each size, one after the other."""
    same = 0
    with socket.socket(family(address), socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for size in map(int, sizes):
            sent = os.urandom(size)
            client.sendto(sent, (address, int(port)))
            try:
                same += client.recv(65_535) == sent
            except TimeoutError:
                print(f"no answer to {size} bytes")
    print(same)


def collect(port: str, file: str) -> None:
    """Every datagram to that port."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server, open(file, "wb", buffering=0) as out:
        server.bind(("::", int(port)))
        print("listening", flush=True)
        while True:
            out.write(server.recv(65_535)[:4])


def alive(own: str, node: str) -> None:
    """Answers KEEPALIVEs in datagrams as long as they are."""
    process = os.urandom(4)
    with socket.socket(family(own), socket.SOCK_DGRAM) as pvt:
        pvt.bind((own, SIGNALS_PORT))
        while True:
            signal = pvt.recv(65_535)
            if signal[0] == KEEPALIVE:
                head = bytes([KEEPALIVE_ACK, 0, 0, 0]) + process + signal[8:12]
                pvt.sendto(head + os.urandom(len(signal) - len(head)), (node, SIGNALS_PORT))


if __name__ == "__main__":
    {"serve": serve, "fetch": fetch, "echo": echo, "ask": ask, "collect": collect, "alive": alive}[sys.argv[1]](*sys.argv[2:])
