"""Hosts a client's core on virtual time, as `healthlb.control.driver` does on an event loop.

The one rule: it does what the driver does, in the same order: what waits together is handled together, then come open,
publish, close, report; and there is one timer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from functools import partial

from healthlb.core.attempts import Board as Published
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    CallFailed,
    CallsRefused,
    Challenge,
    CheckEnded,
    CloseConnection,
    CloseSubchannel,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Drain,
    Drained,
    Effect,
    Endpoint,
    Event,
    Fail,
    HealthReported,
    OpenSubchannel,
    PrepareData,
    Probe,
    ProbeEnded,
    Replace,
    Resolved,
    ResolveFailed,
    ResolveNow,
    SendCheck,
    StartWatch,
    StopWatch,
    Tick,
    WatchClosed,
)
from healthlb.core.overload import Admission
from healthlb.core.pickers import PickerFactory
from healthlb.core.publication import Publisher, in_order
from healthlb.core.snapshot import Snapshot
from healthlb.simulation.engine import Engine
from healthlb.simulation.seam import Surroundings
from healthlb.simulation.wire import Connection, Stream

_READY = ConnectivityState.READY
_IDLE = ConnectivityState.IDLE
_FAILURE = ConnectivityState.TRANSIENT_FAILURE


class Board:
    """Where snapshots are published.

    Attributes:
        snapshot: the present one.
    """

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


class Follower:
    """Follows one subchannel's control connection, as the driver's SubchannelWatcher.

    Args:
        host: whose it is.
        sub: its number.
        endpoint: where to connect.
    """

    __slots__ = ("_challenger", "_endpoint", "_host", "_sub", "_watch", "connection")

    def __init__(self, host: CoreHost, sub: int, endpoint: Endpoint) -> None:
        self._host = host
        self._sub = sub
        self._endpoint = endpoint
        self._watch: tuple[int, Stream | None] | None = None
        self._challenger: Connection | None = None
        self.connection = self._connect()

    def _connect(self) -> Connection:
        connection = self._host.around.connect(self._endpoint, self._changed)
        self.connection = connection
        connection.connect()
        return connection

    def _changed(self, connection: Connection) -> None:
        if connection is not self.connection:
            return
        state = connection.state
        if state is _READY:
            self._drop_challenger()
        reason = connection.failure if state is _FAILURE else ""
        self._host.post(ConnectivityChanged(self._sub, state, reason))
        if state is _IDLE:
            connection.connect()

    def close(self) -> None:
        """Stop the Watch and give up the connection."""
        self._forget_watch()
        self._drop_challenger()
        self.connection.release()

    def replace(self) -> None:
        """Go on with a fresh connection."""
        self.close()
        self._connect()

    def challenge(self) -> None:
        """Race a fresh connection against the present one, unless that is up by now; the last challenger gives way."""
        if self.connection.state is not _READY:
            self._drop_challenger()
            self._challenger = self._host.around.connect(self._endpoint, self._raced)
            self._challenger.connect()

    def _raced(self, challenger: Connection) -> None:
        if challenger is not self._challenger:
            return
        if challenger.state is _IDLE:
            challenger.connect()
        elif challenger.state is _READY:
            self._challenger = None
            self._forget_watch()
            old, self.connection = self.connection, challenger
            old.release()
            challenger.on_change = self._changed
            self._changed(challenger)

    def _drop_challenger(self) -> None:
        challenger, self._challenger = self._challenger, None
        if challenger is not None:
            challenger.release()

    # --- health --------------------------------------------------------------------------------------

    def start_watch(self, watch: int, service: str) -> None:
        """Open a Watch on the present connection; an older one ends."""
        self._forget_watch()
        self._host.around.watch_started()
        self._watch = (watch, None)
        stream = self.connection.watch(service, partial(self._said, watch), partial(self._ended, watch))
        if stream is not None:
            self._watch = (watch, stream)

    def stop_watch(self, watch: int) -> None:
        """Cancel a Watch if it is the present one."""
        if self._watch is not None and self._watch[0] == watch:
            self._forget_watch()

    def _forget_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch[1] is not None:
            watch[1].cancel()

    def _said(self, watch: int, status: int) -> None:
        self._host.post(HealthReported(self._sub, watch, status))

    def _ended(self, watch: int, code: Code, details: str) -> None:
        self._host.post(WatchClosed(self._sub, watch, code, details))

    def send_check(self, check: int, service: str) -> None:
        """Send a Check over the present connection; its time is the core's affair."""
        self.connection.check(service, lambda code, details: self._host.post(CheckEnded(self._sub, check, code)))


class CoreHost:
    """Hosts one core.

    Args:
        engine: virtual time.
        balancer: the core.
        factory: builds the pickers.
        around: the world.
        service: whose health is asked for.
        admission: the caps on calls, which the core shares.

    Attributes:
        board: where it publishes.
        is_closed: always False; a simulated client lives until the end.
    """

    def __init__(
        self,
        engine: Engine,
        balancer: Balancer,
        factory: PickerFactory,
        around: Surroundings,
        service: str | None,
        admission: Admission,
    ) -> None:
        self.around = around
        self.admission = admission
        self.board: Published = Board(balancer.snapshot)
        self.is_closed = False
        self._engine = engine
        self._balancer = balancer
        self._service = service or ""
        self._publisher = Publisher(factory, balancer.snapshot)
        self._queue: deque[Event] = deque()
        self._is_scheduled = False
        self._is_stalled = False
        self._is_tick_due = False
        self._timer_at: int | None = None
        self._followers: dict[int, Follower] = {}
        self._connections: dict[tuple[int, int], Connection] = {}
        self._last_generation = 0
        self._failures: dict[tuple[int, int, Code, bool], None] = {}
        self._refusals: dict[str, int] = {}

    def start(self) -> None:
        """Begin to resolve."""
        self.around.resolve(self._resolved)

    def _resolved(self, answer: tuple[Endpoint, ...] | str) -> None:
        self.post(ResolveFailed(answer) if isinstance(answer, str) else Resolved(answer))

    # --- events in -----------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Take in an event; it is handled with all that wait, at this very time."""
        self._queue.append(event)
        if not self._is_scheduled and not self._is_stalled:
            self._is_scheduled = True
            self._engine.after(0, self._drain)

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed attempt; equal ones that wait count once."""
        if not (self._failures or self._refusals):
            self._engine.after(0, self._take_failures)
        self._failures[sub.id, sub.generation, code, is_refused] = None

    def calls_refused(self, cap: str) -> None:
        """Tell the core of a call that a cap has kept out; those that wait are told of together."""
        if not (self._failures or self._refusals):
            self._engine.after(0, self._take_failures)
        self._refusals[cap] = self._refusals.get(cap, 0) + 1

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return how a call ends that this cap keeps out, and have that told."""
        self.calls_refused(cap)
        return Fail(Code.RESOURCE_EXHAUSTED, cap)

    def _take_failures(self) -> None:
        failures, self._failures = self._failures, {}
        refusals, self._refusals = self._refusals, {}
        for cap, calls in refusals.items():
            self.post(CallsRefused(cap, calls))
        for sub, generation, code, is_refused in failures:
            self.post(CallFailed(sub, generation, code, is_refused))

    def _tick(self, at: int) -> None:
        if at != self._timer_at:
            return
        self._timer_at = None
        if self._is_stalled:
            self._is_tick_due = True
        else:
            self.post(Tick())

    def stall(self) -> None:
        """Handle nothing for a while."""
        self._is_stalled = True

    def resume(self) -> None:
        """Handle what has come meanwhile. A timer that is due comes first, as on an event loop that wakes up."""
        self._is_stalled = False
        if self._is_tick_due:
            self._is_tick_due = False
            self._queue.appendleft(Tick())
        if self._queue and not self._is_scheduled:
            self._is_scheduled = True
            self._engine.after(0, self._drain)

    # --- effects out ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._is_scheduled = False
        if self._is_stalled:
            return
        effects: list[Effect] = []
        now = self._engine.now
        handle, queue = self._balancer.handle, self._queue
        while queue:
            effects += handle(queue.popleft(), now)
        opening, closing, facts = in_order(effects)
        for effect in opening:
            self._perform(effect)
        self._publish()
        for effect in closing:
            self._perform(effect)
        for fact in facts:
            self.around.reported(fact)
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self._balancer.deadline
        if deadline != self._timer_at:
            self._timer_at = deadline
            if deadline is not None:
                self._engine.at(deadline, self._tick, deadline)

    def _publish(self) -> None:
        publisher = self._publisher
        if publisher.publish(self._balancer.snapshot):
            if publisher.error is not None:
                raise publisher.error
            self.board.snapshot = publisher.published
            self.around.published(publisher.published)

    @property
    def builds(self) -> int:
        """How many pickers were built."""
        return self._publisher.builds

    def _perform(self, effect: Effect) -> None:
        match effect:
            case OpenSubchannel(sub, endpoint):
                self._followers[sub] = Follower(self, sub, endpoint)
            case CloseSubchannel(sub):
                self._followers.pop(sub).close()
            case CloseConnection(sub, generation):
                connection = self._connections.pop((sub, generation), None)
                if connection is not None:
                    connection.release()
            case Drain(handle):
                handle.load.retire(partial(self.post, Drained(handle.id, handle.generation)))
            case Probe(handle):
                handle.load.offer_probe(partial(self.post, ProbeEnded(handle.id, handle.generation)))
            case ResolveNow():
                self.around.resolve(self._resolved)
            case PrepareData(sub):
                self._prepare(sub)
            case Replace(sub):
                self._followers[sub].replace()
            case Challenge(sub):
                self._followers[sub].challenge()
            case StartWatch(sub, watch, service):
                self._followers[sub].start_watch(watch, service)
            case StopWatch(sub, watch):
                if sub in self._followers:
                    self._followers[sub].stop_watch(watch)
            case SendCheck(sub, check, _):
                self._followers[sub].send_check(check, self._service)
            case _:
                # RefreshData: calls use the control connection, as in the aio face; there is none beside it.
                self._prepare(effect.sub)  # type: ignore[union-attr]

    def _prepare(self, sub: int) -> None:
        connection = self._followers[sub].connection
        if connection.generation is None:
            self._last_generation += 1
            connection.generation = self._last_generation
            connection.hold()
            self._connections[sub, self._last_generation] = connection
        self.post(DataReady(sub, connection.generation))

    def connection(self, sub: Subchannel) -> Connection | None:
        """Return the connection of what was picked, None where it is closed already."""
        return self._connections.get((sub.id, sub.generation))

    def connections(self) -> Collection[Connection]:
        """Return the connections for calls that are not closed."""
        return self._connections.values()
