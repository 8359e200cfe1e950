"""Lame duck: how a server leaves without failing a call.

Clients that follow the health service move away when they hear NOT_SERVING; `drain` is the time for that, and the
server goes on serving meanwhile. Then the Watches end, which would hold up `stop` otherwise (P41), and calls in flight
get `grace`.

The one rule: nothing is refused before everybody had time to go elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio

from healthlb.config import check_number
from healthlb.errors import ConfigError
from healthlb.server.aio_servicer import HealthServicer as AioHealthServicer
from healthlb.server.servicer import HealthServicer

_log = logging.getLogger("healthlb.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve_until_signal(
    server: grpc.Server,
    health: HealthServicer,
    drain: float = 10.0,
    grace: float = 30.0,
    signals: Iterable[signal.Signals] = _SIGNALS,
) -> signal.Signals:
    """Wait for a signal, then leave as a lame duck. Call it on the main thread, with the server started.

    Args:
        server: it has stopped when this returns.
        health: it shows NOT_SERVING from the signal on.
        drain: seconds to go on serving after the signal; at least 0. A second signal ends it early.
        grace: seconds for calls in flight after that; at least 0.
        signals: to wait for; default SIGTERM and SIGINT.

    Returns:
        The signal.

    Raises:
        ConfigError: a value is out of its bounds, or `health` of another kind.
        ValueError: it is not the main thread.
    """
    _check(drain, grace)
    _check_servicer(health, HealthServicer, "healthlb.server.HealthServicer")
    # Not an Event: the handler interrupts this very thread, maybe within `wait` while it holds the Event's lock.
    arrived: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()
    with _handled(signals, lambda number, frame: arrived.put(signal.Signals(number))):
        first = arrived.get()
        _log.info("%s: draining for %g s", first.name, drain)
        health.enter_graceful_shutdown()
        with contextlib.suppress(queue.Empty):
            arrived.get(timeout=drain)
        health.close()
        server.stop(grace).wait()
    return first


async def serve_until_signal_aio(
    server: grpc.aio.Server,
    health: AioHealthServicer,
    drain: float = 10.0,
    grace: float = 30.0,
    signals: Iterable[signal.Signals] = _SIGNALS,
) -> signal.Signals:
    """The twin of `serve_until_signal` for a `grpc.aio.server`; on the main thread's event loop.

    Args:
        server: it has stopped when this returns.
        health: it shows NOT_SERVING from the signal on.
        drain: seconds to go on serving after the signal; at least 0. A second signal ends it early.
        grace: seconds for calls in flight after that; at least 0.
        signals: to wait for; default SIGTERM and SIGINT.

    Returns:
        The signal.

    Raises:
        ConfigError: a value is out of its bounds, or `health` of another kind.
    """
    _check(drain, grace)
    _check_servicer(health, AioHealthServicer, "healthlb.aio.HealthServicer")
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()
    watched = tuple(signals)
    for number in watched:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    try:
        first = await arrived.get()
        _log.info("%s: draining for %g s", first.name, drain)
        await health.enter_graceful_shutdown()
        await _first_of(arrived, drain)
        await health.close()
        await server.stop(grace)
    finally:
        for number in watched:
            loop.remove_signal_handler(number)
    return first


async def _first_of(arrived: asyncio.Queue[Any], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await arrived.get()


@contextlib.contextmanager
def _handled(signals: Iterable[signal.Signals], handler: Callable[[int, object], None]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for number in signals:
            # None: it was not Python that set what was there, so Python cannot put it back.
            previous = signal.signal(number, handler) or signal.SIG_DFL
            stack.callback(signal.signal, number, previous)
        yield


def _check_servicer(health: object, kind: type, name: str) -> None:
    if not isinstance(health, kind):
        raise ConfigError(f"health must be a {name}, not {health!r}")


def _check(drain: float, grace: float) -> None:
    check_number("drain", drain, low=0)
    check_number("grace", grace, low=0)
