"""Hosts one Balancer on an event loop; the order of the steps is `BalancerHost`'s.

What comes from other threads, it brings to the loop; and what the loop still holds once it is closed, it gives back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from healthlb.control.tasks import start_task
from healthlb.control.transport import Connection, DataDone, DataPlane, Transport
from healthlb.control.user_code import LoggingGuard, is_interrupt, run_guarded
from healthlb.control.watcher import SubchannelWatcher
from healthlb.core.balancer import Balancer
from healthlb.core.hosting import BalancerHost
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    Closing,
    Code,
    DataFailed,
    DataReady,
    Endpoint,
    Event,
    Fact,
    Resolved,
    ResolveFailed,
)
from healthlb.core.pickers import PickerBuilder
from healthlb.core.publication import Publisher
from healthlb.core.snapshot import Snapshot
from healthlb.core.user_code import shown, words
from healthlb.resolvers import Resolver
from healthlb.resolvers.addresses import parse_endpoints

_BUILD_AGAIN = 1.0  # Seconds after which a picker that could not be built is tried again, if nothing changes before.


class LeftData:
    """What an abandoned driver may do with connections for calls: close its own, and open none.

    Args:
        data: the real ones.
    """

    def __init__(self, data: DataPlane) -> None:
        self._data: DataPlane = data

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Do nothing: the driver that has taken over does it."""

    def forget(self, sub: int) -> None:
        """Do nothing: the subchannel's number belongs to the driver that has taken over."""

    def close(self, sub: int, generation: int) -> None:
        """Close one connection."""
        self._data.close(sub, generation)


def _take_exception(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # Else asyncio complains of a task that was closed beneath it.


class Driver(BalancerHost):
    """One channel's control plane.

    Args:
        balancer: the core that decides.
        transport: opens control connections.
        data: the connections for calls.
        resolver: says which addresses there are.
        factory: builds the pickers.
        publish: takes each new snapshot; called on the loop.
        report: takes each fact, after publication; called on the loop.
        clock: monotonic nanoseconds.
        rescue: sends the calls elsewhere that are in flight on a hung backend, and tells how many; called on the loop.
        end_calls: ends the calls in flight on a connection, with UNAVAILABLE and a text; called on the loop.

    Attributes:
        is_closed: whether all is stopped.
    """

    def __init__(
        self,
        *,
        balancer: Balancer,
        transport: Transport,
        data: DataPlane,
        resolver: Resolver,
        factory: PickerBuilder,
        publish: Callable[[Snapshot], None],
        report: Callable[[Fact], None],
        clock: Callable[[], int],
        rescue: Callable[[Subchannel, Callable[[int], None]], None] = lambda sub, tell: None,
        end_calls: Callable[[Subchannel, str], None] = lambda sub, details: None,
    ) -> None:
        super().__init__(balancer, Publisher(factory, balancer.snapshot, LoggingGuard()))
        self._transport = transport
        self._data = data
        self._resolver = resolver
        self._publish = publish
        self._report_fact = report
        self._clock = clock
        self._rescue_calls = rescue
        self._end_calls_of = end_calls
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._last_list: Resolved | None = None
        self._is_draining = False
        self.is_closed = False
        self._is_abandoned = False
        self._building: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._failures_lock = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """The last snapshot that was published; before the first, the one to begin with."""
        return self._publisher.published

    def start(self, before: Driver | None = None) -> None:
        """Begin to resolve; on the loop.

        Args:
            before: an abandoned one that this follows; its last list and last good picker count until there are others.
        """
        if before is not None:
            self._publisher.adopt(before._publisher)
            if before._last_list is not None:
                self._post_resolved(before._last_list)
        self._resolve()

    def _soon(self, act: Callable[[], None]) -> None:
        self._loop.call_soon(act)

    def post_threadsafe(self, event: Event) -> None:
        """Take in an event, from any thread."""
        self._run_threadsafe(lambda: self.post(event))

    _post_from_call = post_threadsafe

    def call_failed(self, sub: int, generation: int, code: Code, *, is_refused: bool = False) -> None:
        """Post a failed call to the core, from any thread; equal ones that are still queued count once."""
        with self._failures_lock:
            is_first = self._note_failure(sub, generation, code, is_refused)
        if is_first:
            self._run_threadsafe(self._take_failures)

    def calls_refused(self, cap: str) -> None:
        """Post a call that a cap has refused to the core, from any thread; queued ones are posted together."""
        with self._failures_lock:
            is_first = self._note_refusal(cap)
        if is_first:
            self._run_threadsafe(self._take_failures)

    def close(self) -> None:
        """Stop everything and publish the last snapshot; on the loop."""
        if self.is_closed:
            return
        if self._is_draining:  # closed by the user's code that is called from there, as a picker factory is
            self._loop.call_soon(self.close)
            return
        self._take_failures()
        self.post(Closing())
        self._drain()
        self.is_closed = True
        self._stop_tasks()

    def abandon(self) -> None:
        """Stop, as another driver takes over; from any thread.

        What the loop still holds, it gives back if it ever comes round.
        """
        self._is_abandoned = True
        self._data = LeftData(self._data)
        if self._resolving is not None:
            # So that the other one may run the resolver; where it runs now, that fails.
            with contextlib.suppress(Exception):
                self._resolving.get_coro().close()
        self._run_threadsafe(self._leave)

    def _leave(self) -> None:
        for watcher in self._watchers.values():
            watcher.disconnect()
        self._watchers = {}
        self._stop_tasks()

    def _stop_tasks(self) -> None:
        for task in (self._timer, self._building, self._resolving):
            if task is not None:
                task.cancel()

    def _drained(self, sub: int, generation: int) -> None:
        if self._is_abandoned:
            self._data.close(sub, generation)
        else:
            super()._drained(sub, generation)

    def _run_threadsafe(self, work: Callable[[], None]) -> None:
        # A loop that is closed takes nothing more, and nobody is left who could be told.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def _take_noted(self) -> tuple[dict[tuple[int, int, Code, bool], None], dict[str, int]]:
        with self._failures_lock:
            return super()._take_noted()

    # --- the loop: events in, effects out ------------------------------------------------------

    def _drain(self) -> None:
        # After the end too: a connection for calls that comes up then is still to be closed.
        if self._is_abandoned:
            return
        self._is_draining = True
        try:
            self._handle_all(self._clock())
        finally:
            self._is_draining = False

    def _set_timer(self, at: int | None, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_later(max(0, at - now) / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        super()._tick()

    def _report(self, fact: Fact) -> None:
        self._report_fact(fact)

    def _published(self) -> None:
        if self._is_abandoned:
            return
        self._publish(self._publisher.published)
        if self._publisher.error is not None and self._building is None:
            self._building = self._loop.call_later(_BUILD_AGAIN, self._build_again)

    def _build_again(self) -> None:
        self._building = None
        if not (self.is_closed or self._is_draining) and self._publisher.retry():
            self._published()

    # --- effects -------------------------------------------------------------------------------

    def _watch(self, sub: int, endpoint: Endpoint) -> SubchannelWatcher:
        return SubchannelWatcher(sub, endpoint, self._transport, post=self.post)

    def _forget_data(self, sub: int) -> None:
        self._data.forget(sub)

    def _close_data(self, sub: int, generation: int) -> None:
        self._data.close(sub, generation)

    def _rescue(self, handle: Subchannel) -> None:
        self._rescue_calls(handle, partial(self._rescued, handle.id))

    def _end_calls(self, handle: Subchannel, details: str) -> None:
        self._end_calls_of(handle, details)

    def _prepare_data(self, sub: int) -> None:
        watcher = self._watchers[sub]

        def done(generation: int | None, reason: str) -> None:
            self.post(DataFailed(sub, reason) if generation is None else DataReady(sub, generation))

        self._data.prepare(sub, watcher.endpoint, watcher.connection, done)

    def _resolve(self) -> None:
        if self._resolving is None or self._resolving.done():
            self._resolving = start_task(self._loop, self._run_resolver())
            self._resolving.add_done_callback(_take_exception)
        else:
            refresh = getattr(self._resolver, "refresh", None)
            if refresh is not None:
                run_guarded("resolver's refresh", refresh)

    async def _run_resolver(self) -> None:
        try:
            await self._resolver.resolve(self._update)
        except BaseException as error:
            if self._is_ended() or is_interrupt(error):
                raise
            # A CancelledError that nobody asked for is the resolver's: something that it waited for was cancelled.
            self.post(ResolveFailed(words(error)))
        else:
            # It has said all it had to say: a new task would make it say so again.
            await self._loop.create_future()

    def _is_ended(self) -> bool:
        """Whether the resolver's task was cancelled, or collected with its loop."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return True
        return task is None or task is not self._resolving or bool(task.cancelling())

    def _update(self, endpoints: Sequence[Endpoint | str]) -> None:
        if isinstance(endpoints, str | bytes):
            raise TypeError(
                f"a resolver must pass a list of Endpoint objects or addresses to update, not {shown(endpoints)}"
            )
        endpoints = tuple(endpoints)
        wrong = [endpoint for endpoint in endpoints if not isinstance(endpoint, Endpoint | str)]
        if wrong:
            raise TypeError(f"a resolver must pass Endpoint objects or addresses to update, not {shown(wrong[0])}")
        resolved = Resolved(parse_endpoints(endpoints) if endpoints else ())
        if threading.get_ident() == self._thread:
            self._post_resolved(resolved)
        else:
            self._run_threadsafe(lambda: self._post_resolved(resolved))

    def _post_resolved(self, resolved: Resolved) -> None:
        if resolved.endpoints:
            # Where one waits, this one makes it needless.
            self._queue = deque(event for event in self._queue if event is not self._last_list)
            self._last_list = resolved
        self.post(resolved)
