"""What to do about a first mistake: from the evidence to a sentence that names the argument to change.

Evidence is a status of the health service, or a text of C-core's (versions 1.68 to 1.85). A text is no contract, so it
decides nothing but what is said; where nothing is known of it, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from healthlb.core.states import Code, ServingStatus

_AUTHORITY = (
    'pass options=[("grpc.default_authority", name)] with the name that it routes by, or add a route for this one'
)
_TOKEN = (
    "pass its token with health=HealthCheck(metadata=...), as a callable where tokens expire, or as call credentials "
    "with credentials=..."
)

# In this order: the first whose pattern is in the text.
_CONNECTION: tuple[tuple[str, str], ...] = (
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS on this port: leave out credentials=..., or switch TLS on in the server",
    ),
    (
        "Hostname Verification Check failed|is not in peer certificate",
        "the server's certificate is for another name: use that name as target, or pass "
        'options=[("grpc.ssl_target_name_override", name)]',
    ),
    (
        "CERTIFICATE_REQUIRED",
        "the server wants a certificate of the client: pass private_key and certificate_chain to "
        "grpc.ssl_channel_credentials",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|BAD_SIGNATURE|self.signed certificate",
        "the server's certificate is not from a CA that is trusted here: pass that CA's certificate to "
        "grpc.ssl_channel_credentials(root_certificates=...)",
    ),
    (
        "Failed to create security handshaker",
        "TLS cannot work with what grpc.ssl_channel_credentials was given: check that each of root_certificates, "
        "private_key and certificate_chain holds PEM, and that key and certificate belong together",
    ),
    (
        "Failed to create channel to|empty address list",
        "grpcio can make no channel of this address with these credentials and options: check all three",
    ),
    (
        "Failed parsing HTTP/2|Trying to connect an http1",
        "what listens there speaks no HTTP/2, so no gRPC (a web server, a database?): check the port",
    ),
    ("Connection refused", "nothing listens there: check that the server is up, and its address and port"),
    (
        "errors resolving|DNS resolution failed|Domain name not found|cannot resolve",
        "DNS does not know the name: check its spelling, and whether it is known on this machine",
    ),
    ("No route to host|Network is unreachable", "there is no way to that address from here: check address and network"),
    (
        "[Tt]imed out|Timeout occurred",
        "nothing answers there: check the address, and whether a firewall drops the packets",
    ),
)
_CUT_OFF = re.compile("Socket closed|Connection reset")
_WANTS_TLS = (
    "the server takes the connection and ends it at once, as one does that speaks TLS: if so, pass "
    "credentials=grpc.ssl_channel_credentials(...)"
)
_ENDS_TLS = (
    "the server takes the connection and ends it at once: check that it is a gRPC server with TLS, and whether it "
    "wants a certificate of the client"
)
_HTTP_STATUS = re.compile("http2 header with status: ([0-9]+)")
_TOO_BIG = re.compile("(SERVER: )?(Sent|Received) message larger than max")
_TOO_MUCH_METADATA = re.compile("received metadata size exceeds (hard|soft) limit")


def of_connection(text: str, *, is_secure: bool) -> str:
    """Return what to do where no connection can be made, "" where that is not known.

    Args:
        text: C-core's, or a resolver's.
        is_secure: whether the channel has credentials.
    """
    for pattern, remedy in _CONNECTION:
        if re.search(pattern, text):
            return remedy
    if _CUT_OFF.search(text):
        return _ENDS_TLS if is_secure else _WANTS_TLS
    return ""


def of_health(code: Code, details: str, service: str, *, is_polling: bool) -> str:
    """Return what to do about a Watch or Check that ended so, "" where that is not known.

    Args:
        code: how it ended.
        details: the text of its end.
        service: the name that was asked for.
        is_polling: whether it was a Check that stands for a Watch.
    """
    if remedy := of_call(code, details):
        return remedy
    match code:
        case Code.UNIMPLEMENTED:
            return "the server has no health service (grpc.health.v1.Health): add one to it, or pass service=None"
        case Code.NOT_FOUND:
            return of_serving(ServingStatus.SERVICE_UNKNOWN, service)
        case Code.UNAUTHENTICATED:
            return f"the server wants to know who asks for its health: {_TOKEN}"
        case Code.PERMISSION_DENIED:
            return f"the server does not let this client ask for its health: {_TOKEN}"
        case Code.RESOURCE_EXHAUSTED if is_polling:
            return "the server is full, and takes no more calls: raise its limit on calls, or add servers"
        case Code.RESOURCE_EXHAUSTED:
            return (
                "the server is full: it limits calls or streams, and each client's Watch is one; raise its limit, or "
                "pass health=HealthCheck(watch=False)"
            )
        case Code.INTERNAL if "not a HealthCheckResponse" in details:
            return "what answers there is not grpc.health.v1.Health: check the address, or pass service=None"
    return ""


def _of_http_status(status: str) -> str:
    return f"a proxy or web server answered with HTTP status {status}, and no gRPC server: {_AUTHORITY}"


def of_serving(status: int, service: str) -> str:
    """Return what to do about a serving status, "" where there is nothing.

    Args:
        status: as `grpc.health.v1` numbers it.
        service: the name that was asked for.
    """
    if status == ServingStatus.SERVICE_UNKNOWN:
        return f"the server does not know the service {service!r}; pass service=..., or service=None"
    return ""


def of_call(code: Code, details: str) -> str:
    """Return what to do about a call that failed so, "" where that is not known."""
    if code is Code.RESOURCE_EXHAUSTED and (found := _TOO_BIG.search(details)):
        side, way = found.groups()
        option = "grpc.max_send_message_length" if way == "Sent" else "grpc.max_receive_message_length"
        whose = "the server's options" if side else "options=[...] of the channel"
        return f"raise {option} in {whose}, or send less at a time"
    if code is Code.RESOURCE_EXHAUSTED and (limit := _TOO_MUCH_METADATA.search(details)):
        option = "grpc.absolute_max_metadata_size" if limit[1] == "hard" else "grpc.max_metadata_size"
        return f"raise {option} in the options of whoever receives the metadata, or send less of it"
    status = _HTTP_STATUS.search(details)
    return _of_http_status(status[1]) if status else ""


def explained(text: str, remedies: Iterable[str]) -> str:
    """Return an error's text with what to do about it, each remedy once."""
    distinct = [remedy for remedy in dict.fromkeys(remedies) if remedy and remedy not in text]
    return f"{text.removesuffix('.')}. What to do: {'; or '.join(distinct)}" if distinct else text
