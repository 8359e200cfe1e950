"""The aio face behind `tests.parity.face`: a loop in a thread of its own, as an application would run one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import grpc
import grpc.aio

import healthlb.aio
from tests.backends.clients import PATIENCE, eventually, tasks_of
from tests.parity.face import METHODS, Asked, CallInFlight, Cancelled, Client, Face, Facts

_LAST_WORDS = 0.05  # Seconds.
_LONGEST = 100.0  # Seconds; what waits on purpose has a deadline of its own.


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        """Run it."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="aio-face", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what the coroutine gives."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(_LONGEST)

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return what runs on it now."""
        return [task for task in tasks_of(self.loop) if not task.done()]

    def close(self) -> None:
        """End the thread; nothing may be left to run."""
        eventually(lambda: not self.tasks())
        gc.collect()
        # grpcio has one poller for all loops: what C-core still says to a closed one raises in another (1.85.1).
        self.run(asyncio.sleep(_LAST_WORDS))
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


async def _stream(requests: Sequence[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


class AioCall(CallInFlight):
    """A call of the aio face."""

    def __init__(self, loop: Loop, arity: str, call: Any) -> None:
        """Take over a call that was begun on the loop."""
        self.arity = arity
        self._loop = loop
        self._call = call

    def read(self) -> bytes | None:
        """See `CallInFlight`."""
        response = self._wait(lambda: self._call.read())
        return None if response is grpc.aio.EOF else response

    def write(self, request: bytes) -> None:
        """See `CallInFlight`."""
        self._wait(lambda: self._call.write(request))

    def finish(self) -> None:
        """See `CallInFlight`."""
        self._wait(lambda: self._call.done_writing())

    def result(self) -> bytes:
        """See `CallInFlight`."""
        response: bytes = self._wait(lambda: self._call)
        return response

    def cancel(self) -> bool:
        """See `CallInFlight`."""
        return bool(self._ask(lambda: self._call.cancel()))

    def is_over(self) -> bool:
        """See `CallInFlight`."""
        return bool(self._ask(lambda: self._call.done()))

    def code(self) -> grpc.StatusCode:
        """See `CallInFlight`."""
        code: grpc.StatusCode = self._wait(lambda: self._call.code())
        return code

    def details(self) -> str:
        """See `CallInFlight`."""
        return str(self._wait(lambda: self._call.details()))

    def trailing(self) -> dict[str, str]:
        """See `CallInFlight`."""
        return dict(tuple(self._wait(lambda: self._call.trailing_metadata())))

    def drop(self) -> None:
        """See `CallInFlight`."""
        self._ask(self._forget)

    def _forget(self) -> None:
        self._call = None
        gc.collect()

    def _ask(self, function: Callable[[], Any]) -> Any:
        async def asked() -> Any:
            return function()

        return self._loop.run(asked())

    def _wait(self, function: Callable[[], Any]) -> Any:
        async def waited() -> Any:
            return await asyncio.wait_for(_awaited(function), PATIENCE)

        try:
            return self._loop.run(waited())
        except concurrent.futures.CancelledError:
            raise Cancelled from None


async def _awaited(function: Callable[[], Any]) -> Any:
    return await function()


class AioClient(Client):
    """A `grpc.aio.Channel` on a loop."""

    def __init__(self, channel: Any, facts: Facts, loop: Loop) -> None:
        """Wrap it."""
        super().__init__(channel, facts)
        self.loop = loop
        self._fired: set[asyncio.Task[None]] = set()

    def unary(self, asked: Asked) -> bytes:
        """See `Client`."""
        answer: bytes = self.run(lambda: self._call("unary_unary", asked))
        return answer

    def begin(self, arity: str, asked: Asked) -> CallInFlight:
        """See `Client`."""

        async def begun() -> Any:
            return self._call(arity, asked)

        return AioCall(self.loop, arity, self.loop.run(begun()))

    def run(self, function: Callable[[], Any]) -> Any:
        """See `Client`."""

        async def ran() -> Any:
            result = function()
            return await result if inspect.isawaitable(result) else result

        return self.loop.run(ran())

    def fire(self, asked: Asked, done: Callable[[float, bytes | None, grpc.RpcError | None], None]) -> None:
        """See `Client`."""
        self.loop.loop.call_soon_threadsafe(self._fire_soon, asked, done)

    def _fire_soon(self, asked: Asked, done: Callable[..., None]) -> None:
        task = self.loop.loop.create_task(self._fire(asked, done))
        self._fired.add(task)
        task.add_done_callback(self._fired.discard)

    async def _fire(self, asked: Asked, done: Callable[..., None]) -> None:
        began_at = time.monotonic()
        try:
            answer = await self._call("unary_unary", asked)
        except grpc.RpcError as error:
            done(began_at, None, error)
        else:
            done(began_at, answer, None)

    def _call(self, arity: str, asked: Asked) -> Any:
        method = getattr(self.channel, arity)(METHODS[arity], asked.serializer, asked.deserializer)
        request: tuple[Any, ...] = (b"ping",)
        if arity.startswith("stream"):
            request = () if asked.requests is None else (_stream(asked.requests),)
        return method(
            *request, timeout=asked.timeout, metadata=asked.metadata or None, wait_for_ready=asked.wait_for_ready
        )


class AioFace(Face):
    """`healthlb.aio`."""

    name = "aio"

    def __init__(self) -> None:
        """Start the loop."""
        super().__init__()
        self.loop = Loop()

    @property
    def channel_type(self) -> Any:
        """See `Face`."""
        return healthlb.aio.HealthAwareChannel

    def close(self) -> None:
        """Close every client; no task outlives them."""
        super().close()
        self.loop.close()

    def _plain(self, target: str, options: Sequence[tuple[str, Any]]) -> Any:
        async def opened() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(target, options=options)

        return self.loop.run(opened())

    def _wrap(self, channel: Any, facts: Facts) -> Client:
        return AioClient(channel, facts, self.loop)
