"""The four multi-callables of the sync face.

The one rule: a call that finds a READY subchannel is one pick, one plain grpcio call and two updates of a
counter; everything else is off that path.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc

from healthlb.calls.attempts import Method
from healthlb.sync import grpcio
from healthlb.sync.blocking import Ended, call_queued, call_unary, with_call
from healthlb.sync.hedging import call_hedged, first_attempts
from healthlb.sync.intake import Taken, take_metadata, take_request
from healthlb.sync.rendezvous import MultiThreadedRendezvous, SingleThreadedRendezvous, StreamDeserializer
from healthlb.sync.rescuable import RescuableCall
from healthlb.sync.segregated import ReadCall


class _MultiCallable:
    """What all four share.

    Args:
        method: what is called.
        serializer: makes the bytes of a request, None for requests that are bytes.
        deserializer: makes the response of bytes, None for responses that are bytes.
        is_single_threaded: whether a stream's events are taken in by its reader's thread.
    """

    _arity: str

    def __init__(self, method: Method, serializer: Any, deserializer: Any, *, is_single_threaded: bool = False) -> None:
        self._callee = method
        self._hedging = first_attempts(method)
        self._method = grpcio.encode(method.name)  # as grpcio has it: instrumentation reads it
        self._serializer = serializer
        self._deserializer = deserializer
        self._is_single_threaded = is_single_threaded

    def _begin(self, taken: Taken, requests: Any) -> MultiThreadedRendezvous:
        """Begin a call whose events grpcio's own threads take in."""
        state = grpcio.new_state(self._arity, self._callee.name)
        deserializer = self._deserializer
        reader = (
            StreamDeserializer(deserializer) if deserializer is not None and self._arity.endswith("stream") else None
        )
        handler = grpcio.event_handler(state, reader or deserializer)
        call = RescuableCall(taken, self._arity, state, handler, reader)
        call.begin()
        if call.requests is not None:
            grpcio.consume_requests(requests, state, call, partial(call.requests.serialize, self._serializer), handler)
        return MultiThreadedRendezvous(state, call, reader or deserializer, taken.deadline)


class UnaryUnary(_MultiCallable, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""

    _arity = "unary_unary"

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and return the response; see `grpc.UnaryUnaryMultiCallable`."""
        return self._block(request, timeout, metadata, credentials, wait_for_ready, compression)[0].response

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        """Call and return the response and the call; see `grpc.UnaryUnaryMultiCallable`."""
        return with_call(self._block(request, timeout, metadata, credentials, wait_for_ready, compression))

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking; see `grpc.UnaryUnaryMultiCallable`."""
        deadline = grpcio.deadline_of(timeout)
        body = take_request(request, self._serializer, metadata, compression)
        metadata = take_metadata(metadata)
        taken = Taken(self._callee, body, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        return self._begin(taken, None)

    def _block(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Ended:
        method = self._callee
        deadline = None if timeout is None else grpcio.deadline_of(timeout)
        serializer = self._serializer
        is_taken = serializer is None and type(request) is bytes
        body = request if is_taken else take_request(request, serializer, metadata, compression)
        metadata = take_metadata(metadata) if metadata else None
        taken = Taken(method, body, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        return call_unary(taken) if self._hedging is None else call_hedged(taken, self._hedging, self._deserializer)


class UnaryStream(_MultiCallable, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""

    _arity = "unary_stream"

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking and return the responses; see `grpc.UnaryStreamMultiCallable`."""
        deadline = grpcio.with_parents_deadline(grpcio.deadline_of(timeout))
        body = take_request(request, self._serializer, metadata, compression, is_response_stream=True)
        metadata = take_metadata(metadata)
        taken = Taken(self._callee, body, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        if not self._is_single_threaded:
            return self._begin(taken, None)
        state = grpcio.new_state(self._arity, self._callee.name)
        call = ReadCall(taken, self._arity, state)
        call.begin()
        return SingleThreadedRendezvous(state, call, self._deserializer, taken.deadline)


class StreamUnary(_MultiCallable, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""

    _arity = "stream_unary"

    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and return the response; see `grpc.StreamUnaryMultiCallable`."""
        return self._block(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)[0].response

    def with_call(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        """Call and return the response and the call; see `grpc.StreamUnaryMultiCallable`."""
        return with_call(self._block(request_iterator, timeout, metadata, credentials, wait_for_ready, compression))

    def future(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking; see `grpc.StreamUnaryMultiCallable`."""
        deadline = grpcio.deadline_of(timeout)
        metadata = take_metadata(metadata)
        taken = Taken(self._callee, None, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        return self._begin(taken, request_iterator)

    def _block(
        self,
        requests: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Ended:
        deadline = grpcio.with_parents_deadline(grpcio.deadline_of(timeout))
        metadata = take_metadata(metadata)
        taken = Taken(self._callee, None, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        return call_queued(taken, self._arity, requests, self._serializer, self._deserializer)


class StreamStream(_MultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""

    _arity = "stream_stream"

    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking and return the responses; see `grpc.StreamStreamMultiCallable`."""
        deadline = grpcio.with_parents_deadline(grpcio.deadline_of(timeout))
        metadata = take_metadata(metadata)
        taken = Taken(self._callee, None, timeout, deadline, metadata, credentials, wait_for_ready, compression)
        return self._begin(taken, request_iterator)
