"""The handlers that both servicers register: each finds out at the call which kind of server it is on.

grpcio's generated function registers a servicer without telling it of the server. A `grpc.server` calls a handler on a
thread; a `grpc.aio.server` looks whether it is a coroutine function and then awaits it on its loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NoReturn

import grpc

from healthlb.errors import ConfigError
from healthlb.server import sync_code
from healthlb.server.aio_streams import Responses
from healthlb.server.contexts import is_aio

_log = logging.getLogger("healthlb.server")

WRONG_SERVER = (
    "the health service of this grpc.server is asynchronous, as a healthlb.aio.HealthServicer is: "
    "register a healthlb.server.HealthServicer"
)
HIDDEN = (
    "an interceptor hides from this grpc.aio.server that the health service's Watch is a coroutine function: "
    "its own function must be a coroutine function or an async generator"
)


class Handler:
    """A method of a servicer, for both kinds of servers.

    It passes for a coroutine function. What it returns on a `grpc.aio.server` can be awaited, and a Watch iterated
    over; on a `grpc.server` it is what the method returns.

    Args:
        behavior: the method, of a servicer or of a subclass.
        is_stream: whether it is Watch.
        is_async: whether it needs an event loop, so a `grpc.aio.server`.
        is_native: whether it is the servicer's own and takes the contexts of both kinds of servers.
        non_blocking: for grpcio: Watch may be called with a `send_response_callback`.
        thread_pool: for grpcio: where a `grpc.server` calls it, None for the server's own.

    Attributes:
        needs_loop: as `is_async`.
    """

    # `inspect.iscoroutinefunction`, which grpcio asks, takes whatever has these and a `__code__` for a function
    # (as Cython's functions have); from Python 3.12 on there is a mark for that.
    __defaults__ = None
    __kwdefaults__ = None

    def __init__(
        self,
        behavior: Callable[..., Any],
        *,
        is_stream: bool = False,
        is_async: bool = False,
        is_native: bool = True,
        non_blocking: bool = False,
        thread_pool: futures.ThreadPoolExecutor | None = None,
    ) -> None:
        self.__name__ = behavior.__name__
        self.__code__ = _passes_for.__code__
        getattr(inspect, "markcoroutinefunction", _do_nothing)(self)
        self._behavior = behavior
        self._is_stream = is_stream
        self.needs_loop = is_async
        self._is_native = is_native
        self._is_logged = False
        self.experimental_non_blocking = non_blocking and takes_callback(behavior)
        self.experimental_thread_pool = thread_pool

    def __repr__(self) -> str:
        return f"<Handler of {self._behavior!r}>"

    def __call__(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        """Serve a call."""
        if self.needs_loop and not _has_loop():
            self._refuse(context)
        if self.needs_loop or is_aio(context):
            if self._is_native and self._is_stream:
                return self._behavior(request, context)
            start = self._starter(request)
            return Responses(start, context) if self._is_stream else start(context)
        if self._is_stream and _has_loop() and type(context).__module__.startswith("grpc._cython"):
            return self._refuse_later(context)
        callback = {} if send_response_callback is None else {"send_response_callback": send_response_callback}
        return self._behavior(request, context, **callback)

    def _starter(self, request: Any) -> Callable[[Any], Any]:
        behavior = self._behavior
        if self.needs_loop or self._is_native:
            return lambda context: behavior(request, context) if self._is_stream else self._answer(request, context)
        if self._is_stream:
            with_callback = takes_callback(behavior)
            return lambda context: sync_code.stream(behavior, with_callback, request, context)
        return lambda context: sync_code.call(behavior, request, context)

    async def _answer(self, request: Any, context: Any) -> Any:
        outcome = self._behavior(request, context)
        return await outcome if inspect.isawaitable(outcome) else outcome

    def _refuse(self, context: Any) -> NoReturn:
        self._log(WRONG_SERVER)
        context.abort(grpc.StatusCode.INTERNAL, WRONG_SERVER)
        raise ConfigError(WRONG_SERVER)

    def _refuse_later(self, context: Any) -> Iterator[Any]:
        # On a thread of the server: `abort` waits for the loop, on which this is called.
        self._log(HIDDEN)
        context.abort(grpc.StatusCode.INTERNAL, HIDDEN)
        yield from ()

    def _log(self, text: str) -> None:
        # Once: what clients do must not fill the log.
        if not self._is_logged:
            self._is_logged = True
            _log.error("%s: %s", self.__name__, text)


def check_server(servicer: Any, server: Any) -> None:
    """Check that a servicer works on a server.

    Raises:
        ConfigError: it has asynchronous methods, and the server is a `grpc.server`.
    """
    handlers = [handler for handler in vars(servicer).values() if isinstance(handler, Handler)]
    if isinstance(server, grpc.Server) and any(handler.needs_loop for handler in handlers):
        raise ConfigError(f"{WRONG_SERVER}, not {servicer!r}")


def is_async_code(behavior: Callable[..., Any]) -> bool:
    """Return whether a method is written for an event loop."""
    return inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)


def takes_callback(behavior: Callable[..., Any]) -> bool:
    """Return whether a Watch can be called with a `send_response_callback`, and does something then."""
    try:
        inspect.signature(behavior).bind(None, None, send_response_callback=None)
    except TypeError:
        return False
    return not inspect.isgeneratorfunction(behavior)


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _passes_for(request: Any, context: Any) -> None:
    """Lend its code's flags to handlers."""


def _do_nothing(handler: Handler) -> None:
    """Stand in for `inspect.markcoroutinefunction` before Python 3.12."""
