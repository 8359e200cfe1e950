"""The sync face behind `tests.parity.face`."""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

import healthlb
from tests.backends.clients import PATIENCE, eventually
from tests.parity.face import METHODS, Asked, CallInFlight, Cancelled, Client, Face, Facts

_MOST_AT_ONCE = 200


class _Requests:
    """Requests as they are written."""

    def __init__(self) -> None:
        self._written: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.put = self._written.put

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = self._written.get()
        if request is None:
            raise StopIteration
        return request


class SyncCall(CallInFlight):
    """A call of the sync face: a future, or an iterator of responses."""

    def __init__(self, begin: Callable[[Any], Any], arity: str, asked: Asked) -> None:
        """Begin it."""
        self.arity = arity
        self._requests = _Requests()
        self._is_cancelled = False
        if not arity.startswith("stream"):
            request: Any = b"ping"
        else:
            request = self._requests if asked.requests is None else iter(asked.requests)
        self._call = begin(request)

    def read(self) -> bytes | None:
        """See `CallInFlight`."""
        try:
            response: bytes = next(self._call)
        except StopIteration:
            return None
        except grpc.RpcError as error:
            raise self._translated(error) from None
        return response

    def write(self, request: bytes) -> None:
        """See `CallInFlight`."""
        self._requests.put(request)

    def finish(self) -> None:
        """See `CallInFlight`."""
        self._requests.put(None)

    def result(self) -> bytes:
        """See `CallInFlight`."""
        try:
            response: bytes = self._call.result(PATIENCE)
        except grpc.FutureCancelledError:
            raise Cancelled from None
        return response

    def cancel(self) -> bool:
        """See `CallInFlight`."""
        self._is_cancelled = True
        return bool(self._call.cancel())

    def is_over(self) -> bool:
        """See `CallInFlight`."""
        return bool(self._call.done())

    def code(self) -> grpc.StatusCode:
        """See `CallInFlight`."""
        eventually(self.is_over)
        code: grpc.StatusCode = self._call.code()
        return code

    def details(self) -> str:
        """See `CallInFlight`."""
        eventually(self.is_over)
        return str(self._call.details())

    def trailing(self) -> dict[str, str]:
        """See `CallInFlight`."""
        eventually(self.is_over)
        return dict(self._call.trailing_metadata())

    def drop(self) -> None:
        """See `CallInFlight`."""
        self._call = None
        self.finish()
        gc.collect()

    def _translated(self, error: grpc.RpcError) -> Exception:
        # The iterator of a cancelled call raises the call itself, with CANCELLED.
        return Cancelled() if self._is_cancelled and self._call.code() is grpc.StatusCode.CANCELLED else error


class SyncClient(Client):
    """A `grpc.Channel`."""

    def __init__(self, channel: Any, facts: Facts) -> None:
        """Wrap it."""
        super().__init__(channel, facts)
        self._pool: ThreadPoolExecutor | None = None

    def unary(self, asked: Asked) -> bytes:
        """See `Client`."""
        method = self._method("unary_unary", asked)
        response: bytes = method(b"ping", asked.timeout, asked.metadata, wait_for_ready=asked.wait_for_ready)
        return response

    def begin(self, arity: str, asked: Asked) -> CallInFlight:
        """See `Client`."""
        method = self._method(arity, asked)
        form = method if arity.endswith("stream") else method.future
        begin = lambda request: form(request, asked.timeout, asked.metadata, wait_for_ready=asked.wait_for_ready)  # noqa: E731
        return SyncCall(begin, arity, asked)

    def run(self, function: Callable[[], Any]) -> Any:
        """See `Client`."""
        return function()

    def fire(self, asked: Asked, done: Callable[[float, bytes | None, grpc.RpcError | None], None]) -> None:
        """See `Client`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_MOST_AT_ONCE)
        self._pool.submit(self._fire, asked, done)

    def close(self) -> None:
        """Close the channel and the threads that called."""
        super().close()
        if self._pool is not None:
            self._pool.shutdown()

    def _fire(self, asked: Asked, done: Callable[[float, bytes | None, grpc.RpcError | None], None]) -> None:
        began_at = time.monotonic()
        try:
            answer = self.unary(asked)
        except grpc.RpcError as error:
            done(began_at, None, error)
        else:
            done(began_at, answer, None)

    def _method(self, arity: str, asked: Asked) -> Any:
        return getattr(self.channel, arity)(METHODS[arity], asked.serializer, asked.deserializer)


class SyncFace(Face):
    """`healthlb`."""

    name = "sync"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._older = set(threading.enumerate())

    @property
    def channel_type(self) -> Any:
        """See `Face`."""
        return healthlb.HealthAwareChannel

    def close(self) -> None:
        """Close every client; no thread that healthlb started for them outlives them."""
        super().close()
        eventually(lambda: not self._threads())

    def _threads(self) -> list[threading.Thread]:
        new = [thread for thread in threading.enumerate() if thread not in self._older]
        return [thread for thread in new if thread.name.startswith("healthlb")]

    def _plain(self, target: str, options: Sequence[tuple[str, Any]]) -> Any:
        return grpc.insecure_channel(target, options)

    def _wrap(self, channel: Any, facts: Facts) -> Client:
        return SyncClient(channel, facts)
