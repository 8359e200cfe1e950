"""Hosts one Balancer on an event loop: feeds it events, does its effects, holds its one timer.

The one rule: after the events that wait together come open, publish, close, report, in that order; so
a picker never holds what is closed already, and a mass flip is one new picker.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from healthlb.control.port import DataPlane, Transport
from healthlb.control.tasks import start_task
from healthlb.control.watcher import SubchannelWatcher
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    CallsRefused,
    Challenge,
    CloseConnection,
    CloseSubchannel,
    Closing,
    Code,
    DataFailed,
    DataReady,
    Drain,
    Drained,
    Effect,
    Endpoint,
    Event,
    Fact,
    OpenSubchannel,
    PrepareData,
    Probe,
    ProbeEnded,
    RefreshData,
    Replace,
    Resolved,
    ResolveFailed,
    ResolveNow,
    SendCheck,
    StartWatch,
    StopWatch,
    Tick,
)
from healthlb.core.pickers import PickerFactory
from healthlb.core.publication import Publisher, in_order
from healthlb.core.snapshot import Snapshot
from healthlb.resolvers import Resolver
from healthlb.resolvers.addresses import parse_endpoints

_log = logging.getLogger("healthlb")


class Driver:
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
        factory: PickerFactory,
        publish: Callable[[Snapshot], None],
        report: Callable[[Fact], None],
        clock: Callable[[], int],
    ) -> None:
        self._balancer = balancer
        self._transport = transport
        self._data = data
        self._resolver = resolver
        self._factory = factory
        self._publish = publish
        self._report = report
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Event] = deque()
        self._is_scheduled = False
        self._is_draining = False
        self.is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._watchers: dict[int, SubchannelWatcher] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._publisher = Publisher(factory, balancer.snapshot)
        self._failures: dict[tuple[int, int, Code, bool], None] = {}
        self._refusals: dict[str, int] = {}
        self._failures_lock = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """What was published last, or is to be first."""
        return self._publisher.published

    def start(self) -> None:
        """Begin to resolve; on the loop."""
        self._resolve()

    def post(self, event: Event) -> None:
        """Take in an event; it is handled with all that wait when the loop comes round. On the loop."""
        self._queue.append(event)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._drain)

    def post_threadsafe(self, event: Event) -> None:
        """Take in an event, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.post, event)
        except RuntimeError:  # the loop is closed, and with it all that could be told
            return

    def call_failed(self, sub: int, generation: int, code: Code, *, is_refused: bool = False) -> None:
        """Tell of a failed call, from any thread; equal ones that wait count once."""
        key = (sub, generation, code, is_refused)
        with self._failures_lock:
            is_first = not (self._failures or self._refusals)
            self._failures[key] = None
        if is_first:
            self._take_failures_soon()

    def calls_refused(self, cap: str) -> None:
        """Tell of a call that a cap has kept out, from any thread; those that wait are told of together."""
        with self._failures_lock:
            is_first = not (self._failures or self._refusals)
            self._refusals[cap] = self._refusals.get(cap, 0) + 1
        if is_first:
            self._take_failures_soon()

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
        if self._resolving is not None:
            self._resolving.cancel()

    def _take_failures_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._take_failures)
        except RuntimeError:  # the loop is closed, and with it all that could be told
            return

    def _take_failures(self) -> None:
        with self._failures_lock:
            failures, self._failures = self._failures, {}
            refusals, self._refusals = self._refusals, {}
        for cap, calls in refusals.items():
            self.post(CallsRefused(cap, calls))
        for sub, generation, code, is_refused in failures:
            self.post(CallFailed(sub, generation, code, is_refused))

    # --- the loop: events in, effects out ------------------------------------------------------

    def _drain(self) -> None:
        # After the end too: a connection for calls that comes up then is still to be closed.
        self._is_scheduled = False
        self._is_draining = True
        try:
            self._handle_all()
        finally:
            self._is_draining = False

    def _handle_all(self) -> None:
        effects: list[Effect] = []
        now = self._clock()
        while self._queue:
            effects += self._balancer.handle(self._queue.popleft(), now)
        opening, closing, facts = in_order(effects)
        for effect in opening:
            self._perform(effect)
        self._publish_snapshot()
        for effect in closing:
            self._perform(effect)
        for fact in facts:
            self._report(fact)
        self._set_timer(now)

    def _set_timer(self, now: int) -> None:
        deadline = self._balancer.deadline
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._timer_at = deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0, deadline - now) / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self.post(Tick())

    def _publish_snapshot(self) -> None:
        publisher = self._publisher
        if not publisher.publish(self._balancer.snapshot):
            return
        if publisher.error is not None:
            text = "the picker factory %r failed; the last good picker stays"
            _log.error(text, self._factory, exc_info=publisher.error)
        self._publish(publisher.published)

    # --- effects -------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        match effect:
            case OpenSubchannel(sub, endpoint):
                self._watchers[sub] = SubchannelWatcher(sub, endpoint, self._transport, self.post)
            case CloseSubchannel(sub):
                self._data.forget(sub)
                self._watchers.pop(sub).close()
            case CloseConnection(sub, generation):
                self._data.close(sub, generation)
            case Drain(handle):
                drained = Drained(handle.id, handle.generation)
                handle.load.retire(lambda: self.post_threadsafe(drained))
            case Probe(handle):
                ended = ProbeEnded(handle.id, handle.generation)
                handle.load.offer_probe(lambda: self.post_threadsafe(ended))
            case ResolveNow():
                self._resolve()
            case RefreshData(sub):
                self._data.forget(sub)
                self._prepare_data(self._watchers[sub])
            case PrepareData(sub):
                self._prepare_data(self._watchers[sub])
            case Replace(sub):
                self._data.forget(sub)
                self._watchers[sub].replace()
            case Challenge(sub):
                self._watchers[sub].challenge()
            case StartWatch(sub, watch, service):
                self._watchers[sub].start_watch(watch, service)
            case StopWatch(sub, watch):
                if sub in self._watchers:  # who was told of the snapshot may have closed the channel
                    self._watchers[sub].stop_watch(watch)
            case SendCheck(sub, check, timeout):
                self._watchers[sub].send_check(check, timeout / SECOND)

    def _prepare_data(self, watcher: SubchannelWatcher) -> None:
        sub = watcher.sub

        def done(generation: int | None, reason: str) -> None:
            self.post(DataFailed(sub, reason) if generation is None else DataReady(sub, generation))

        self._data.prepare(sub, watcher.endpoint, watcher.connection, done)

    def _resolve(self) -> None:
        if self._resolving is None or self._resolving.done():
            self._resolving = start_task(self._loop, self._run_resolver())
        else:
            refresh = getattr(self._resolver, "refresh", None)
            if refresh is not None:
                refresh()

    async def _run_resolver(self) -> None:
        try:
            await self._resolver.resolve(self._update)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not ours: something that it waited for was cancelled.
            self.post(ResolveFailed(repr(error)))
        except Exception as error:
            self.post(ResolveFailed(str(error) or repr(error)))
        else:
            # It has said all it had to say: a new task would make it say so again.
            await self._loop.create_future()

    def _update(self, endpoints: Sequence[Endpoint]) -> None:
        endpoints = tuple(endpoints)
        wrong = [endpoint for endpoint in endpoints if not isinstance(endpoint, Endpoint)]
        if wrong:
            raise TypeError(f"a resolver must pass Endpoint objects to update, not {wrong[0]!r}")
        self.post(Resolved(parse_endpoints(endpoints) if endpoints else ()))
