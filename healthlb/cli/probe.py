"""`healthlb probe`: one Health/Check, with the flags and exit codes of grpc_health_probe.

The one rule: it imports grpc and the standard library only, so that it starts fast and needs no extra.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc

from healthlb.cli.flags import Flag, FlagError, describe, parse_duration, parse_flags

SERVING, BAD_ARGUMENTS, NO_CONNECTION, RPC_FAILED, UNHEALTHY = range(5)

_CHECK = "/grpc.health.v1.Health/Check"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_TLS_FLAGS = ("tls-no-verify", "tls-ca-cert", "tls-client-cert", "tls-client-key", "tls-server-name")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("in the form 'name: value'")
    return name.strip().lower(), value.strip()


FLAGS = {
    "addr": Flag(default="", usage="(required) host:port to connect to; also unix:PATH"),
    "service": Flag(default="", usage='service to ask for (default "", the whole server)'),
    "connect-timeout": Flag(default=1.0, usage="time to connect in (default 1s)", parse=parse_duration),
    "rpc-timeout": Flag(default=1.0, usage="time for the answer (default 1s)", parse=parse_duration),
    "rpc-header": Flag(default=[], usage="metadata, 'name: value'; may be repeated", parse=_header, is_repeated=True),
    "user-agent": Flag(default="healthlb_probe", usage='user agent (default "healthlb_probe")'),
    "tls": Flag(default=False, usage="use TLS (default plaintext)", parse=None),
    "tls-ca-cert": Flag(default="", usage="(with -tls) file of certificates to trust"),
    "tls-client-cert": Flag(default="", usage="(with -tls) file of the client's certificate"),
    "tls-client-key": Flag(default="", usage="(with -tls) file of the client's key"),
    "tls-no-verify": Flag(default=False, usage="(with -tls) trust whatever the server shows", parse=None),
    "tls-server-name": Flag(default="", usage="(with -tls) the name that the server's certificate must have"),
    "gzip": Flag(default=False, usage="compress the request with gzip", parse=None),
    "v": Flag(default=False, usage="say more", parse=None),
    "version": Flag(default=False, usage="say the version and end", parse=None),
}


class Failure(Exception):
    """The end of a probe that did not see SERVING.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(arguments: Sequence[str]) -> int:
    """Probe and return the exit code: 0 SERVING, 1 bad arguments, 2 no connection, 3 no answer, 4 another status."""
    if any(argument in ("-h", "--h", "-help", "--help") for argument in arguments):
        print(f"Usage of healthlb probe:\n{describe(FLAGS)}", file=sys.stderr)
        return SERVING
    try:
        options = parse_flags(FLAGS, arguments)
        if options["version"]:
            print(_version())
            return SERVING
        _check_options(options)
        _probe(options)
    except FlagError as error:
        _say(f"error: {error}")
        return BAD_ARGUMENTS
    except Failure as failure:
        _say(str(failure))
        return failure.exit_code
    except KeyboardInterrupt:
        _say("cancellation received")
        return RPC_FAILED
    return SERVING


def _probe(options: dict[str, Any]) -> None:
    begun = time.monotonic()
    with _channel(options) as channel:
        _connect(channel, options)
        connected = time.monotonic()
        status = _check(channel, options)
    if options["v"]:
        _say(f"time elapsed: connect={connected - begun:.3f}s rpc={time.monotonic() - connected:.3f}s")
    if status != "SERVING":
        raise Failure(UNHEALTHY, f'service unhealthy (responded with "{status}")')
    _say(f"status: {status}")


def _check_options(options: dict[str, Any]) -> None:
    if not options["addr"]:
        raise FlagError("-addr not specified")
    for name in ("connect-timeout", "rpc-timeout"):
        if options[name] <= 0:
            raise FlagError(f"-{name} must be greater than zero (specified: {options[name]:g}s)")
    for name in _TLS_FLAGS:
        if options[name] and not options["tls"]:
            raise FlagError(f"specified -{name} without specifying -tls")
    for name, other in (("tls-client-cert", "tls-client-key"), ("tls-client-key", "tls-client-cert")):
        if options[name] and not options[other]:
            raise FlagError(f"specified -{name} without specifying -{other}")
    for name in ("tls-ca-cert", "tls-server-name"):
        if options["tls-no-verify"] and options[name]:
            raise FlagError(f"cannot specify -{name} with -tls-no-verify (it would not be used)")
    if options["v"]:
        shown = " ".join(f"{name}={value}" for name, value in options.items() if name not in ("v", "version"))
        _say(f"parsed options: {shown}")


def _channel(options: dict[str, Any]) -> grpc.Channel:
    arguments: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", options["user-agent"]),
        # A server that is just starting is found within the timeout.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    # As Go dials: no host is this host.
    address = re.sub(r"^:(?=\d+$)", "localhost:", options["addr"])
    compression = grpc.Compression.Gzip if options["gzip"] else None
    if not options["tls"]:
        return grpc.insecure_channel(address, arguments, compression)
    roots, name = _trusted(address, options)
    if name:
        arguments.append(("grpc.ssl_target_name_override", name))
    credentials = grpc.ssl_channel_credentials(
        roots, _read(options["tls-client-key"]), _read(options["tls-client-cert"])
    )
    return grpc.secure_channel(address, credentials, arguments, compression)


def _trusted(address: str, options: dict[str, Any]) -> tuple[bytes | None, str]:
    if not options["tls-no-verify"]:
        return _read(options["tls-ca-cert"]), options["tls-server-name"]
    from healthlb.cli.unverified import fetch_certificate  # Most probes never need it, and ssl is slow to import.

    pair = (options["tls-client-cert"], options["tls-client-key"]) if options["tls-client-cert"] else None
    try:
        return fetch_certificate(address, options["connect-timeout"], pair)
    except (OSError, ValueError) as error:
        raise Failure(NO_CONNECTION, f'error: failed to connect service at "{options["addr"]}": {error}') from error


def _connect(channel: grpc.Channel, options: dict[str, Any]) -> None:
    if options["v"]:
        _say("establishing connection")
    try:
        grpc.channel_ready_future(channel).result(options["connect-timeout"])
    except grpc.FutureTimeoutError:
        shown = f'"{options["addr"]}" within {options["connect-timeout"]:g}s'
        raise Failure(NO_CONNECTION, f"timeout: failed to connect service {shown}") from None


def _check(channel: grpc.Channel, options: dict[str, Any]) -> str:
    check: Any = channel.unary_unary(_CHECK)
    try:
        answer = check(
            encode_request(options["service"]), timeout=options["rpc-timeout"], metadata=options["rpc-header"]
        )
        return decode_status(answer)
    except ValueError as error:
        raise Failure(BAD_ARGUMENTS, f"error: {error}") from error
    except grpc.RpcError as error:
        raise Failure(RPC_FAILED, _describe(error, options["rpc-timeout"])) from error


def _describe(error: Any, timeout: float) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"timeout: health rpc did not complete within {timeout:g}s"
        case code:
            return f"error: health rpc failed: {code.name}: {error.details()}"


def encode_request(service: str) -> bytes:
    """Return a HealthCheckRequest: `string service = 1`. (Importing protobuf would double the start time.)"""
    name = service.encode()
    if not name:
        return b""
    length, head = len(name), bytearray(b"\x0a")
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + name


def decode_status(answer: bytes) -> str:
    """Return the name of the status in a HealthCheckResponse: `ServingStatus status = 1`, UNKNOWN where it is absent.

    What it has besides, or instead, is shown as its bytes: no such server is known.
    """
    if not answer:
        return _STATUSES[0]
    if len(answer) == 2 and answer[0] == 0x08 and answer[1] < len(_STATUSES):
        return _STATUSES[answer[1]]
    return f"an unknown status: {answer[:32].hex()}"


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Failure(BAD_ARGUMENTS, f"failed to initialize tls credentials. error={error}") from error


def _version() -> str:
    try:
        return metadata.version("healthlb")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _say(text: str) -> None:
    # grpc_health_probe says everything on stderr.
    print(text, file=sys.stderr)
