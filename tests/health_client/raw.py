"""A health service that answers whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import Any, Self

import grpc
import grpc.aio

PATIENCE = 20.0


class RawHealth:
    """A `grpc.aio.server` on a thread of its own: thousands of Watches cost it no thread.

    Attributes:
        address: where it listens.
        answers: the bytes that `Check` and `List` return.
        messages: what each Watch begins with.
        end: the status that a Watch ends with after its messages, None for one that stays open.
        watches: how many are open.
        metadata: of the last call.
    """

    def __init__(self) -> None:
        self.answers = {"Check": b"\x08\x01", "List": b""}
        self.messages: list[bytes] = [b"\x08\x01"]
        self.end: grpc.StatusCode | None = None
        self.watches = 0
        self.begun = 0
        self.metadata: dict[str, Any] = {}
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start())

    def send(self, *messages: bytes) -> None:
        """Send messages to all that watch."""

        async def put() -> None:
            for queue in self._queues:
                for message in messages:
                    queue.put_nowait(message)

        self._run(put())

    async def _start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self._answer("Check")),
            "List": grpc.unary_unary_rpc_method_handler(self._answer("List")),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
        self._server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    def _answer(self, method: str) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            self.metadata = dict(context.invocation_metadata())
            return self.answers[method]

        return answer

    async def _watch(self, request: bytes, context: Any) -> Any:
        self.metadata = dict(context.invocation_metadata())
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)
        self.watches += 1
        self.begun += 1
        try:
            for message in self.messages:
                yield message
            if self.end is not None:
                if self.end is not grpc.StatusCode.OK:
                    await context.abort(self.end, "an end\x1b[31m\n" + "x" * 1000)
                return
            while True:
                yield await queue.get()
        finally:
            self.watches -= 1
            self._queues.discard(queue)

    def close(self) -> None:
        """Stop it."""
        self._run(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, coroutine: Any) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)
        except futures.TimeoutError:
            raise AssertionError("the raw server hangs") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
