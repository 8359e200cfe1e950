"""What `-tls-no-verify` takes: grpcio cannot skip verification, so the certificate that the server shows is trusted.

The one rule: only for this one probe. An expired certificate is refused all the same.
"""

from __future__ import annotations

import socket
import ssl


def fetch_certificate(address: str, timeout: float, client: tuple[str, str] | None) -> tuple[bytes, str]:
    """Return the server's certificate (PEM) and a name it is valid for.

    Args:
        address: host:port.
        timeout: seconds for each of the two handshakes.
        client: files of the client's certificate and key, None for none.

    Raises:
        OSError: no connection or no handshake.
        ValueError: the address has no port, or the certificate no name.
    """
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    with _handshake(blind, address, timeout, client) as connection:
        der = connection.getpeercert(binary_form=True) or b""
    pem = ssl.DER_cert_to_PEM_cert(der)
    # The standard library only parses a certificate that it has verified: now it is its own authority.
    trusting = ssl.create_default_context(cadata=pem)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
    with _handshake(trusting, address, timeout, client) as connection:
        return pem.encode(), _name(connection.getpeercert() or {})


def _handshake(context: ssl.SSLContext, address: str, timeout: float, client: tuple[str, str] | None) -> ssl.SSLSocket:
    host, _, port = address.rpartition("/")[2].rpartition(":")
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.load_cert_chain(*client)
    host = host.strip("[]")
    plain = socket.create_connection((host, int(port)), timeout)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _name(certificate: object) -> str:
    assert isinstance(certificate, dict)
    names = [name for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    names += [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if not names:
        raise ValueError("the server's certificate has no name")
    return str(names[0]).replace("*", "probe", 1)
