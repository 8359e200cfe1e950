"""Hosts a client's core on virtual time, as `healthlb.control.driver` does on an event loop.

It does what the driver does, in the same order. The steps are the base class's, for both; here is what an
iteration of the loop is on virtual time, and what a connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from healthlb.core.balancer import Balancer
from healthlb.core.call.overload import Admission
from healthlb.core.call.waiting import SnapshotSource
from healthlb.core.hosting import BalancerHost
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, DataReady, Endpoint, Fact, Fail, Resolved, ResolveFailed, Tick
from healthlb.core.pickers import PickerBuilder
from healthlb.core.publication import Publisher
from healthlb.core.snapshot import Snapshot
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.world.call import end_all, rescue
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.protocols import Surroundings
from healthlb.simulation.world.subchannel_watcher import SubchannelWatcher


class SnapshotHolder:
    """Where snapshots are published.

    Attributes:
        snapshot: the present one.
    """

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


class CoreHost(BalancerHost):
    """Hosts one core.

    Args:
        engine: virtual time.
        balancer: the core.
        factory: builds the pickers.
        around: the world.
        admission: the caps on calls, which the core shares.

    Attributes:
        holder: where it publishes.
        is_closed: always False; a simulated client lives until the end.
    """

    def __init__(
        self,
        engine: Engine,
        balancer: Balancer,
        factory: PickerBuilder,
        *,
        around: Surroundings,
        admission: Admission,
    ) -> None:
        super().__init__(balancer, Publisher(factory, balancer.snapshot))
        self.around = around
        self.admission = admission
        self.holder: SnapshotSource = SnapshotHolder(balancer.snapshot)
        self.is_closed = False
        self._engine = engine
        self._is_stalled = False
        self._is_tick_due = False
        self._deferred: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._answers: deque[tuple[Endpoint, ...] | str] = deque()
        self._is_resolving = False
        self._timer = 0
        self._connections: dict[tuple[int, int], Connection] = {}
        self._last_generation = 0

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
        """Have something done in the next iteration, as by a task of the driver that was waiting for it."""
        if self._is_stalled:
            self._deferred.append((act, arguments))
        else:
            self._engine.soon(act, arguments)

    _soon = soon

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed attempt; equal ones that wait count once."""
        if self._note_failure(sub.id, sub.generation, code, is_refused):
            self.soon(self._take_failures)

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return the status of a call that this cap refuses, and report the refusal to the core."""
        if self._note_refusal(cap):
            self.soon(self._take_failures)
        return Fail(Code.RESOURCE_EXHAUSTED, cap)

    def _set_timer(self, at: int | None, now: int) -> None:
        self._timer += 1
        if at is not None:
            self._engine.at(at, self._fire, self._timer)

    def _fire(self, timer: int) -> None:
        if timer == self._timer:
            self._is_tick_due = self._is_stalled
            if self._is_stalled:
                self._timer_at = None
            else:
                self._tick()

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
        self._handle_all(self._engine.now)

    def _published(self) -> None:
        if self._publisher.error is not None:
            raise self._publisher.error
        self.holder.snapshot = self._publisher.published
        self.around.published(self._publisher.published)

    @property
    def builds(self) -> int:
        """How many pickers were built."""
        return self._publisher.builds

    def _report(self, fact: Fact) -> None:
        self.around.reported(fact)

    def _watch(self, sub: int, endpoint: Endpoint) -> SubchannelWatcher:
        return SubchannelWatcher(self.around, self.soon, self.post, sub=sub, endpoint=endpoint)

    def _close_data(self, sub: int, generation: int) -> None:
        connection = self._connections.pop((sub, generation), None)
        if connection is not None:
            connection.release()

    def _prepare_data(self, sub: int) -> None:
        # Calls use the control connection, as in the aio face; there is none beside it.
        connection: Connection = self._watchers[sub].connection
        if connection.generation is None:
            self._last_generation += 1
            connection.generation = self._last_generation
            connection.hold()
            self._connections[sub, self._last_generation] = connection
        self.post(DataReady(sub, connection.generation))

    def _rescue(self, handle: Subchannel) -> None:
        connection = self._connections.get((handle.id, handle.generation))
        if connection is not None:
            self._rescued(handle.id, rescue(connection.attempts()))

    def _end_calls(self, handle: Subchannel, details: str) -> None:
        connection = self._connections.get((handle.id, handle.generation))
        if connection is not None:
            end_all(connection.attempts())

    def connection(self, sub: Subchannel) -> Connection | None:
        """Return the connection of what was picked, None where it is closed already."""
        return self._connections.get((sub.id, sub.generation))

    def connections(self) -> Collection[Connection]:
        """Return the connections for calls that are not closed."""
        return self._connections.values()
