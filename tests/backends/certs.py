"""Certificates made on the fly: a CA, a server and a client."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = datetime.timedelta(days=2)
_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, PEM, as bytes and as files."""

    certificate: bytes
    key: bytes
    certificate_path: Path
    key_path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """A CA with a server and a client it signed."""

    ca: Pair
    server: Pair
    client: Pair

    def server_options(self, *, mutual: bool = False) -> dict[str, Any]:
        """Return `options["tls"]` of a Backend; `mutual` makes it demand a client's certificate."""
        return {
            "certificate": str(self.server.certificate_path),
            "key": str(self.server.key_path),
            "client_ca": str(self.ca.certificate_path) if mutual else None,
        }

    def channel_credentials(self, *, mutual: bool = False) -> grpc.ChannelCredentials:
        """Return what a client needs to trust the server; `mutual` adds the client's certificate."""
        if not mutual:
            return grpc.ssl_channel_credentials(self.ca.certificate)
        return grpc.ssl_channel_credentials(self.ca.certificate, self.client.key, self.client.certificate)


def make_certificates(
    folder: Path,
    names: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    *,
    is_expired: bool = False,
    is_early: bool = False,
    common_name: str = "server",
) -> Certificates:
    """Make a CA, a server certificate for `names` (host names and IP addresses) and a client's in `folder`.

    With `is_expired` the server's and the client's were valid until an hour ago; with `is_early` they will be in an hour.
    Without `names` the server's has its `common_name` alone.
    """
    since = _HOUR if is_early else -_VALID
    until = -_HOUR if is_expired else _VALID
    ca_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("test CA", ca_key, None, ca_key, ())
    pairs = {"ca": _stored(folder, "ca", authority, ca_key)}
    for role, name, wanted in (("server", common_name, names), ("client", "client", ("client",))):
        key = ec.generate_private_key(ec.SECP256R1())
        pairs[role] = _stored(folder, role, _certificate(name, key, authority, ca_key, wanted, since, until), key)
    return Certificates(**pairs)


def _certificate(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    since: datetime.timedelta = -_VALID,
    until: datetime.timedelta = _VALID,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    # Begins yesterday, so that a clock that is a little off does not fail a test.
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _stored(folder: Path, role: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate_path, key_path = folder / f"{role}.pem", folder / f"{role}.key"
    certificate_path.write_bytes(pem)
    key_path.write_bytes(key_pem)
    return Pair(certificate=pem, key=key_pem, certificate_path=certificate_path, key_path=key_path)
