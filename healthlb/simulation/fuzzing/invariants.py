"""What must hold in every world, whatever befalls it, as oracles that do not know how the core works.

    U1  every call that was begun is over or under way, and none is under way long after its deadline
    U2  every call ends once, and nothing is sent for it afterwards
    U3  a subchannel counts as many calls in flight as there are attempts under way on it
    U4  a success is counted for the subchannel whose server gave the answer, and for no other
    U5  no pick goes where a client must know by now that it cannot be answered, or is not wanted
    U6  READY means that the present connection has said SERVING, or needs to say nothing
    U7  no call reaches more servers than it may, and no channel makes more attempts than its budget pays for
    U8  no more are ejected than the cap allows, and never the last healthy one
    U9  Little's law: calls under way, summed over time, are the time that calls took, summed over calls
    U10 once TRANSIENT_FAILURE, a subchannel stays so until READY
    U11 Watches that fail are opened again after a backoff that grows, and begins anew with a word
    U12 once all is well, all is READY again
    U13 panic is where fewer are healthy than the threshold says, and nowhere else
    U14 a rotation goes on where it was, whatever is published meanwhile
    U15 another attempt goes where the call has not been, while there is such a place
    U16 no cap on calls under way is ever exceeded

The one rule: an oracle looks at faults, the wire, servers and calls; of the core it takes only what that publishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from healthlb.core.facts import Ejection, Fact, HeartbeatLoss, StateChange
from healthlb.core.snapshot import Snapshot
from healthlb.core.states import Code, ConnectivityState
from healthlb.simulation.fuzzing.endings import EndOracle
from healthlb.simulation.fuzzing.picks import PickOracle
from healthlb.simulation.fuzzing.scene import Scene
from healthlb.simulation.fuzzing.snapshots import SnapshotOracle
from healthlb.simulation.fuzzing.truth import Truth
from healthlb.simulation.fuzzing.words import HeardConnection, LinkWords
from healthlb.simulation.scenario import MILLISECOND, SECOND
from healthlb.simulation.trace import CALLS, Trace

if TYPE_CHECKING:
    from healthlb.simulation.call import Attempt
    from healthlb.simulation.client import Client
    from healthlb.simulation.record import RunRecord
    from healthlb.simulation.server import Server
    from healthlb.simulation.world import World

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_EVERY = 100 * MILLISECOND
_STABLE = 10 * SECOND
_MOMENT = 50 * MILLISECOND


class Inspector(Trace):
    """Watches one world from outside, and raises `Violation` where something does not hold."""

    def __init__(self) -> None:
        super().__init__(CALLS)
        self.scene = Scene()

    def follow(self, world: World, truth: Truth) -> None:
        """Begin."""
        self.scene.set_up(world, truth)
        self._picks = PickOracle(self.scene)
        self._snapshots = SnapshotOracle(self.scene)
        world.engine.after(_EVERY, self._look)

    # --- what is heard -------------------------------------------------------------------------------

    def watch_again(self, connection: HeardConnection, words: LinkWords, now: int) -> None:
        """A Watch is opened on a link that has had one."""
        scene = self.scene
        health = scene.world.policy.health
        backoff = health.backoff
        if words.is_open and words.has_said:
            scene.fail("U11", f"{_name(connection)} opens a second Watch beside one that speaks")
        ended_at = words.started_at + health.first_response_timeout_ns if words.is_open else words.ended_at
        if not words.has_said:
            delay = min(backoff.maximum_ns, backoff.initial_ns * backoff.multiplier**words.silent_ends)
            words.silent_ends += 1
        elif ended_at - words.started_at >= _STABLE:
            words.quick_ends = 0
            return
        else:
            floor = min(health.min_restart_interval, backoff.maximum) * SECOND
            delay = min(backoff.maximum_ns, floor * backoff.multiplier**words.quick_ends)
            words.quick_ends += 1
        waited = now - ended_at
        if waited < delay * (1 - backoff.jitter) - 2:
            scene.fail("U11", f"{_name(connection)} watches again after {waited} ns, not {delay:.0f} less jitter")
        # What comes while the client stands still, it hears later; and then its timers wait for a moment.
        is_late = scene.truth.resumed_at(connection.client.id) + _MOMENT >= words.started_at
        if not is_late and waited > delay * (1 + backoff.jitter) + 2:
            scene.fail("U11", f"{_name(connection)} watches again after {waited} ns, not {delay:.0f} plus jitter")

    def reported(self, client: Client, fact: Fact) -> None:
        """A client's core reports."""
        match fact:
            case StateChange(old=old, new=new, address=address):
                if old is _FAILURE and new is _CONNECTING:
                    self.scene.fail("U10", f"{client.id} takes {address} from TRANSIENT_FAILURE to CONNECTING")
                if new is _READY:
                    self._snapshots.check_ready(client, address)
            case Ejection(address=address, is_enforced=True):
                self.scene.ejected_at[client.id, address] = fact.at
            case HeartbeatLoss(address=address, is_excluded=False):
                self.scene.kept_at[client.id, address] = fact.at

    def fault(self, now: int, what: str) -> None:
        """Something goes wrong, or is mended."""

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        self._snapshots.published(client, snapshot)

    # --- calls -----------------------------------------------------------------------------------------

    def began(self, client: Client) -> None:
        """A call begins."""
        self.scene.books.began(client.id)

    def picked(self, now: int, client: Client, attempt: Attempt, server: Server) -> None:
        """An attempt is sent."""
        if (client.id, attempt.number) in self.scene.books.over:
            self.scene.fail("U2", f"{client.id} sends attempt {attempt.start.attempt} of a call that is over")
        if attempt.sub.address != server.name:
            self.scene.fail("U4", f"a pick of {attempt.sub.address} goes to {server.name}")
        self._picks.picked(now, client, attempt, server)
        self.scene.books.sent(attempt)
        self._check_caps(client, attempt)

    def _check_caps(self, client: Client, attempt: Attempt) -> None:
        overload = self.scene.world.policy.overload
        if overload is None:
            return
        each, most = overload.max_in_flight_per_subchannel, overload.max_in_flight
        if each is None and most is None:
            return
        counts = self.scene.books.in_flight(client.id)
        if each is not None and counts[attempt.sub] > each:
            self.scene.fail(
                "U16", f"{client.id} has {counts[attempt.sub]} attempts on {attempt.sub.address}, not {each}"
            )
        if most is not None and sum(counts.values()) > most:
            self.scene.fail("U16", f"{client.id} has {sum(counts.values())} attempts under way, not {most}")

    def ended(self, now: int, client: Client, number: int, code: Code) -> None:
        """A call is over."""
        books = self.scene.books
        if not books.end(client.id, number):
            self.scene.fail("U2", f"call {number} of {client.id} ends twice")
        if code is not Code.OK:
            self._picks.interrupt(client)
        elif not books.answered.pop((client.id, number), False):
            self.scene.fail("U4", f"call {number} of {client.id} ends with OK, and no server has answered it")

    # --- now and then, and at the end --------------------------------------------------------------------

    def _look(self) -> None:
        engine = self.scene.world.engine
        self._check_counters()
        for client in self.scene.world.clients:
            for view in client.pool.board.snapshot.views:
                if view.state is _READY:
                    self.scene.seen_ready[client.id, view.endpoint.address] = engine.now
        engine.after(_EVERY, self._look)

    def _check_counters(self) -> None:
        books = self.scene.books
        for attempt in books.stragglers():
            self.scene.fail("U2", f"attempt {attempt.start.attempt} of call {attempt.number} outlives its call")
        for sub, count in books.in_flight().items():
            if sub.load.in_flight != count:
                self.scene.fail("U3", f"{sub!r} has {count} attempts under way")
            if sub.load.successes != books.successes[sub]:
                given = books.successes[sub]
                self.scene.fail("U4", f"{sub!r} counts {sub.load.successes} successes, and has had {given} answers")

    def finish(self, record: RunRecord) -> None:
        """Check what must hold of the whole run."""
        self._check_counters()
        EndOracle(self.scene).finish(record)


def _name(connection: HeardConnection) -> str:
    return f"{connection.client.id} to {connection.path.server.name}"
