"""`healthlb probe`: one Health/Check, with the flags and exit codes of grpc_health_probe.

It imports grpc and the standard library only, so that it starts fast and needs no extra.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from healthlb.cli.arguments import name_of_header, parse_header, parse_text, parse_unicode, read_tls_files, shown
from healthlb.cli.flags import Flag, FlagError, HelpWanted, describe, format_duration, parse_duration, parse_flags
from healthlb.control.monkey_patching import check_threads
from healthlb.control.proxies import without_proxy
from healthlb.errors import ConfigError
from healthlb.health_client.answer import HealthAnswer, failed_with
from healthlb.sync.health_client import HealthClient
from healthlb.text import REMEDY_MARK, add_remedy

if TYPE_CHECKING:
    import grpc

SERVING, BAD_ARGUMENTS, NO_CONNECTION, RPC_FAILED, UNHEALTHY = range(5)

_TLS_FLAGS = ("tls-no-verify", "tls-ca-cert", "tls-client-cert", "tls-client-key", "tls-server-name")
_LAST_LOOK = 0.2  # Seconds: a channel without a connection says why at once, where it has tried one.
_LONGEST = 1e8  # Seconds: gRPC's deadlines do not reach as far as Go's durations.


FLAGS = {
    "addr": Flag(default="", usage="(required) host:port to connect to; also unix:PATH", parse=parse_text),
    "service": Flag(default="", usage='service to ask for (default "", the whole server)', parse=parse_unicode),
    "connect-timeout": Flag(default=1.0, usage="time to connect in (default 1s)", parse=parse_duration),
    "rpc-timeout": Flag(default=1.0, usage="time for the answer (default 1s)", parse=parse_duration),
    "rpc-header": Flag(
        default=[],
        usage="metadata, 'name: value'; repeatable",
        parse=parse_header,
        is_repeated=True,
        shown=name_of_header,
    ),
    "user-agent": Flag(default="healthlb_probe", usage='user agent (default "healthlb_probe")', parse=parse_text),
    "tls": Flag(default=False, usage="use TLS (default plaintext)", parse=None),
    "tls-ca-cert": Flag(default="", usage="(with -tls) file of certificates to trust", parse=parse_text),
    "tls-client-cert": Flag(default="", usage="(with -tls) file of the client's certificate", parse=parse_text),
    "tls-client-key": Flag(default="", usage="(with -tls) file of the client's key", parse=parse_text),
    "tls-no-verify": Flag(default=False, usage="(with -tls) trust whatever the server shows", parse=None),
    "tls-server-name": Flag(
        default="", usage="(with -tls) the name that the server's certificate must have", parse=parse_text
    ),
    "gzip": Flag(default=False, usage="compress the request with gzip", parse=None),
    "v": Flag(default=False, usage="say more", parse=None),
    "version": Flag(default=False, usage="say the version and end", parse=None),
}


class _Client(HealthClient):
    """A health client whose advice names flags of `grpc_health_probe`."""

    _wording = "PROBE"

    def speaks_tls(self, is_secure: bool) -> None:
        """Say what the client cannot see of the channel that it is given."""
        self._target.adviser.is_secure = is_secure


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
    try:
        options = parse_flags(FLAGS, arguments)
        if options["version"]:
            print(_version())
            return SERVING
        _check_options(options)
        with _caught_signals():
            _probe(options)
    except HelpWanted:
        _say(f"Usage of healthlb probe:\n{describe(FLAGS)}")
        return BAD_ARGUMENTS
    except FlagError as error:
        _say(f"error: {error}")
        return BAD_ARGUMENTS
    except Failure as failure:
        _say(str(failure))
        return failure.exit_code
    return SERVING


@contextlib.contextmanager
def _caught_signals() -> Iterator[None]:
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> NoReturn:
    _say(f"cancellation received (signal: {signal.Signals(number).name})")
    raise KeyboardInterrupt


def _probe(options: dict[str, Any]) -> None:
    check_threads("the probe")
    begun = time.monotonic()
    cancelled = NO_CONNECTION
    try:
        with _opened(options) as channel:
            _connect(channel, options)
            connected, cancelled = time.monotonic(), RPC_FAILED
            if options["v"]:
                _say(f"connection established (took {connected - begun:.3f}s)")
            answer = _check(channel, options)
    except KeyboardInterrupt:
        raise Failure(cancelled, f'error: the probe of "{options["addr"]}" was cancelled') from None
    if options["v"]:
        _say(f"time elapsed: connect={connected - begun:.3f}s rpc={time.monotonic() - connected:.3f}s")
    if str(answer) != "SERVING":
        raise Failure(UNHEALTHY, _with(f'service unhealthy (responded with "{answer}")', answer.remedy))
    _say(f"status: {answer}")


def _check_options(options: dict[str, Any]) -> None:
    if not options["addr"]:
        raise FlagError("-addr not specified")
    for name in ("connect-timeout", "rpc-timeout"):
        if options[name] <= 0:
            raise FlagError(f"-{name} must be greater than zero (specified: {format_duration(options[name])})")
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


@contextlib.contextmanager
def _opened(options: dict[str, Any]) -> Iterator[grpc.Channel]:
    import grpc

    arguments: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", options["user-agent"]),
        # A server that is just starting is found within the timeout.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    compression = grpc.Compression.Gzip if options["gzip"] else None
    # As Go dials: no host is this host, and passthrough is a scheme.
    address = re.sub(r"^:(?=\d+$)", "localhost:", options["addr"].removeprefix("passthrough:///"))
    with contextlib.ExitStack() as stack:
        arguments += without_proxy(address)
        if not options["tls"]:
            yield stack.enter_context(grpc.insecure_channel(address, arguments, compression))
            return
        roots, key, certificate = _tls_files(options)
        if options["tls-no-verify"]:
            from healthlb.cli.unverified import unverified

            arguments.append(("grpc.default_authority", address.rpartition("/")[2]))
            address = stack.enter_context(unverified(address, _client_files(options)))
            arguments += without_proxy(address)
            yield stack.enter_context(grpc.insecure_channel(address, arguments, compression))
            return
        if options["tls-server-name"]:
            arguments.append(("grpc.ssl_target_name_override", options["tls-server-name"]))
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        yield stack.enter_context(grpc.secure_channel(address, credentials, arguments, compression))


def _client_files(options: dict[str, Any]) -> tuple[str, str] | None:
    return (options["tls-client-cert"], options["tls-client-key"]) if options["tls-client-cert"] else None


def _tls_files(options: dict[str, Any]) -> tuple[bytes | None, bytes | None, bytes | None]:
    try:
        return read_tls_files(options["tls-ca-cert"], options["tls-client-key"], options["tls-client-cert"])
    except ConfigError as error:
        raise Failure(BAD_ARGUMENTS, f"failed to initialize tls credentials. error={error}") from error


def _connect(channel: grpc.Channel, options: dict[str, Any]) -> None:
    import grpc

    if options["v"]:
        _say("establishing connection")
    shown, timeout = f'"{options["addr"]}"', options["connect-timeout"]
    try:
        grpc.channel_ready_future(channel).result(min(timeout, _LONGEST))
    except grpc.FutureTimeoutError:
        text = f"timeout: failed to connect service {shown} within {format_duration(timeout)}"
        raise Failure(NO_CONNECTION, _with(text, _why_not(channel, options))) from None


def _why_not(channel: grpc.Channel, options: dict[str, Any]) -> str:
    """Return what to do where there is no connection: a call that does not wait fails at once, and says why."""
    import grpc

    from healthlb.core.remedies import NOTHING_ANSWERS

    try:
        _client(channel, options).ask(options["service"], _LAST_LOOK)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            return failed_with("", error).remedy
    except ValueError:
        return ""
    return NOTHING_ANSWERS


def _client(channel: grpc.Channel, options: dict[str, Any]) -> HealthClient:
    client = _Client(channel, metadata=options["rpc-header"])
    client.speaks_tls(options["tls"])
    return client


def _check(channel: grpc.Channel, options: dict[str, Any]) -> HealthAnswer:
    import grpc

    try:
        answer = _client(channel, options).ask(options["service"], options["rpc-timeout"])
    except ValueError as error:
        text, _, remedy = str(error).partition(REMEDY_MARK)
        raise Failure(RPC_FAILED, _with(f"error: health rpc failed: {text}", remedy)) from error
    except grpc.RpcError as error:
        raise Failure(RPC_FAILED, _describe(error, options["rpc-timeout"])) from error
    return answer


def _describe(error: Any, timeout: float) -> str:
    failed = failed_with("", error)
    match error.code().name:
        case "UNIMPLEMENTED":
            text = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return _with(f"error: {text}: {failed.details}", failed.remedy)
        case "DEADLINE_EXCEEDED":
            return _with(f"timeout: health rpc did not complete within {format_duration(timeout)}", failed.remedy)
    return _with(f"error: health rpc failed: {replace(failed, remedy='')}", failed.remedy)


def _with(text: str, remedy: str) -> str:
    """Return a text with what to do on a line of its own: the first is as grpc_health_probe's."""
    return f"{text}\n{add_remedy('', remedy)}" if remedy else text


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("healthlb")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _say(text: str) -> None:
    # grpc_health_probe says everything on stderr.
    print(shown(text), file=sys.stderr)
