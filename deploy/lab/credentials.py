"""What the ends of tunnels show each other's charons: pre-shared keys, and certificates of an authority that a test makes up."""

from __future__ import annotations

import datetime
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from .configs import Network

PSK_BYTES = 32
DAY = datetime.timedelta(days=1)
AUTHORITY = "ca.pem"
Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def write(directory: Path, network: Network) -> None:
    """Every file that the tunnels of `network` need."""
    from .configs import psk_file, write_private

    pairs = list(network.links) + [(tunnel.node, tunnel.host) for tunnel in network.tunnels]
    for one, other in pairs:
        write_private(directory / psk_file(one, other), secrets.token_hex(PSK_BYTES) + "\n")
    if network.ike == "cert":
        certify(directory, network.nodes, network.ecdsa)


def section(network: Network, node: str) -> str:
    """`[ike]` of a node's file."""
    files = f'cert_file = "{node}.crt"\nkey_file = "{node}.key"\nca_files = ["{AUTHORITY}"]\n' if network.ike == "cert" else ""
    return f'\n[ike]\nsocket = "{node}/ike.sock"\nrekey_s = {network.rekey_s}\n{files}'


def certify(directory: Path, nodes: list[str], ecdsa: bool) -> None:
    """An authority, and a key and a certificate of each node."""
    authority = make_key(ecdsa)
    (directory / AUTHORITY).write_bytes(pem(certificate("authority", authority, authority, "authority")))
    for node in nodes:
        key = make_key(ecdsa)
        file = directory / f"{node}.key"
        file.touch(0o600)
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (directory / f"{node}.crt").write_bytes(pem(certificate(node, key, authority, "authority")))


def make_key(ecdsa: bool) -> Key:
    """ECDSA over P-256, or EdDSA over Curve25519."""
    return ec.generate_private_key(ec.SECP256R1()) if ecdsa else ed25519.Ed25519PrivateKey.generate()


def pem(made: x509.Certificate) -> bytes:
    """As the files have it."""
    return made.public_bytes(serialization.Encoding.PEM)


def certificate(name: str, key: Key, issuer_key: Key, issuer: str) -> x509.Certificate:
    """Says that `name` has `key`. What the authority says of itself may say this of others."""
    now = datetime.datetime.now(datetime.timezone.utc)
    draft = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return draft.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
