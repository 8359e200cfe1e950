"""Hosts a client's core on virtual time, as `healthlb.control.driver` does on an event loop.

The one rule: it does what the driver does, in the same order: what waits together is handled together, then come open,
publish, close, report; and there is one timer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from functools import partial

from healthlb.core.attempts import Board as Published
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    CallFailed,
    CallsRefused,
    Challenge,
    CloseConnection,
    CloseSubchannel,
    Code,
    DataReady,
    Drain,
    Drained,
    Effect,
    Endpoint,
    Event,
    Fail,
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
)
from healthlb.core.overload import Admission
from healthlb.core.pickers import PickerFactory
from healthlb.core.publication import Publisher, in_order
from healthlb.core.snapshot import Snapshot
from healthlb.simulation.engine import Engine
from healthlb.simulation.follower import Follower
from healthlb.simulation.seam import Surroundings
from healthlb.simulation.wire import Connection


class Board:
    """Where snapshots are published.

    Attributes:
        snapshot: the present one.
    """

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


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
        self._deferred: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._answers: deque[tuple[Endpoint, ...] | str] = deque()
        self._is_resolving = False
        self._timer = 0
        self._timer_at: int | None = None
        self._followers: dict[int, Follower] = {}
        self._connections: dict[tuple[int, int], Connection] = {}
        self._last_generation = 0
        self._failures: dict[tuple[int, int, Code, bool], None] = {}
        self._refusals: dict[str, int] = {}

    def start(self) -> None:
        """Begin to resolve."""
        self._resolve()

    def _resolved(self, answer: tuple[Endpoint, ...] | str) -> None:
        self._answers.append(answer)
        self.soon(self._hear)

    def _resolve(self) -> None:
        if self._is_resolving:
            self.around.resolve(self._resolved)
        else:
            self._is_resolving = True
            self.soon(self._run_resolver)

    def _run_resolver(self) -> None:
        if self._answers:
            self._answers = deque([self._answers[-1]])
            self._hear()
        else:
            self.around.resolve(self._resolved)

    def _hear(self) -> None:
        # A resolver of the library that fails has ended; what is true by then is heard when it is asked again.
        while self._answers and self._is_resolving:
            answer = self._answers.popleft()
            self._is_resolving = not isinstance(answer, str)
            self.post(ResolveFailed(answer) if isinstance(answer, str) else Resolved(answer))

    # --- events in -----------------------------------------------------------------------------------

    def soon(self, act: Callable[..., object], *arguments: object) -> None:
        """Have something done in the next turn, as by a task of the driver that was waiting for it."""
        if self._is_stalled:
            self._deferred.append((act, arguments))
        else:
            self._engine.after(0, act, *arguments)

    def post(self, event: Event) -> None:
        """Take in an event; it is handled with all that wait, at this very time."""
        self._queue.append(event)
        if not self._is_scheduled:
            self._is_scheduled = True
            self.soon(self._drain)

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed attempt; equal ones that wait count once."""
        if not (self._failures or self._refusals):
            self.soon(self._take_failures)
        self._failures[sub.id, sub.generation, code, is_refused] = None

    def calls_refused(self, cap: str) -> None:
        """Tell the core of a call that a cap has kept out; those that wait are told of together."""
        if not (self._failures or self._refusals):
            self.soon(self._take_failures)
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

    def _tick(self, timer: int) -> None:
        if timer != self._timer:
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
        """Handle what has come meanwhile, and a timer that is due after it, as an event loop does that wakes up."""
        self._is_stalled = False
        deferred, self._deferred = self._deferred, []
        for act, arguments in deferred:
            self._engine.after(0, act, *arguments)
        if self._is_tick_due:
            self._is_tick_due = False
            self._engine.after(0, self.post, Tick())

    # --- effects out ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        self._is_scheduled = False
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
            self._timer += 1
            if deadline is not None:
                self._engine.at(deadline, self._tick, self._timer)

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
                self._resolve()
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
