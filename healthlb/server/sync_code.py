"""Handlers written for a `grpc.server`, on a `grpc.aio.server`: subclasses of the sync servicer that override one.

They run on threads of their own, with a context that has what a `grpc.server`'s has. grpcio's own way (seen in 1.85)
forgets the callbacks of a context, so that a Watch would hold its thread after its client has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any

import grpc


class SyncContext:
    """A sync face of a context of `grpc.aio`; what is not here is the same in both.

    Args:
        context: of the call that the current task serves.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []
        self._running: set[futures.Future[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def is_active(self) -> bool:
        """See `grpc.RpcContext`."""
        return self._callbacks is not None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """See `grpc.RpcContext`."""
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def cancel(self) -> None:
        """See `grpc.RpcContext`."""
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        """See `grpc.ServicerContext`."""
        self._run(self._context.abort(code, details))

    def abort_with_status(self, status: Any) -> None:
        """See `grpc.ServicerContext`."""
        self._run(self._context.abort_with_status(status))

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """See `grpc.ServicerContext`."""
        self._run(self._context.send_initial_metadata(initial_metadata))

    def send(self, message: Any) -> None:
        """Send a message; returns when it has left, or the call is over."""
        self._run(self._context.write(message))

    def end(self) -> None:
        """Call everybody back, and let go of every thread."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks or [], None
            running = tuple(self._running)
        for callback in callbacks:
            callback()
        for future in running:
            future.cancel()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        with self._lock:
            if self._callbacks is None:
                coroutine.close()
                return
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._running.add(future)
        try:
            with contextlib.suppress(futures.CancelledError):
                future.result()
        finally:
            self._running.discard(future)


async def call(behavior: Callable[..., Any], request: Any, context: Any) -> Any:
    """Return the response of a sync handler of one response."""
    sync_context = SyncContext(context)
    try:
        return await _on_a_thread(lambda: behavior(request, sync_context))
    finally:
        sync_context.end()


async def stream(behavior: Callable[..., Any], takes_callback: bool, request: Any, context: Any) -> None:
    """Write the responses of a sync handler of many.

    Args:
        behavior: returns an iterator; or calls a callback with each response, and with None after the last.
        takes_callback: which of the two.
        request: to pass.
        context: of the call.
    """
    sync_context = SyncContext(context)
    loop, is_over = asyncio.get_running_loop(), asyncio.Event()

    def send(message: Any) -> None:
        if message is None:
            loop.call_soon_threadsafe(is_over.set)
        else:
            sync_context.send(message)

    def iterate() -> None:
        for message in behavior(request, sync_context):
            sync_context.send(message)

    try:
        if takes_callback:
            await _on_a_thread(lambda: behavior(request, sync_context, send_response_callback=send))
            await is_over.wait()
        else:
            await _on_a_thread(iterate)
    finally:
        sync_context.end()


async def _on_a_thread(function: Callable[[], Any]) -> Any:
    # Not on the loop's executor: a Watch may stay for days, and the application's work would wait for a thread.
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: BaseException | None) -> None:
        if not outcome.done():
            outcome.set_result(result) if error is None else outcome.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=work, name="healthlb-health-call", daemon=True).start()
    return await outcome
