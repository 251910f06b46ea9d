"""One end of a host's tunnel, whose other end is played by scapy.

    `ain endpoint`, or Linux, in initiator  <- IP|AH|ESP|datagram ->  scapy in ain1
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace

from . import configs, oracle, wire
from .capture import PROTO_AH
from .configs import RESPONDER
from .oracle import Peer
from .processes import Fleet
from .shell import wait_for


class Endpoint:
    """The end of an initiator's tunnel, `ain endpoint` or a Linux kernel, and scapy as its AIN."""

    def __init__(self, ah: str, esp: str, esn: bool, family: int = 4, linux: bool = False) -> None:
        tunnel = replace(configs.ends("ain1", "ain1")[0], ah=ah, esp=esp, esn=esn)
        kernels = ("initiator",) if linux else ()
        self.fleet = Fleet(configs.Network([], [tunnel], by_hand=("ain1",), family=family, linux=kernels))
        self.host, self.far = self.fleet.host("initiator"), self.fleet.host("ain1")
        self.variant = (ah, esp, esn)

    @property
    def peer(self) -> Peer:
        """scapy's end, once the fleet is up and the keys are drawn."""
        return oracle.of_network(self.fleet.network, "ain1", "initiator", *self.variant)


def awake(app: socket.socket, wires: wire.Listener, endpoint: Endpoint) -> bytes:
    """The first packet that comes out of the tunnel: those before are lost while the kernel asks for the next hop."""

    def probe() -> bytes | None:
        app.sendto(b"awake?", (str(RESPONDER), 5000))
        with contextlib.suppress(TimeoutError):
            return next(wires.packets(PROTO_AH, endpoint.host, 0.3))
        return None

    return wait_for("the endpoint sends", probe)
