"""What a caller asks for, taken once: when the call is made, in the caller's thread and context."""

from __future__ import annotations

import time
from typing import Any

import grpc

from healthlb.calls.attempts import Attempts, Method
from healthlb.calls.metadata import check_types, illegal_keys
from healthlb.core.messages import Code, Fail
from healthlb.sync import grpcio
from healthlb.sync.errors import not_serialized

# C-core counts in nanoseconds of 64 bits: what is later than they reach, in the year 2262, is past for it.
_LAST = 2**63 / 1e9


class Taken:
    """One call's request and terms. Each attempt sends the same.

    Args:
        method: what is called.
        body: the request's bytes, None where there is a stream of them.
        timeout: seconds, None for none.
        deadline: the same as seconds of time.time(), as grpcio has it.
        metadata: a copy of the caller's.
        credentials: the caller's, for this call.
        wait_for_ready: the caller's, None for the method's.
        compression: the caller's, None for the channel's.

    Attributes:
        begun_at: nanoseconds on the monotonic clock.
        tried: the call's way through the subchannels, None while it is one attempt.
        is_rescued: whether its present attempt was given up, since the backend was found hung.
    """

    __slots__ = ("begun_at", "body", "compression", "credentials", "deadline", "is_rescued", "metadata", "method",
                 "timeout", "tried", "wait")  # fmt: skip

    def __init__(
        self,
        method: Method,
        body: bytes | None,
        timeout: float | None,
        deadline: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> None:
        self.begun_at = time.monotonic_ns()
        limit = method.policy.timeout
        if limit is not None and (timeout is None or timeout > limit):
            timeout, deadline = limit, grpcio.deadline_of(limit)
        if deadline is not None and deadline > _LAST:
            timeout = deadline = None
        self.method = method
        self.body = body
        self.timeout = timeout
        self.deadline = deadline
        self.metadata = metadata
        self.credentials = credentials
        self.wait = wait_for_ready
        self.compression = compression
        self.tried: Attempts | None = None
        self.is_rescued = False

    def check_terms(self) -> None:
        """Raise what grpcio raises of a call's terms before it looks whether the channel is closed.

        Raises:
            KeyError: no compression.
            AttributeError, TypeError: no credentials of calls.
        """
        grpcio.check_terms(self.compression, self.credentials)

    def check_metadata(self) -> None:
        """Raise what an attempt would of metadata, where there is none to raise it yet.

        Raises:
            TypeError: a wrong type.
            ValueError: a wrong value.
        """
        check_types(self.metadata)

    @property
    def attempt_deadline(self) -> float | None:
        """The deadline of an attempt that begins now, as seconds of time.time(), None for none."""
        limit = self.method.attempt_timeout
        if limit is None:
            return self.deadline
        return time.time() + limit if self.deadline is None else min(self.deadline, time.time() + limit)

    @property
    def refusal(self) -> Fail | None:
        """How C-core ends the call before it looks for a connection, None where it does not."""
        if self.timeout is not None and not self.timeout > 0:
            return Fail(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        if illegal_keys(self.metadata):
            return Fail(Code.INTERNAL, "Invalid metadata")
        return None

    def attempts(self) -> Attempts:
        """Return the call's way through the subchannels; the same one each time."""
        if self.tried is not None:
            return self.tried
        timeout = self.timeout
        if timeout is not None and not timeout > 0:
            timeout = 0.0  # NaN and minus infinity are past for C-core, too
        self.tried = Attempts(self.method, timeout, self.metadata, self.wait, self.begun_at)
        return self.tried


def take_metadata(metadata: Any) -> Any:
    """Return a copy of the caller's metadata, who may change it after the call is made; None for none."""
    if not metadata:
        return None
    return tuple([tuple(pair) if type(pair) is list else pair for pair in metadata])


def take_request(
    request: Any, serializer: Any, metadata: Any, compression: Any, *, is_response_stream: bool = False
) -> bytes:
    """Return a request's bytes; what grpcio raises of other arguments before it looks at them comes first.

    Raises:
        grpc.RpcError: INTERNAL, where the serializer raises or returns None.
        TypeError: they are no bytes, or metadata are none.
        KeyError: no compression.
    """
    body: bytes | None = request if serializer is None else grpcio.serialize(request, serializer)
    if isinstance(body, bytes):
        return body
    if body is None and is_response_stream:
        raise not_serialized()
    grpcio.augment_metadata(metadata, compression)
    if body is None:
        raise not_serialized()
    grpcio.send_message(body, 0)  # C-core's own error, for it is taken before there is a connection
    return body
