"""A simulated client: it makes calls through the core's pickers, and keeps the books of each.

Who hosts the core is behind a protocol (`Host`). Calls and servers know snapshots only; so the same world runs
under the simulator's own host and under the library's driver on an event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from heapq import heappush

from healthlb.core.call.budget import NoBudget, make_budget
from healthlb.core.call.call_attempts import FIRST, FailureClassifier, any_call, call_end_hook
from healthlb.core.call.failover import Start
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, ConnectivityState
from healthlb.core.pickers import CallEnd, PickerBuilder, flag
from healthlb.simulation.engine.deadlines import Deadlines
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.engine.stations import NEVER, NEW
from healthlb.simulation.scenario.scenario import ClientGroup, Policy
from healthlb.simulation.world.call import Call, method_policy
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.link import Attempt
from healthlb.simulation.world.protocols import Host, Observer
from healthlb.simulation.world.run_counts import RunCounts
from healthlb.simulation.world.work import Works

METHOD = "/simulation.Service/Call"
_OK = Code.OK
_LATE = Code.DEADLINE_EXCEEDED
_new = Attempt.__new__


class Client:
    """One client.

    Args:
        engine: virtual time.
        id: c0, c1 and so on.
        number: among all clients.
        group: its settings.
        policy: what its channel is given.
        factory: builds its pickers.
        retry_jitter: the stream for the backoff between attempts.
        work_again: draws the work of a later attempt of a call; None where each is as much as the first.
        tally: counts what happens.
        trace: takes picks and completions, or None.

    Attributes:
        subchannels: the host of the core, which has the subchannels.
        name: of the one method that it calls.
        open_calls: that are more than one good attempt so far.
        waiting: those of them for which there is no subchannel at present.
        is_stalled: whether its event loop stands still.
        called: how many calls it has begun.
    """

    def __init__(
        self,
        engine: Engine,
        id: str,
        number: int,
        *,
        group: ClientGroup,
        policy: Policy,
        factory: PickerBuilder,
        retry_jitter: random.Random,
        work_again: Callable[[], Works] | None,
        tally: RunCounts,
        trace: Observer | None,
    ) -> None:
        self.engine = engine
        self.id = id
        self.name = METHOD
        self.number = number
        self.group = group
        self.subchannels: Host
        self.tally = tally
        self.factory = factory
        self.retry_jitter = retry_jitter
        self._work_again = work_again
        self.policy = method_policy(policy.failover, group)
        self.budget = make_budget(policy.failover.budget if policy.failover is not None else None)
        self.classifier = FailureClassifier(policy.outliers)
        self.end_hook = call_end_hook(factory)
        self.needs_call = flag(factory, "needs_call")
        self.is_hedged = self.policy.call.is_hedged
        self._any_call = any_call(self.policy.call)
        self.open_calls: dict[Call, None] = {}
        self.waiting: dict[Call, None] = {}
        self.is_stalled = False
        self._stalls = 0
        self.called = 0
        self.on_user: Callable[[int, int, Code], object] = lambda user, arrived_at, code: None
        self._hedging_delay = self.policy.call.hedging_delay or -1
        caps = policy.overload
        is_capped = caps is not None and not caps.max_in_flight is caps.max_in_flight_per_subchannel is None
        # Whether a call is its first attempt and nothing else, until that fails or a hedge is due.
        self._is_plain = not (self.needs_call or (self.is_hedged and (is_capped or self._hedging_delay < 0)))
        self._attempt_limit = self.policy.call.attempt_timeout
        self._deadline = group.deadline or 0
        self._trace = trace
        self._connections: dict[Subchannel, Connection] = {}
        self._deferred: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._pays = not isinstance(self.budget, NoBudget)
        # Of calls that are one attempt so far, of others, and of attempts by themselves.
        self._deadlines = Deadlines(engine, partial(self.awake, self.time_out))
        self._call_deadlines = Deadlines(engine, self._expire)
        self._timeouts = Deadlines(engine, partial(self.awake, self.time_out))
        self._hedges: Deadlines[Attempt | Call] = Deadlines(engine, self._hedge)

    # --- calls ---------------------------------------------------------------------------------------

    def call(self, works: Works, user: int | None = None, arrived_at: int | None = None) -> None:
        """Make a call.

        Args:
            works: what it asks of a server, by the law of work.
            user: who is told through `on_user` when it is over.
            arrived_at: when it was made, if not now.
        """
        engine = self.engine
        now = engine.now
        arrived_at = now if arrived_at is None else arrived_at
        self.called = number = self.called + 1
        tally = self.tally
        tally.arrivals[tally.bin] += 1
        if self._pays:
            self.budget.call_started(now)
        length = self._deadline
        if self._is_plain:
            sub = self.subchannels.holder.snapshot.picker.pick(self._any_call)
            if sub is not None and sub.load.start():
                attempt = _new(Attempt)
                attempt.number = number
                attempt.works = works
                attempt.user = user
                attempt.arrived_at = arrived_at
                attempt.deadline = arrived_at + length if length else 0
                attempt.call = None
                if self.is_hedged:
                    self._hedges.add(attempt, now + self._hedging_delay)
                if length:
                    deadlines = self._deadlines
                    deadlines.live[attempt] = attempt.deadline
                    if not deadlines.is_armed:
                        deadlines.arm(attempt.deadline)
                self._launch(attempt, FIRST, sub, now)
                return
        call = Call(self, number, arrived_at, arrived_at + length if length else 0, works, user)
        if length:
            self._call_deadlines.add(call, call.deadline)
        call.launch(FIRST, has_picked=self._is_plain and self.is_hedged)

    def send(self, call: Call, start: Start, sub: Subchannel) -> None:
        """Send an attempt of a call to what was picked and counted in."""
        attempt = _new(Attempt)
        attempt.number = call.number
        # An attempt that never left (gRFC A6) has drawn nothing.
        is_first = start.previous == 0 or self._work_again is None
        attempt.works = call.works if is_first else self._work_again()  # type: ignore[misc]
        attempt.user = call.user
        attempt.arrived_at = call.arrived_at
        attempt.deadline = call.deadline
        attempt.call = call
        call.live[start.attempt] = attempt
        if start.attempt > 1:
            self.tally.again += 1
        self._launch(attempt, start, sub, self.engine.now)

    def _launch(self, attempt: Attempt, start: Start, sub: Subchannel, now: int) -> None:
        connection = self._connections.get(sub) or self._find(sub)
        attempt.client = self
        attempt.start = start
        attempt.sub = sub
        attempt.started_at = now
        attempt.is_over = attempt.is_abandoned = False
        attempt.state = NEW
        attempt.due = NEVER
        attempt.spent = 0
        attempt.link = None
        if connection is None or connection.is_closed:
            self._lose(attempt, now)
            return
        attempt.connection = connection
        path = connection.path
        server = connection.server
        attempt.work = attempt.works[server.law]
        attempt.finish = server.finish
        server.picks[self.tally.bin] += 1
        if self._trace is not None:
            self._trace.picked(now, self, attempt, server)
        limit = self._attempt_limit
        if limit is not None and (not attempt.deadline or now + limit < attempt.deadline):
            self._timeouts.add(attempt, now + limit)
        link = attempt.link = connection.link
        if link is not None and link.limit is None and path.is_plain:
            link.attempts[attempt] = None
            engine = self.engine
            engine.sequence = sequence = engine.sequence + 1
            heappush(engine.heap, (now + path.delay, sequence, server.arrive, (attempt,)))
        else:
            self._launch_with_care(attempt, connection)

    def _launch_with_care(self, attempt: Attempt, connection: Connection) -> None:
        if connection.link is not None:
            connection.link.send(attempt)
        elif connection.state is ConnectivityState.TRANSIENT_FAILURE:
            self.engine.after(0, self.attempt_refused, attempt)
        else:
            # As a call in grpcio, that waits while its channel connects, and has it connect.
            connection.queue[attempt] = None
            connection.connect()

    def _find(self, sub: Subchannel) -> Connection | None:
        connection = self.subchannels.connection(sub)
        if connection is not None:
            ready = set(self.subchannels.holder.snapshot.ready)
            self._connections = {old: kept for old, kept in self._connections.items() if old in ready}
            self._connections[sub] = connection
        return connection

    def _lose(self, attempt: Attempt, now: int) -> None:
        """The connection was closed between pick and call: that is not the call's affair."""
        attempt.is_over = True
        self._deadlines.live.pop(attempt, None)
        attempt.sub.load.abandon()
        call = attempt.call or self.make_call(attempt)
        del call.live[attempt.start.attempt]
        call.perform(call.lost(attempt.start, attempt.sub, now), Code.UNAVAILABLE)

    # --- ends ----------------------------------------------------------------------------------------

    def replied(self, attempt: Attempt, code: Code) -> None:
        """A reply has arrived."""
        if attempt.is_over:
            return
        if self.is_stalled:
            self._deferred.append((self.replied, (attempt, code)))
            return
        now = self.engine.now
        attempt.is_over = True
        link = attempt.link
        if link.limit is None and not link.is_draining:  # type: ignore[union-attr]
            link.attempts.pop(attempt, None)  # type: ignore[union-attr]
        else:
            link.leave(attempt)  # type: ignore[union-attr]
        if attempt.deadline:
            self._deadlines.live.pop(attempt, None)
        if self._attempt_limit is not None:
            self._timeouts.live.pop(attempt, None)
        if code is not _OK:
            self._failed(attempt, code, now)
            return
        if self.end_hook.of_all:
            self._tell(attempt, code, now)
        if attempt.call is not None:
            attempt.call.attempt_ended(attempt, now)
            return
        if self.is_hedged:
            self._hedges.live.pop(attempt, None)
        attempt.sub.load.succeed(now)
        if self.budget.counts_successes:
            self.budget.call_succeeded()
        if self._trace is not None:
            self._trace.ended(now, self, attempt.number, code)
        self.tally.succeeded(attempt.arrived_at, now)
        if attempt.user is not None:
            self.on_user(attempt.user, attempt.arrived_at, code)

    def _failed(self, attempt: Attempt, code: Code, now: int, is_refused: bool = False, is_lost: bool = False) -> None:
        call = attempt.call or self.make_call(attempt)
        if self.end_hook.of_failures:
            self._tell(attempt, Code.CANCELLED if call.is_cancelled else code, now)
        call.failed(attempt, code, now, is_refused=is_refused, is_lost=is_lost)
        self.tally.attempt_failed(self.budget, now)

    def make_call(self, attempt: Attempt) -> Call:
        """Return the call of an attempt that is all there was of it so far."""
        call = Call(self, attempt.number, attempt.arrived_at, attempt.deadline, attempt.works, attempt.user)
        call.live[attempt.start.attempt] = attempt
        attempt.call = call
        # What is due of the attempt alone is forgotten; and what is due of the call is not in the order of others.
        if attempt.deadline:
            self._deadlines.live.pop(attempt, None)
            self.engine.at(attempt.deadline, self._expire, call)
        if self.is_hedged:
            at = call.was_alone(attempt)
            if self._hedges.live.pop(attempt, None) is not None or at > self.engine.now:
                self.engine.at(at, self.awake, call.wake, at)
        return call

    def _tell(self, attempt: Attempt, code: Code, now: int) -> None:
        report = attempt.connection.server.report() if self.end_hook.needs_reports and code is _OK else None
        self.end_hook.hear(attempt.sub, CallEnd(code, now, (now - attempt.started_at) / SECOND, report))

    def call_over(self, call: Call, code: Code) -> None:
        """A call has ended that was more than one good attempt."""
        now = self.engine.now
        del self.open_calls[call]
        self._call_deadlines.live.pop(call, None)
        self._hedges.live.pop(call, None)
        self.waiting.pop(call, None)
        if self._trace is not None:
            self._trace.ended(now, self, call.number, code)
        if code is _OK:
            self.tally.succeeded(call.arrived_at, now)
        else:
            self.tally.failed(call.arrived_at, code)
        if call.user is not None:
            self.on_user(call.user, call.arrived_at, code)

    def _end(self, attempt: Attempt) -> bool:
        """End an attempt at the client, and count it no more; False where it has ended already."""
        if attempt.is_over:
            return False
        attempt.is_over = True
        self._deadlines.live.pop(attempt, None)
        self._timeouts.live.pop(attempt, None)
        if attempt.link is not None:
            attempt.link.cancel(attempt)
        else:
            attempt.connection.queue.pop(attempt, None)
        return True

    def attempt_lost(self, attempt: Attempt) -> None:
        """The link that an attempt was on is gone."""
        self.awake(self._break_off, attempt, Code.UNAVAILABLE, False, True)

    def attempt_refused(self, attempt: Attempt) -> None:
        """The connection that an attempt was to go on is down: it never left."""
        self.awake(self._break_off, attempt, Code.UNAVAILABLE, True)

    def attempt_closed(self, attempt: Attempt) -> None:
        """The connection of an attempt was closed from this end: its call is cancelled, as grpcio has it."""
        self.awake(self._break_off, attempt, Code.CANCELLED)

    def time_out(self, attempt: Attempt) -> None:
        """An attempt has had all of its time."""
        self._break_off(attempt, _LATE)

    def _break_off(self, attempt: Attempt, code: Code, is_refused: bool = False, is_lost: bool = False) -> None:
        if self._end(attempt):
            if code is Code.CANCELLED:
                (attempt.call or self.make_call(attempt)).is_cancelled = True
            self._failed(attempt, code, self.engine.now, is_refused=is_refused, is_lost=is_lost)

    def abandon(self, attempt: Attempt) -> None:
        """Give an attempt up: another one has won."""
        if self._end(attempt):
            attempt.sub.load.abandon()
            if self.end_hook.of_all:
                self._tell(attempt, Code.CANCELLED, self.engine.now)

    # --- timers --------------------------------------------------------------------------------------

    def awake(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something now, or once the event loop goes on."""
        if self.is_stalled:
            self._deferred.append((act, arguments))
        else:
            act(*arguments)

    def _expire(self, call: Call) -> None:
        self.awake(call.expire)

    def wake_at(self, call: Call, at: int) -> None:
        """Set the timer of a call's plan; one that was set before means nothing any more."""
        self._hedges.live.pop(call, None)
        if at == self.engine.now + self._hedging_delay:
            self._hedges.add(call, at)
        else:
            self.engine.at(at, self.awake, call.wake, at)

    def _hedge(self, one: Attempt | Call) -> None:
        call = one if isinstance(one, Call) else self.make_call(one)
        self.awake(call.wake, self.engine.now)

    # --- the host's word -----------------------------------------------------------------------------

    def published(self) -> None:
        """There is a new snapshot: calls that wait look at it, in the order they came."""
        if self.waiting:
            waiting, self.waiting = self.waiting, {}
            for call in waiting:
                if call.waiting is not None:
                    call.advance(call.waiting)

    # --- stalls --------------------------------------------------------------------------------------

    def stall(self) -> None:
        """The event loop stands still: what comes waits, and nothing is sent."""
        self._stalls += 1
        if self._stalls == 1:
            self.is_stalled = True
            self.subchannels.stall()

    def resume(self) -> None:
        """It goes on, unless another fault keeps it, with what has come meanwhile, in its order."""
        self._stalls -= 1
        if self._stalls:
            return
        self.is_stalled = False
        deferred, self._deferred = self._deferred, []
        for act, arguments in deferred:
            act(*arguments)
        self.subchannels.resume()

    def defer(self, act: Callable[..., object], *arguments: object) -> None:
        """Have something done once the event loop goes on."""
        self._deferred.append((act, arguments))

    def __repr__(self) -> str:
        return f"<Client {self.id}, {len(self.open_calls)} calls open>"
