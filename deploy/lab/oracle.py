"""One end of an ESP+AH tunnel made of scapy and the `cryptography` package: an oracle that none of us wrote.

    IP | AH | ESP | inner IP datagram [| TFC padding]

The outer IP is IPv4 or IPv6, the latter with extension headers before the AH if asked for. What scapy lacks is added
here. It has no AES-GMAC for AH (RFC 4543), and its `AuthAlgo.sign` looks for an ESP layer first, so that AH over ESP
gets an ICV of zeros.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography.hazmat.primitives import cmac, hashes, hmac
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import (
    AH,
    AUTH_ALGOS,
    ESP,
    AuthAlgo,
    IPSecIntegrityError,
    SecurityAssociation,
    zero_mutable_fields,
)
from scapy.packet import Packet, Raw

from .capture import total_bytes
from .configs import Network
from .inner import Address

__all__ = ["IPSecIntegrityError", "Peer", "SaKey", "of_network", "sequence_of", "udp"]

ESP_NAMES = {"aes-128-gcm-16": "AES-GCM", "aes-256-gcm-16": "AES-GCM"}


class AhAlgo(AuthAlgo):  # type: ignore[misc]
    """An AH algorithm that signs the whole packet, whatever AH covers. `icv(key, message, iv)` makes the ICV field."""

    def __init__(self, name: str, icv_size: int, icv: Callable[[bytes, bytes, bytes], bytes]) -> None:
        super().__init__(name, mac=True, digestmod=None, icv_size=icv_size)
        self.icv = icv

    def sign(self, pkt: Packet, key: bytes, esn_en: bool = False, esn: int = 0) -> Packet:
        pkt[AH].icv = self._icv(pkt, key, esn_en, esn, os.urandom(8), sending=True)
        return pkt

    def verify(self, pkt: Packet, key: bytes, esn_en: bool = False, esn: int = 0) -> None:
        # scapy reads padding behind the ICV as part of it.
        pkt[AH].icv, pkt[AH].padding = pkt[AH].icv[: self.icv_size], pkt[AH].icv[self.icv_size :]
        shown = bytes(pkt[AH].icv)
        if shown != self._icv(pkt, key, esn_en, esn, shown[:8], sending=False):
            raise IPSecIntegrityError(f"AH ICV {shown.hex()} is wrong")

    def _icv(self, pkt: Packet, key: bytes, esn_en: bool, esn: int, iv: bytes, sending: bool) -> bytes:
        message = bytes(zero_mutable_fields(pkt.copy(), sending=sending))
        return self.icv(key, message + (struct.pack("!L", esn) if esn_en else b""), iv)


def _hmac_sha256_128(key: bytes, message: bytes, iv: bytes) -> bytes:
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(message)
    return mac.finalize()[:16]


def _gmac(key: bytes, message: bytes, iv: bytes) -> bytes:
    return iv + AESGCM(key[:16]).encrypt(key[16:] + iv, b"", message)


def _cmac_96(key: bytes, message: bytes, iv: bytes) -> bytes:
    mac = cmac.CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()[:12]


AUTH_ALGOS["hmac-sha2-256-128"] = AhAlgo("hmac-sha2-256-128", 16, _hmac_sha256_128)
AUTH_ALGOS["aes-128-gmac"] = AhAlgo("aes-128-gmac", 24, _gmac)
AUTH_ALGOS["aes-cmac-96"] = AhAlgo("aes-cmac-96", 12, _cmac_96)


@dataclass(frozen=True)
class SaKey:
    """SPI and key material (salt last) of one SA."""

    spi: int
    key: bytes


def ip_packet(data: bytes) -> Packet:
    """The IP packet of either family in `data`."""
    return IPv6(data) if data[0] >> 4 == 6 else IP(data)


def outer_header(source: Address, destination: Address) -> Packet:
    """An outer header as the protocol has it."""
    if source.version == 6:
        return IPv6(src=str(source), dst=str(destination), hlim=64)
    return IP(src=str(source), dst=str(destination), flags="DF", ttl=64, id=0)


def set_protocol(packet: Packet, protocol: int) -> None:
    """Has the IP header of either family say what follows it."""
    if packet.version == 6:
        packet.nh = protocol
    else:
        packet.proto = protocol


class Peer:
    """The far end of a tunnel. Sequence numbers are 64 bits; without ESN the low half is all there is."""

    def __init__(
        self,
        local: Address,
        remote: Address,
        ah: str,
        esp: str,
        esn: bool,
        ah_in: SaKey,
        ah_out: SaKey,
        esp_in: SaKey,
        esp_out: SaKey,
    ) -> None:
        self.esn = esn
        self.sa_in = esp_in
        self.header_out = outer_header(local, remote)
        header_in = outer_header(remote, local)
        self.ah_in, self.ah_out = (
            SecurityAssociation(AH, sa.spi, auth_algo=ah, auth_key=sa.key, esn_en=esn) for sa in (ah_in, ah_out)
        )
        self.esp_in, self.esp_out = (
            SecurityAssociation(
                ESP, sa.spi, crypt_algo=ESP_NAMES[esp], crypt_key=sa.key, tunnel_header=header, esn_en=esn
            )
            for sa, header in ((esp_in, header_in), (esp_out, self.header_out))
        )

    def seal(
        self,
        inner: bytes,
        sequence: int,
        esp_sequence: int | None = None,
        extensions: Packet | None = None,
        options: Sequence[Packet] = (),
        change: Callable[[bytes], bytes] = bytes,
    ) -> bytes:
        """`inner` as an outer packet that carries `sequence` in AH and, unless told otherwise, in ESP. `extensions` are
        headers between an IPv6 header and the AH; the last of them has to announce ESP. `options` are those of an IPv4
        header. `change` is what becomes of the ESP before it is signed.
        """
        esp = bytes(self._encrypt(self.esp_out, ip_packet(inner), sequence if esp_sequence is None else esp_sequence))
        header = self.header_out / extensions if extensions else self.header_out.copy()
        if options:
            header.options = list(options)
        packet = header / Raw(change(bytes(ip_packet(esp)[ESP])))
        if not extensions:
            set_protocol(packet, socket.IPPROTO_ESP)
        return bytes(self._encrypt(self.ah_out, ip_packet(bytes(packet)), sequence))

    def seal_long(self, inner: bytes, sequence: int, icv_bytes: int) -> bytes:
        """The same with an AH whose ICV field is so long, what follows the ICV being padding."""
        ah, (algorithm, key) = AH(bytes(ip_packet(self.seal(inner, sequence))[AH])), (self.ah_out.auth_algo, self.ah_out.auth_key)
        ah.payloadlen = (12 + icv_bytes) // 4 - 2
        ah.icv = bytes(icv_bytes)
        packet = self.header_out / Raw(bytes(ah))
        set_protocol(packet, socket.IPPROTO_AH)
        packet = ip_packet(bytes(packet))
        # scapy has read all of the field as ICV.
        packet[AH].icv, packet[AH].padding = bytes(algorithm.icv_size), bytes(icv_bytes - algorithm.icv_size)
        return bytes(algorithm.sign(packet, key, self.esn, sequence >> 32))

    def _encrypt(self, sa: SecurityAssociation, packet: Packet, sequence: int) -> Packet:
        low, high = sequence & 0xFFFF_FFFF, sequence >> 32
        sa.seq_num, sa.esn = low, high  # scapy takes 0 as an argument for "not given"
        return sa.encrypt(packet, seq_num=low, esn_en=self.esn, esn=high)

    def open(self, outer: bytes, high: int = 0) -> tuple[bytes, int]:
        """The inner datagram of an outer packet, and the bytes of TFC padding behind it. `high` is the upper half of
        both sequence numbers. Raises `IPSecIntegrityError` if AH or ESP is not authentic.
        """
        packet = ip_packet(outer)
        self.ah_in.esn = self.esp_in.esn = high
        without_ah = self.ah_in.decrypt(packet, esn_en=self.esn, esn=high)
        data = bytes(self.esp_in.decrypt(ip_packet(bytes(without_ah)), esn_en=self.esn, esn=high))
        length = total_bytes(data)
        return data[:length], len(data) - length


def opened(outer: bytes, ah: str, ah_sa: SaKey, esp: str, esp_sa: SaKey, esn: bool) -> bytes:
    """What an outer packet of an early number carries: what is in its ESP, or the cell. Raises `IPSecIntegrityError` if it is not
    authentic.
    """
    header = ip_packet(outer)
    association = SecurityAssociation(AH, ah_sa.spi, auth_algo=ah, auth_key=ah_sa.key, esn_en=esn)
    inner = ip_packet(bytes(association.decrypt(header, esn_en=esn, esn=0)))
    if ESP not in inner:
        return bytes(inner.payload)
    ends = outer_header(ip_address(header.src), ip_address(header.dst))
    association = SecurityAssociation(
        ESP, esp_sa.spi, crypt_algo=ESP_NAMES[esp], crypt_key=esp_sa.key, tunnel_header=ends, esn_en=esn
    )
    return bytes(association.decrypt(inner, esn_en=esn, esn=0))


def sequence_of(outer: bytes) -> int:
    """Low half of the sequence number in the AH of an outer packet."""
    return int(ip_packet(outer)[AH].seq)


def udp(source: Address, destination: Address, payload: bytes, ports: tuple[int, int] = (4000, 5000)) -> bytes:
    """A UDP datagram as an IP packet."""
    from scapy.layers.inet import UDP

    ip = (IPv6(hlim=64) if source.version == 6 else IP(ttl=64)) / UDP(sport=ports[0], dport=ports[1]) / Raw(payload)
    ip.src, ip.dst = str(source), str(destination)
    return bytes(ip)


def of_network(network: Network, own: str, other: str, ah: str, esp: str, esn: bool = True) -> Peer:
    """`own` played by scapy: its end of the tunnel with `other`, keys taken from the network."""

    def key(protocol: str, sender: str, receiver: str) -> SaKey:
        spi, material = network.keys[protocol, sender, receiver]
        return SaKey(spi, bytes.fromhex(material))

    return Peer(
        network.outer(own),
        network.outer(other),
        ah,
        esp,
        esn,
        key("ah", other, own),
        key("ah", own, other),
        key("esp", other, own),
        key("esp", own, other),
    )
