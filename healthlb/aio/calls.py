"""The multi-callables and calls of the asyncio face: grpcio's own classes, over calls of ours.

The one thing they add is that errors say which attempts were made.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from traceback import clear_frames
from typing import Any

import grpc
import grpc.aio

from healthlb.aio import grpcio
from healthlb.aio.balanced_channel import BalancedChannel, deadline_of
from healthlb.aio.errors import with_attempts
from healthlb.aio.interceptors import last_link
from healthlb.aio.subchannels import Subchannels
from healthlb.aio.unary import BalancedUnaryCall
from healthlb.calls.attempts import Attempt

# Those of grpcio's calls that `cancel` cancels.
_TASKS = ("_call_response", "_preparation", "_async_request_poller")


def _forget(task: asyncio.Task[Any]) -> None:
    """Have a cancelled task let go of its exception, whose frames hold the call that holds the task."""
    if task.cancelled():
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()


class _Call:
    """What the four kinds of calls share."""

    _cython_call: Any

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        attempts: tuple[Attempt, ...] = self._cython_call.attempts
        return attempts

    @property
    def address(self) -> str | None:
        """The backend that has answered, None before one has."""
        address: str | None = self._cython_call.address
        return address

    def cancel(self) -> bool:
        """End the call; False where it is over."""
        if not super().cancel():  # type: ignore[misc]
            return False
        for name in _TASKS:
            task = getattr(self, name, None)
            if task is not None:
                _forget(task) if task.done() else task.add_done_callback(_forget)
        return True

    async def _raise_for_status(self) -> None:
        try:
            await super()._raise_for_status()  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            raise with_attempts(error, self.attempts) from None


class _UnaryResponse(_Call):
    """Awaiting the call gives its one response."""

    _call_response: asyncio.Task[Any]

    def __await__(self) -> Generator[Any, None, Any]:
        # As grpcio's own, which cannot say which attempts were made; a generator around it is felt by each call.
        try:
            response = yield from self._call_response
        except asyncio.CancelledError:
            if not self.cancelled():  # type: ignore[attr-defined]
                self.cancel()
            raise
        except Exception:
            del self  # as in `_invoke`
            raise
        if response is not grpcio.EOF:
            return response
        beneath = self._cython_call
        if beneath.is_locally_cancelled():
            raise asyncio.CancelledError
        raise with_attempts(grpcio.make_error(beneath._initial_metadata, beneath._status), self.attempts)


def _keep_to_its_end(calls: set[Any], call: Any, task: asyncio.Task[Any]) -> None:
    """Have `calls` hold on to an intercepted call, whose interceptors are through, until it is over."""
    _forget(task)
    inner = None if task.cancelled() or task.exception() is not None else task.result()
    if not (isinstance(inner, _Call) and inner._cython_call.keep_in(calls, call)):
        call.add_done_callback(calls.discard)


class UnaryUnaryCall(_UnaryResponse, grpcio.UnaryUnaryCall):  # type: ignore[misc]
    """One request, one response."""

    def __init__(
        self,
        request: Any,
        deadline: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        channel: BalancedChannel,
        method: str | bytes,
        request_serializer: Any,
        response_deserializer: Any,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # As grpcio's own, with shorter ways to the call beneath and to a context that is nearly always None.
        self._loop = loop
        self._cython_call = channel.call(method, deadline, credentials, wait_for_ready)
        self._metadata = tuple(metadata)
        self._request_serializer = request_serializer
        self._response_deserializer = response_deserializer
        self._request = request
        self._context = grpcio.census_context()
        self._invocation_task = self._call_response = loop.create_task(self._invoke())

    async def _invoke(self) -> Any:
        # As grpcio's own, but that the first attempt is awaited here, with no coroutine of ours between.
        beneath: BalancedUnaryCall = self._cython_call
        serializer = self._request_serializer
        request = self._request if serializer is None else grpcio.serialize(self._request, serializer)
        try:
            first = beneath.begin(self._metadata, request, self._context)
            if first is None:
                response = await beneath.go_on(request, self._context)
            else:
                try:
                    response = await first.unary_unary(request, self._metadata, self._context)
                except Exception as error:
                    beneath.not_sent(error)
                    raise
                if not beneath.first_ended(first, response):
                    response = await beneath.go_on(request, self._context)
        except asyncio.CancelledError:
            # Of a call that is over, whose task has yet to hear of it, only the waiting is cancelled.
            if not (self.cancelled() or self.cancel()):
                raise
            return grpcio.EOF
        except Exception:
            del self  # the task holds the exception, which holds this frame, which would hold the task
            raise
        if response is None and not beneath.is_ok():
            return grpcio.EOF
        deserializer = self._response_deserializer
        return response if deserializer is None else grpcio.deserialize(response, deserializer)


async def _let_go(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Do the work of a call's task; frames of an exception let go of the call, which holds the task that holds them."""
    try:
        return await work()
    except Exception as error:
        del work
        clear_frames(error.__traceback__)
        raise


class UnaryStreamCall(_Call, grpcio.UnaryStreamCall):  # type: ignore[misc]
    """One request, a stream of responses."""

    def _send_unary_request(self) -> Coroutine[Any, Any, None]:
        return _let_go(super()._send_unary_request)


class StreamUnaryCall(_UnaryResponse, grpcio.StreamUnaryCall):  # type: ignore[misc]
    """A stream of requests, one response."""

    def _conduct_rpc(self) -> Coroutine[Any, Any, Any]:
        return _let_go(super()._conduct_rpc)


class StreamStreamCall(_Call, grpcio.StreamStreamCall):  # type: ignore[misc]
    """A stream of requests, a stream of responses."""

    def _prepare_rpc(self) -> Coroutine[Any, Any, None]:
        return _let_go(super()._prepare_rpc)


class _MultiCallable:
    """What the four kinds of multi-callables share.

    Args:
        subchannels: the channel's subchannels.
        channel: makes the calls beneath.
        method: the full name.
        serializer: of requests, None where they are bytes.
        deserializer: of responses, likewise.
        interceptors: the channel's list for this kind; what is added to it later is run too.

    Attributes:
        arity: the name of the channel's method that makes these.
    """

    arity: str
    _call_class: Any
    _intercepted_class: Any

    def __init__(
        self,
        subchannels: Subchannels,
        channel: BalancedChannel,
        method: str | bytes,
        *,
        serializer: Any,
        deserializer: Any,
        interceptors: Sequence[grpc.aio.ClientInterceptor],
    ) -> None:
        self._subchannels = subchannels
        self._channel = channel
        self._method = method if isinstance(method, bytes) else method.encode()
        self._request_serializer = serializer
        self._response_deserializer = deserializer
        self._interceptors = interceptors

    def _begin(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        subchannels = self._subchannels
        if _get_running_loop() is not subchannels.loop:
            subchannels.check_caller()
        if self._interceptors:
            return self._intercepted(request, timeout, metadata, credentials, wait_for_ready, compression)
        # Of no metadata grpcio makes an object, which each call would feel.
        given = self._init_metadata(metadata, compression) if metadata or compression else ()  # type: ignore[attr-defined]
        deadline = None if timeout is None else deadline_of(timeout)
        call = self._call_class(
            *(request, deadline, given, credentials, wait_for_ready, self._channel, self._method),
            *(self._request_serializer, self._response_deserializer, subchannels.loop),
        )
        call._cython_call.keep_in(subchannels.calls, call)
        return call

    def _intercepted(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        subchannels = self._subchannels
        metadata = self._init_metadata(metadata, compression)  # type: ignore[attr-defined]
        call = self._intercepted_class(
            [*self._interceptors, last_link(self._make)],
            *(request, timeout, metadata, credentials, wait_for_ready, self._channel, self._method),
            *(self._request_serializer, self._response_deserializer, subchannels.loop),
        )
        subchannels.calls.add(call)
        call._interceptors_task.add_done_callback(partial(_keep_to_its_end, subchannels.calls, call))
        return call

    def _make(
        self,
        method: str | bytes,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
    ) -> Any:
        """Return the call that no interceptor stands before any more."""
        call = self._call_class(
            request,
            None if timeout is None else deadline_of(timeout),
            metadata,
            credentials,
            wait_for_ready,
            self._channel,
            method,
            self._request_serializer,
            self._response_deserializer,
            self._subchannels.loop,
        )
        self._subchannels.inner_calls.add(call)
        return call


class _UnaryRequest(_MultiCallable):
    """Makes calls of one request each."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the call; see `grpc.aio.UnaryUnaryMultiCallable`."""
        return self._begin(request, timeout, metadata, credentials, wait_for_ready, compression)


class _StreamRequest(_MultiCallable):
    """Makes calls of a stream of requests each."""

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the call; see `grpc.aio.StreamUnaryMultiCallable`."""
        return self._begin(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


class UnaryUnary(_UnaryRequest, grpcio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """One request, one response."""

    arity = "unary_unary"
    _call_class = UnaryUnaryCall
    _intercepted_class = grpcio.InterceptedUnaryUnaryCall


class UnaryStream(_UnaryRequest, grpcio.UnaryStreamMultiCallable):  # type: ignore[misc]
    """One request, a stream of responses."""

    arity = "unary_stream"
    _call_class = UnaryStreamCall
    _intercepted_class = grpcio.InterceptedUnaryStreamCall


class StreamUnary(_StreamRequest, grpcio.StreamUnaryMultiCallable):  # type: ignore[misc]
    """A stream of requests, one response."""

    arity = "stream_unary"
    _call_class = StreamUnaryCall
    _intercepted_class = grpcio.InterceptedStreamUnaryCall


class StreamStream(_StreamRequest, grpcio.StreamStreamMultiCallable):  # type: ignore[misc]
    """A stream of requests, a stream of responses."""

    arity = "stream_stream"
    _call_class = StreamStreamCall
    _intercepted_class = grpcio.InterceptedStreamStreamCall
