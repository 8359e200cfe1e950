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
import os
import select
import signal
import threading
import time
from collections.abc import Awaitable, Collection, Iterable
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
        ConfigError: a value is out of its bounds, or the server or its servicer of another kind.
        ValueError: it is not the main thread.
    """
    _check(drain, grace)
    if not isinstance(health, HealthServicer):
        raise ConfigError(f"health must be a healthlb.server.HealthServicer, not {health!r}")
    if isinstance(server, grpc.aio.Server):
        raise ConfigError(f"server must be a grpc.server: await healthlb.aio.serve_until_signal for {server!r}")
    with _Arrivals(tuple(signals)) as arrivals:
        first = arrivals.next(None)
        assert first is not None
        _log.info("%s: draining for %g s", first.name, drain)
        health.enter_graceful_shutdown()
        arrivals.next(drain)
        health.close()
        server.stop(grace).wait()
    return first


class _Arrivals:
    """The signals that arrive, through a pipe that the interpreter writes to.

    A handler in Python would run on the thread that waits, which a signal does not wake if it comes just before.
    """

    def __init__(self, watched: Collection[signal.Signals]) -> None:
        self._watched = watched

    def __enter__(self) -> _Arrivals:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("serve_until_signal must be called on the main thread")
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._previous_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # None: it was not Python that set what was there, so Python cannot put it back.
        self._previous = {number: signal.signal(number, _ignore) or signal.SIG_DFL for number in self._watched}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_writer)
        os.close(self._reader)
        os.close(self._writer)

    def next(self, seconds: float | None) -> signal.Signals | None:
        """Return the next one, None where none comes in time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._reader], [], [], left)[0]:
                return None
            (number,) = os.read(self._reader, 1)
            if number in self._watched:
                return signal.Signals(number)


def _ignore(number: int, frame: object) -> None:
    """Do nothing; without a handler the signal would end the process."""


async def serve_until_signal_aio(
    server: grpc.aio.Server,
    health: AioHealthServicer | HealthServicer,
    drain: float = 10.0,
    grace: float = 30.0,
    signals: Iterable[signal.Signals] = _SIGNALS,
) -> signal.Signals:
    """The twin of `serve_until_signal` for a `grpc.aio.server`; on the main thread's event loop.

    Args:
        server: it has stopped when this returns.
        health: of either kind; it shows NOT_SERVING from the signal on.
        drain: seconds to go on serving after the signal; at least 0. A second signal ends it early.
        grace: seconds for calls in flight after that; at least 0.
        signals: to wait for; default SIGTERM and SIGINT.

    Returns:
        The signal.

    Raises:
        ConfigError: a value is out of its bounds, or the server or its servicer of another kind.
    """
    _check(drain, grace)
    if not isinstance(health, AioHealthServicer | HealthServicer):
        raise ConfigError(f"health must be a healthlb.aio.HealthServicer, not {health!r}")
    if isinstance(server, grpc.Server):
        raise ConfigError(f"server must be a grpc.aio.server: call healthlb.server.serve_until_signal for {server!r}")
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()
    watched = tuple(signals)
    for number in watched:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    try:
        first = await arrived.get()
        _log.info("%s: draining for %g s", first.name, drain)
        await _settle(health.enter_graceful_shutdown())
        await _first_of(arrived, drain)
        await _settle(health.close())
        await server.stop(grace)
    finally:
        for number in watched:
            loop.remove_signal_handler(number)
    return first


async def _first_of(arrived: asyncio.Queue[Any], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await arrived.get()


async def _settle(outcome: Awaitable[None] | None) -> None:
    """Wait for what a servicer of either kind returned."""
    if outcome is not None:
        await outcome


def _check(drain: float, grace: float) -> None:
    check_number("drain", drain, low=0)
    check_number("grace", grace, low=0)
