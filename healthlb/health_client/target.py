"""The arguments of both faces' health clients, checked, and how they open a channel of their own.

It imports little: `healthlb probe` starts in every container every few seconds.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc

from healthlb.control.health_messages import encode_request
from healthlb.control.proxies import without_proxy
from healthlb.errors import ConfigError, InvalidResponse
from healthlb.health_client.answer import HealthAdviser
from healthlb.text import short

if TYPE_CHECKING:
    from healthlb.config import Backoff

Metadata = tuple[tuple[str, str | bytes], ...]

# grpcio's own backoff grows to 2 minutes, so long a server that is back would count as gone.
_OPTIONS = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}
_LONGEST = 1e8  # Seconds: gRPC's deadlines do not reach much further.
_OVER = -1.0
_LAST_PORT = 65535

CLOSED = "this HealthClient is closed"
FORKED = "this was begun before the process forked, and its connection is the parent's: begin another in the child"


class HealthTarget:
    """The server that a health client asks.

    Args:
        target: an address, to which a channel is opened at first use, or a channel.
        credentials: of that channel; None is plaintext.
        options: channel arguments of that channel.
        metadata: goes with every call.
        backoff: between Watches that are begun again, None for the default.
        face: the names of the channels that are taken, and of the other face's client.
        wording: the name of one in `healthlb.core.wordings`, "" for the client's own.

    Attributes:
        channel: what was given, None where it was an address.
        metadata: as a tuple of pairs.
        backoff: as it was given.
        adviser: says what to do about first mistakes.

    Raises:
        ConfigError: a value is out of its bounds, or of a wrong type.
    """

    def __init__(
        self,
        target: object,
        *,
        credentials: grpc.ChannelCredentials | None,
        options: Sequence[tuple[str, Any]],
        metadata: Sequence[tuple[str, str | bytes]],
        backoff: Backoff | None,
        face: tuple[type, type, str],
        wording: str = "",
    ) -> None:
        self.channel: Any | None = None if isinstance(target, str) else _checked_channel(target, face)
        self.metadata: Metadata = _checked_metadata(metadata)
        self.backoff: Backoff | None = _checked_backoff(backoff)
        self._address = target if isinstance(target, str) else ""
        self._credentials = credentials
        self._options = _checked_options(options)
        if self.channel is None:
            _check_address(self._address)
            if credentials is not None:
                from healthlb.control.options import check_channel_credentials

                check_channel_credentials(credentials)
        elif credentials is not None or self._options:
            raise ConfigError("credentials and options go with an address; a channel has its own")
        is_secure = None if self.channel is not None else credentials is not None
        own_wording = "GIVEN" if self.channel is not None else "CLIENT"
        self.adviser: HealthAdviser = HealthAdviser(str(self), wording or own_wording, is_secure=is_secure)

    def connect(self, module: Any) -> tuple[Any, bool]:
        """Return the channel that was given, or one of `grpc` or `grpc.aio` to the address; and whether it is that."""
        if self.channel is not None:
            return self.channel, False
        return self._open(module), True

    def _open(self, module: Any) -> Any:
        arguments = tuple((_OPTIONS | dict(without_proxy(self._address)) | dict(self._options)).items())
        # Past any instrumentation: what that returns for a Watch cannot be cancelled (opentelemetry 0.66b2).
        if self._credentials is None:
            return inspect.unwrap(module.insecure_channel)(self._address, arguments)
        return inspect.unwrap(module.secure_channel)(self._address, self._credentials, arguments)

    def __str__(self) -> str:
        return self._address or repr(self.channel)


def _check_address(address: str) -> None:
    """Refuse addresses that C-core would misread; other wrong ones it refuses itself, with the first call."""
    if not address.strip() or not address.isprintable():
        raise ConfigError(f"target must be an address or a channel, not {short(address)}")
    _, _, port = address.rpartition(":")
    found = re.fullmatch(r"\s*(-?)0*(\d+)", port)
    # It would take such a port modulo 65536, and ask another server (1.85.3).
    if found and (found[1] or int(found[2][:6]) > _LAST_PORT) and not address.startswith("unix"):
        raise ConfigError(f"target must have a port from 0 to {_LAST_PORT}, not {short(address)}")


def _checked_channel(target: object, face: tuple[type, type, str]) -> Any:
    own, other, other_client = face
    if isinstance(target, other):
        raise ConfigError(f"target must be an address or a {_name(own)}, not {short(target)}: use {other_client}")
    if not isinstance(target, own) and not hasattr(target, "unary_stream"):
        raise ConfigError(f"target must be an address or a {_name(own)}, not {short(target)}")
    return target


def _name(face: type) -> str:
    return "grpc.aio.Channel" if ".aio" in face.__module__ else "grpc.Channel"


def _checked_metadata(metadata: Sequence[tuple[str, str | bytes]]) -> Metadata:
    if not metadata and isinstance(metadata, list | tuple):
        return ()
    from healthlb.config import check_metadata

    return check_metadata("metadata", metadata)


def _checked_options(options: Sequence[tuple[str, Any]]) -> Sequence[tuple[str, Any]]:
    if not options and isinstance(options, list | tuple):
        return ()
    from healthlb.control.options import check_arguments

    return check_arguments(options)


def _checked_backoff(backoff: Backoff | None) -> Backoff | None:
    if backoff is None:
        return None
    from healthlb.config import Backoff

    if not isinstance(backoff, Backoff):
        raise ConfigError(f"backoff must be a Backoff, not {short(backoff)}")
    return backoff


def is_final(error: BaseException | None) -> bool:
    """Whether no further Watch can be begun after this error, since the channel is closed."""
    if isinstance(error, InvalidResponse):
        return False
    return isinstance(error, ValueError) or type(error).__name__ == "UsageError"


def request_for(service: object) -> bytes:
    """Return the request for a service.

    Raises:
        ConfigError: the name is no string, or none that UTF-8 can hold.
    """
    if not isinstance(service, str):
        raise ConfigError(f"service must be a string, not {short(service)}")
    try:
        return encode_request(service)
    except UnicodeEncodeError:
        raise ConfigError(f"service must be a string without lone surrogates, not {short(service)}") from None


def checked_timeout(timeout: object) -> float | None:
    """Return the seconds that a call may take, None for no limit; 0 and less end it with DEADLINE_EXCEEDED.

    Raises:
        ConfigError: it is neither a number nor None.
    """
    if timeout is None or timeout == math.inf:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout):
        raise ConfigError(f"timeout must be a number of seconds or None, not {short(timeout)}")
    # A call with a timeout of 0 may just get through (1.85.3).
    return min(float(timeout), _LONGEST) if timeout > 0 else _OVER
