"""What to do about a mistake of configuration: from the evidence to a sentence that names the argument to change.

Evidence is a status of the health service, or a text of C-core's (versions 1.68 to 1.85). A text is no contract, so it
decides nothing but what is said; where nothing is known of it, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from healthlb.core.states import Code, ServingStatus
from healthlb.core.wordings import CHANNEL, Wording
from healthlb.text import add_remedy

# In this order: the first whose pattern is in the text. What stands in braces is the wording's.
NOTHING_ANSWERS = "nothing answers there: check the address, and whether a firewall drops the packets"
_CONNECTION: tuple[tuple[str, str], ...] = (
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS on this port: {w.plaintext}, or switch TLS on in the server",
    ),
    (
        "Hostname Verification Check failed|is not in peer certificate",
        "the server's certificate is for another name: {w.server_name}",
    ),
    (
        "certificate has expired",
        "the server's certificate, or one that signed it, has expired: renew it; or this machine's clock is wrong",
    ),
    (
        "certificate is not yet valid",
        "the server's certificate, or one that signed it, is not valid yet: check this machine's clock",
    ),
    (
        "(invalid|unsuitable|unsupported) (certificate )?purpose",
        "the server's certificate is not for servers: have one made whose extendedKeyUsage has serverAuth, or none",
    ),
    (
        "missing selected ALPN",
        "what listens there speaks TLS, and no HTTP/2, so no gRPC: check the port, or have it offer h2 (ALPN)",
    ),
    (
        "CERTIFICATE_REQUIRED",
        "the server wants a certificate of the client: {w.client_certificate}",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|BAD_SIGNATURE|self.signed certificate",
        "the server's certificate is not from a CA that is trusted here: {w.roots}",
    ),
    (
        "Failed to create security handshaker",
        "TLS cannot work with what grpc.ssl_channel_credentials was given: check that each of root_certificates, "
        "private_key and certificate_chain holds PEM, and that key and certificate belong together",
    ),
    (
        "Misformatted domain name|Failed to parse port in name|target uri is not valid",
        "this is no address as gRPC has them: write 'host:port', '[::1]:50051', 'unix:/path' or 'dns:///host:port', "
        "without http:// before it or a path behind it",
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
    (
        "unix.*No such file or directory",
        "there is no socket at that path: check that the server is up, and the path, which goes by this process's "
        "directory unless it begins with a slash",
    ),
    ("unix.*Permission denied", "this user may not use that socket: check the permissions of the path"),
    ("No route to host|Network is unreachable", "there is no way to that address from here: check address and network"),
    ("[Tt]imed out|Timeout occurred", NOTHING_ANSWERS),
)
_CUT_OFF = re.compile("Socket closed|Connection reset")
_WANTS_TLS = "the server takes the connection and ends it at once, as one does that speaks TLS: if so, {w.tls}"
_ENDS_TLS = (
    "the server takes the connection and ends it at once: check that it is a gRPC server with TLS, and whether it "
    "wants a certificate of the client"
)
_WANTS_EITHER = (
    "the server takes the connection and ends it at once, as one does that speaks TLS: if so, {w.tls}; if the channel "
    "does speak it, check that the server does, and whether it wants a certificate of the client"
)
_HTTP_STATUS = re.compile("http2 header with status: ([0-9]+)")
_TOO_MANY_CALLS = "Concurrent RPC limit exceeded"
_FULL = (
    "the server is full, and each client's Watch may count among its calls: raise its maximum_concurrent_rpcs, or pass "
    "health=HealthCheck(watch=False)"
)
_FULL_OF_CALLS = (
    "the server is full, and takes no more calls: raise its limit on calls, or end Watches that stand there"
)
_FULL_OF_WATCHES = "the server is full: it limits calls or streams, and each Watch is one; raise its limit, or {w.poll}"
_NEVER_CONNECTED = "failed to connect"
_NO_CHANNEL = "Failed to create channel to"
_NO_ANSWER = (
    "nothing was answered in time: check the address, whether a firewall drops the packets, and whether the server "
    "hangs; a slow one needs a longer {w.timeout}"
)
_NO_METHOD = {
    "Check": "the server has no health service (grpc.health.v1.Health): add one to it",
    "Watch": "the server has no health service (grpc.health.v1.Health): add one to it; or it has one without Watch: "
    "{w.poll}",
    "List": "the server has no health service (grpc.health.v1.Health), or one without List, as grpcio's own in Python: "
    "ask for a service by its name",
}
_FOREIGN = "not a Health"
_OTHER_NAME = "does not match SSL server name"
_NOT_NAMED = (
    "the server's certificate is for another name: {w.server_name}; if it has this one as its common name, have one "
    "made that has it as subjectAltName"
)
_CREDENTIALS = re.compile("Getting metadata from plugin failed|Plugin added invalid metadata")
_PLUGIN_FAILED = (
    "the call credentials have failed on this side, before anything was sent: what they raised or gave stands in this "
    "text; mend them"
)
_TOO_BIG = re.compile("(SERVER: )?(Sent|Received) message larger than max")
_TOO_MUCH_METADATA = re.compile("received metadata size exceeds (hard|soft) limit")


def of_connection(text: str, *, is_secure: bool | None, wording: Wording = CHANNEL) -> str:
    """Return what to do where no connection can be made, "" where that is not known.

    Args:
        text: C-core's, or a resolver's.
        is_secure: whether the channel has credentials, None where that is not known.
        wording: of whom it is told to.
    """
    for pattern, remedy in _CONNECTION:
        if re.search(pattern, text):
            return remedy.format(w=wording)
    if _CUT_OFF.search(text):
        remedy = _WANTS_EITHER if is_secure is None else _ENDS_TLS if is_secure else _WANTS_TLS
        return remedy.format(w=wording)
    return ""


def of_health(code: Code, details: str, service: str, *, is_polling: bool) -> str:
    """Return what to do about a Watch or Check that ended so, "" where that is not known.

    Args:
        code: how it ended.
        details: the text of its end.
        service: the name that was asked for.
        is_polling: whether it was a Check that stands for a Watch.
    """
    if (remedy := of_call(code, details)) and remedy is not _FULL:
        return remedy
    match code:
        case Code.UNIMPLEMENTED:
            return "the server has no health service (grpc.health.v1.Health): add one to it, or pass service=None"
        case Code.NOT_FOUND:
            return of_serving(ServingStatus.SERVICE_UNKNOWN, service)
        case Code.UNAUTHENTICATED:
            return f"the server wants to know who asks for its health: {CHANNEL.token}"
        case Code.PERMISSION_DENIED:
            return f"the server does not let this client ask for its health: {CHANNEL.token}"
        case Code.RESOURCE_EXHAUSTED if is_polling:
            return "the server is full, and takes no more calls: raise its limit on calls, or add servers"
        case Code.RESOURCE_EXHAUSTED:
            return (
                "the server is full: it limits calls or streams, and each client's Watch is one; raise its limit, or "
                "pass health=HealthCheck(watch=False)"
            )
        case Code.INTERNAL if _FOREIGN in details:
            return "what answers there is not grpc.health.v1.Health: check the address, or pass service=None"
    return ""


def of_asking(code: Code, details: str, service: str, method: str, *, is_secure: bool | None, wording: Wording) -> str:
    """Return what to do where a health client was not answered, "" where that is not known.

    Args:
        code: how its call ended.
        details: the text of its end.
        service: the name that was asked for.
        method: that was called: Check, Watch or List.
        is_secure: whether the channel has credentials, None where that is not known.
        wording: of whom it is told to.
    """
    if (remedy := of_call(code, details, wording)) and remedy is not _FULL:
        return remedy
    match code:
        # A connection that is lost later, under a call, is no mistake.
        case Code.UNAVAILABLE if not _CUT_OFF.search(details) or _NEVER_CONNECTED in details:
            return of_connection(details, is_secure=is_secure, wording=wording)
        case Code.UNKNOWN if _NO_CHANNEL in details:
            return of_connection(details, is_secure=is_secure, wording=wording)
        case Code.DEADLINE_EXCEEDED:
            return _NO_ANSWER.format(w=wording)
        case Code.UNIMPLEMENTED:
            return _NO_METHOD[method].format(w=wording)
        case Code.NOT_FOUND:
            return of_name(ServingStatus.SERVICE_UNKNOWN, service, wording)
        case Code.UNAUTHENTICATED:
            return f"the server wants to know who asks for its health: {wording.token}"
        case Code.PERMISSION_DENIED:
            return f"the server does not let this client ask for its health: {wording.token}"
        case Code.RESOURCE_EXHAUSTED:
            return (_FULL_OF_WATCHES if method == "Watch" else _FULL_OF_CALLS).format(w=wording)
        case Code.INTERNAL if _FOREIGN in details:
            return "what answers there is not grpc.health.v1.Health: check the address"
    return ""


def of_name(status: int, service: str, wording: Wording) -> str:
    """Return what a health client is to do about a serving status, "" where there is nothing.

    Args:
        status: as `grpc.health.v1` numbers it.
        service: the name that was asked for.
        wording: of whom it is told to.
    """
    if status != ServingStatus.SERVICE_UNKNOWN:
        return ""
    if not service:
        return f"the server has no status as a whole: ask for a service by name; {wording.names}"
    return f"the server does not know the service {service!r}: {wording.names}"


def _of_http_status(status: str, wording: Wording) -> str:
    return f"a proxy or web server answered with HTTP status {status}, and no gRPC server: {wording.authority}"


def of_serving(status: int, service: str) -> str:
    """Return what to do about a serving status, "" where there is nothing.

    Args:
        status: as `grpc.health.v1` numbers it.
        service: the name that was asked for.
    """
    if status == ServingStatus.SERVICE_UNKNOWN:
        return f"the server does not know the service {service!r}; pass service=..., or service=None"
    return ""


def of_call(code: Code, details: str, wording: Wording = CHANNEL) -> str:
    """Return what to do about a call that failed so, "" where that is not known."""
    if code is Code.RESOURCE_EXHAUSTED and (found := _TOO_BIG.search(details)):
        side, way = found.groups()
        option = "grpc.max_send_message_length" if way == "Sent" else "grpc.max_receive_message_length"
        whose = "the server's options" if side else wording.limits
        return f"raise {option} in {whose}, or send less at a time"
    if code is Code.RESOURCE_EXHAUSTED and (limit := _TOO_MUCH_METADATA.search(details)):
        option = "grpc.absolute_max_metadata_size" if limit[1] == "hard" else "grpc.max_metadata_size"
        return f"raise {option} in the options of whoever receives the metadata, or send less of it"
    if code is Code.RESOURCE_EXHAUSTED and _TOO_MANY_CALLS in details:
        return _FULL
    if code is Code.UNAUTHENTICATED and _OTHER_NAME in details:
        return _NOT_NAMED.format(w=wording)
    if _CREDENTIALS.search(details):
        return _PLUGIN_FAILED
    status = _HTTP_STATUS.search(details)
    return _of_http_status(status[1], wording) if status else ""


# Of calls that are refused since some backends hang: in the log and the errors.
SHEDDING = (
    "{hung} of {total} subchannels hang, and the others have too much to do for their calls, so a part of the "
    "calls is refused ({share:.1%})"
)
NO_SHEDDING = (
    "make the call again in some seconds, not at once: nothing was sent, so that is safe; see in subchannels() who "
    "hangs; add backends or lower the load; or pass outliers=Outliers(load_shedding=False) to have these calls made by "
    "the others, as far as they can"
)


def explained(text: str, remedies: Iterable[str]) -> str:
    """Return an error's text with what to do about it, each remedy once."""
    distinct = [remedy for remedy in dict.fromkeys(remedies) if remedy and remedy not in text]
    return add_remedy(text, "; or ".join(distinct))
