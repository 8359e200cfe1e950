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
    U17 a budget pays for as many attempts as its rules say, and for no fewer
    U18 hedges come on time, other attempts after their backoff, and only after what is worth another one
    U19 an ejection lasts the longer the more there were of late, and less long again with time
    U20 it takes `fall` words to take a server for ill, and `rise` to take it for well
    U21 a Watch that says nothing is given up after its time
    U22 of two servers the less busy one is picked where the picker looks at two
    U23 a client has no more endpoints than its subset allows
    U24 an ejected server gets one call, and no other before that is answered or very late
    U25 a heartbeat is lost where no answer of any kind came in its time
    U26 nobody is taken out for silence who has answered a call in that time

An oracle looks at faults, the wire, servers and calls; of the core it takes only what that publishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from healthlb.core.facts import Ejection, Fact, HeartbeatLoss, Return, StateChange
from healthlb.core.snapshot import Snapshot
from healthlb.core.states import Code, ConnectivityState
from healthlb.simulation.fuzzing.attempt_timing import AttemptOracle
from healthlb.simulation.fuzzing.budgets import BudgetOracle
from healthlb.simulation.fuzzing.ejections import EjectionOracle, SilenceOracle
from healthlb.simulation.fuzzing.endings import EndOracle
from healthlb.simulation.fuzzing.ground_truth import GroundTruth
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.fuzzing.picks import PickOracle
from healthlb.simulation.fuzzing.snapshots import SnapshotOracle
from healthlb.simulation.fuzzing.wire_log import SERVING, HeardConnection, LinkWords
from healthlb.simulation.scenario.scenario import MILLISECOND, SECOND
from healthlb.simulation.world.trace import CALLS, Trace

if TYPE_CHECKING:
    from healthlb.core.load import Subchannel
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt, ServerPort
    from healthlb.simulation.world.record import RunRecord
    from healthlb.simulation.world.world import World

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_EVERY = 100 * MILLISECOND
_STABLE = 10 * SECOND
_MOMENT = 50 * MILLISECOND
_LEAST_WAIT = 400 * MILLISECOND  # for a ping, as for a Check beside it
_ILL = ("NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN")


class Inspector(Trace):
    """Watches one world from outside, and raises `Violation` where something does not hold."""

    def __init__(self) -> None:
        super().__init__(CALLS)
        self.context = OracleContext()

    def follow(self, world: World, truth: GroundTruth) -> None:
        """Begin."""
        self.context.set_up(world, truth)
        self._picks = PickOracle(self.context)
        self._snapshots = SnapshotOracle(self.context)
        self._attempts = AttemptOracle(self.context)
        self._ejections = EjectionOracle(self.context)
        self.silences = SilenceOracle(self.context)
        self._probes: dict[Subchannel, list[Attempt]] = {}
        for client in world.clients:
            BudgetOracle(self.context, client)
            self._attempts.follow(client)
        world.engine.after(_EVERY, self._look)

    # --- what is heard -------------------------------------------------------------------------------

    def watch_again(self, connection: HeardConnection, words: LinkWords, now: int) -> None:
        """A Watch is opened on a link that has had one."""
        context = self.context
        health = context.world.policy.health
        backoff = health.backoff
        if words.is_open and words.has_said:
            context.fail("U11", f"{_name(connection)} opens a second Watch beside one that speaks")
        ended_at = self._ended_at(connection, words)
        stands = (False, False) if words.is_open else context.stands(connection.client, words, ended_at)
        may_stand, must_stand = stands
        if not words.has_said and not may_stand:
            delay = min(backoff.maximum_ns, backoff.initial_ns * backoff.multiplier**words.silent_ends)
            words.silent_ends += 1
        elif words.has_said and ended_at - words.started_at >= _STABLE:
            words.quick_ends = 0
            return
        else:
            floor = min(health.min_restart_interval, backoff.maximum) * SECOND
            delay = min(backoff.maximum_ns, floor * backoff.multiplier**words.quick_ends)
            words.quick_ends += 1
        least, most = delay * (1 - backoff.jitter), delay * (1 + backoff.jitter)
        if may_stand:
            least, most = self._soon(words, least, most, is_sure=must_stand)
        self._check_wait(connection, now - ended_at, least, most)

    def _ended_at(self, connection: HeardConnection, words: LinkWords) -> int:
        """Return when the last Watch ended, or was given up where it has not."""
        if not words.is_open:
            return words.ended_at
        given_up_at = words.started_at + self.context.world.policy.health.first_response_timeout_ns
        stands_until = self.context.stands_until(connection.client, words.stands_since, at_least=True)
        # One that began while a SERVING stood has only as long as that does; one that began later has all its time,
        # save after a stall: then it may begin too late, and be given up at once.
        if stands_until > words.started_at or (stands_until and self._is_late(connection, words)):
            return min(given_up_at, max(stands_until, words.started_at))
        return given_up_at

    def _soon(self, words: LinkWords, least: float, most: float, *, is_sure: bool) -> tuple[float, float]:
        """Return the least and the most that is waited while a SERVING stands: what comes next must have time left."""
        health = self.context.world.policy.health
        longest = max(self.context.renewal // 2, health.min_restart_interval_ns)
        lasted = words.ended_at - words.started_at if words.has_said else 0
        spread = most + min(SECOND / 2, health.backoff.jitter * lasted / 4)
        return min(least, longest), min(spread, longest) if is_sure else max(most, min(spread, longest))

    def _is_late(self, connection: HeardConnection, words: LinkWords) -> bool:
        """Whether a client has stood still: what comes then it hears later, and then its timers wait for a moment."""
        return self.context.truth.resumed_at(connection.client.id) + _MOMENT >= words.started_at

    def _check_wait(self, connection: HeardConnection, waited: int, least: float, most: float) -> None:
        """A Watch begins so long after the one before ended."""
        context, words = self.context, connection.words
        assert words is not None
        if waited < least - 2:
            context.fail("U11", f"{_name(connection)} watches again after {waited} ns, not {least:.0f} at least")
        if waited > most + 2 and not self._is_late(connection, words):
            context.fail("U11", f"{_name(connection)} watches again after {waited} ns, not {most:.0f} at most")

    def reported(self, client: Client, fact: Fact) -> None:
        """A client's core reports."""
        match fact:
            case StateChange(old=old, new=new, address=address, changes=changes):
                if old is _FAILURE and new is _CONNECTING and changes == 1:
                    self.context.fail("U10", f"{client.id} takes {address} from TRANSIENT_FAILURE to CONNECTING")
                if new is _READY:
                    self._snapshots.check_ready(client, address)
                self._check_row(client, fact)
                if old is _READY and changes == 1 and fact.reason == "no heartbeat":
                    self.silences.excluded(client, fact)
            case Ejection(address=address, is_enforced=True):
                self.context.ejected_at[client.id, address] = fact.at
                self._ejections.ejected(client, fact)
                self.silences.ejected(client, fact)
            case Return():
                self._ejections.returned(client, fact)
            case HeartbeatLoss(address=address, is_excluded=is_excluded):
                if not is_excluded:
                    self.context.kept_at[client.id, address] = fact.at
                self._check_loss(client, fact)

    def _check_loss(self, client: Client, fact: HeartbeatLoss) -> None:
        heartbeat = self.context.world.policy.health.heartbeat
        asked = [one for one in self.context.links(client, fact.address) if one.asked_at >= 0]
        if heartbeat is None or len(asked) != 1 or self.context.is_disturbed(client):
            return
        connection = asked[0]
        if 0 <= connection.answered_at < fact.at:
            self.context.fail("U25", f"{_name(connection)} misses an answer that came at {connection.answered_at}")
        words = connection.heard
        has_pong = connection.pinged_at >= connection.asked_at and 0 <= connection.ponged_at < fact.at
        if has_pong and words is not None and words.is_open and words.has_said:
            self.context.fail("U25", f"{_name(connection)} is busy, and answered a ping at {connection.ponged_at}")
        least = min(_LEAST_WAIT, heartbeat.timeout_ns) if heartbeat.ping else heartbeat.timeout_ns
        if fact.at - connection.asked_at < least - 2:
            self.context.fail("U25", f"{_name(connection)} waits {fact.at - connection.asked_at} ns for an answer")

    def _check_row(self, client: Client, fact: StateChange) -> None:
        """A single word changes a client's mind only after it has stood for as long as a row of them takes."""
        context = self.context
        links = [one for one in context.links(client, fact.address) if one.heard is not None]
        if len(links) != 1 or context.is_disturbed(client) or (words := links[0].heard) is None or words.row != 1:
            return
        stands = fact.at - words.row_at
        is_fall = fact.old is _READY and fact.reason in _ILL and words.status != SERVING
        is_rise = fact.new is _READY and fact.reason == "SERVING" and words.status == SERVING
        # The first word on a connection counts at once; and only a row that was long enough has made up the mind.
        if words.stood <= max(context.rising, context.falling) + _MOMENT:
            return
        needed = context.falling if is_fall else context.rising if is_rise else 0
        if stands < needed - 2:
            context.fail("U20", f"{client.id} takes {fact.address} for {fact.new.name} after {stands} ns, not {needed}")

    def fault(self, now: int, what: str) -> None:
        """Something goes wrong, or is mended."""

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        self._snapshots.published(client, snapshot)

    # --- calls -----------------------------------------------------------------------------------------

    def began(self, client: Client, arrived_at: int) -> None:
        """A call begins that arrived then; it may have waited for the client's thread."""
        self.context.ledger.began(client.id, arrived_at)
        self._attempts.began(client, client.called + 1, arrived_at)

    def picked(self, now: int, client: Client, attempt: Attempt, server: ServerPort) -> None:
        """An attempt is sent."""
        if (client.id, attempt.number) in self.context.ledger.over:
            self.context.fail("U2", f"{client.id} sends attempt {attempt.start.attempt} of a call that is over")
        if attempt.sub.address != server.name:
            self.context.fail("U4", f"a pick of {attempt.sub.address} goes to {server.name}")
        self._picks.picked(now, client, attempt, self.context.world.server(server.name))
        self._check_probe(client, attempt)
        self._attempts.sent(client, attempt)
        self.context.ledger.sent(attempt)
        self._check_caps(client, attempt)

    def _check_probe(self, client: Client, attempt: Attempt) -> None:
        snapshot, sub = client.subchannels.holder.snapshot, attempt.sub
        if sub not in snapshot.probes or sub in snapshot.ready:
            return
        before = [one for one in self._probes.get(sub, ()) if not one.is_over]
        outliers = self.context.world.policy.outliers
        # A probe that is not answered for as long as an ejection is followed by another: in such a time two can begin.
        patience = outliers.base_ejection_time_ns if outliers is not None else 0
        if len(before) > 1 and attempt.started_at - before[-2].started_at < patience:
            self.context.fail("U24", f"{client.id} sends {sub.address} a third call while it is on probe")
        self._probes[sub] = [*before, attempt]

    def _check_caps(self, client: Client, attempt: Attempt) -> None:
        overload = self.context.world.policy.overload
        if overload is None:
            return
        each, most = overload.max_in_flight_per_subchannel, overload.max_in_flight
        if each is None and most is None:
            return
        counts = self.context.ledger.in_flight(client.id)
        if each is not None and counts[attempt.sub] > each:
            self.context.fail(
                "U16", f"{client.id} has {counts[attempt.sub]} attempts on {attempt.sub.address}, not {each}"
            )
        if most is not None and sum(counts.values()) > most:
            self.context.fail("U16", f"{client.id} has {sum(counts.values())} attempts under way, not {most}")

    def ended(self, now: int, client: Client, number: int, code: Code) -> None:
        """A call is over."""
        ledger = self.context.ledger
        self._attempts.over(client, number, code)
        if not ledger.end(client.id, number):
            self.context.fail("U2", f"call {number} of {client.id} ends twice")
        if code is not Code.OK:
            self._picks.interrupt(client)
        elif not ledger.answered.pop((client.id, number), False):
            self.context.fail("U4", f"call {number} of {client.id} ends with OK, and no server has answered it")

    # --- now and then, and at the end --------------------------------------------------------------------

    def _look(self) -> None:
        engine = self.context.world.engine
        self._check_counters()
        for server in self.context.world.servers:
            if server.backend.queued == 0:
                self.context.roomy_at[server.name] = engine.now
        for client in self.context.world.clients:
            for view in client.subchannels.holder.snapshot.views:
                if view.state is _READY:
                    self.context.seen_ready[client.id, view.endpoint.address] = engine.now
            self._check_silent_watches(client)
            self._ejections.look(client)
        engine.after(_EVERY, self._look)

    def _check_silent_watches(self, client: Client) -> None:
        now = self.context.world.engine.now
        longest = self.context.world.policy.health.first_response_timeout_ns
        for view in client.subchannels.holder.snapshot.views:
            for connection in self.context.links(client, view.endpoint.address):
                words = connection.heard
                if words is None or words.has_said or not words.is_open or now <= words.started_at + longest:
                    continue
                is_given_up = words.stream is None or words.stream.is_over
                if not is_given_up and not self.context.has_stalled(client, words.started_at):
                    self.context.fail("U21", f"{_name(connection)} waits since {words.started_at} for a first word")

    def _check_counters(self) -> None:
        ledger = self.context.ledger
        for attempt in ledger.stragglers():
            self.context.fail("U2", f"attempt {attempt.start.attempt} of call {attempt.number} outlives its call")
        for sub, count in ledger.in_flight().items():
            if sub.load.in_flight != count:
                self.context.fail("U3", f"{sub!r} has {count} attempts under way")
            if sub.load.successes != ledger.successes[sub]:
                given = ledger.successes[sub]
                self.context.fail("U4", f"{sub!r} counts {sub.load.successes} successes, and has had {given} answers")

    def finish(self, record: RunRecord) -> None:
        """Check what must hold of the whole run."""
        self._check_counters()
        EndOracle(self.context).finish(record)


def _name(connection: HeardConnection) -> str:
    return f"{connection.client.id} to {connection.server.name}"
