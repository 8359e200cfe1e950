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

The one rule: an oracle looks at faults, the wire, servers and calls; of the core it takes only what that publishes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.core.facts import Ejection, Fact, HeartbeatLoss, StateChange
from healthlb.core.snapshot import Snapshot
from healthlb.core.states import Code, ConnectivityState
from healthlb.simulation.fuzzing.books import Books
from healthlb.simulation.fuzzing.truth import NEVER, Truth
from healthlb.simulation.fuzzing.words import SERVING, HeardConnection, LinkWords
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


class Violation(Exception):
    """Something does not hold that must.

    Attributes:
        rule: its number, as "U3".
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Inspector(Trace):
    """Watches one world from outside, and raises where something does not hold.

    Args:
        policy_has_panic: whether picks may go to whom health is against.
    """

    def __init__(self) -> None:
        super().__init__(CALLS)
        self.world: World
        self.truth: Truth
        self.books = Books()
        self._connections: dict[tuple[str, str], list[HeardConnection]] = {}
        self._seen_ready: dict[tuple[str, str], int] = {}
        self._ejected_at: dict[tuple[str, str], int] = {}
        self._kept_at: dict[tuple[str, str], int] = {}
        self._rotation: dict[str, tuple[tuple[int, ...], int]] = {}

    def follow(self, world: World, truth: Truth) -> None:
        """Begin."""
        self.world, self.truth = world, truth
        self.books.engine = world.engine
        policy = world.policy
        self._threshold = float(str(policy.extra.get("panic_threshold", 0.0)))
        health = policy.health
        self._confirmation = (max(health.rise, health.fall) - 1) * health.confirm_interval_ns
        # A resolver that has failed is asked again in its own time, and its news is not heard before.
        self._has_resolver_errors = any(fault.error for fault in world.scenario.faults)
        self._is_rotation = policy.picker == "round_robin"
        world.engine.after(_EVERY, self._look)

    # --- what is heard -------------------------------------------------------------------------------

    def connected(self, connection: HeardConnection) -> None:
        """A client begins to connect."""
        key = (connection.client.id, connection.path.server.name)
        kept = [one for one in self._connections.get(key, ()) if not one.is_closed]
        self._connections[key] = [*kept, connection]

    def watch_again(self, connection: HeardConnection, words: LinkWords, now: int) -> None:
        """A Watch is opened on a link that has had one."""
        health = self.world.policy.health
        backoff = health.backoff
        if words.is_open and words.has_said:
            self._fail("U11", f"{_name(connection)} opens a second Watch beside one that speaks")
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
            self._fail("U11", f"{_name(connection)} watches again after {waited} ns, not {delay:.0f} less jitter")
        # What comes while the client stands still, it hears later.
        is_late = self.truth.resumed_at(connection.client.id) >= words.started_at
        if not is_late and waited > delay * (1 + backoff.jitter) + 2:
            self._fail("U11", f"{_name(connection)} watches again after {waited} ns, not {delay:.0f} plus jitter")

    def reported(self, client: Client, fact: Fact) -> None:
        """A client's core reports."""
        match fact:
            case StateChange(old=old, new=new, address=address):
                if old is _FAILURE and new is _CONNECTING:
                    self._fail("U10", f"{client.id} takes {address} from TRANSIENT_FAILURE to CONNECTING")
                if new is _READY:
                    self._check_ready(client, address)
            case Ejection(address=address, is_enforced=True):
                self._ejected_at[client.id, address] = fact.at
            case HeartbeatLoss(address=address, is_excluded=False):
                self._kept_at[client.id, address] = fact.at

    def fault(self, now: int, what: str) -> None:
        """Something goes wrong, or is mended."""

    def began(self, client: Client) -> None:
        """A call begins."""
        self.books.began(client.id)

    def picked(self, now: int, client: Client, attempt: Attempt, server: Server) -> None:
        """An attempt is sent."""
        call = (client.id, attempt.number)
        if call in self.books.over:
            self._fail("U2", f"{client.id} sends attempt {attempt.start.attempt} of a call that is over")
        if attempt.sub.address != server.name:
            self._fail("U4", f"a pick of {attempt.sub.address} goes to {server.name}")
        if self._is_disturbed(client):
            self._rotation.pop(client.id, None)
        else:
            self._check_pick(now, client, attempt, server)
            self._check_exclusion(client, attempt)
            self._check_rotation(client, attempt)
        self.books.sent(attempt)

    def ended(self, now: int, client: Client, number: int, code: Code) -> None:
        """A call is over."""
        if not self.books.end(client.id, number):
            self._fail("U2", f"call {number} of {client.id} ends twice")
        if code is not Code.OK:
            self._rotation.pop(client.id, None)
        elif not self.books.answered.pop((client.id, number), False):
            self._fail("U4", f"call {number} of {client.id} ends with OK, and no server has answered it")

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        if self.truth.is_stalled(client.id):
            self._fail("U2", f"{client.id} publishes while it stands still")
        self._check_cap(client, snapshot)
        self._check_panic(client, snapshot)

    # --- picks -----------------------------------------------------------------------------------------

    def _check_pick(self, now: int, client: Client, attempt: Attempt, server: Server) -> None:
        truth, pair = self.truth.servers[server.name], self.truth.pair(client.id, server.name)
        way = server.wire + server.group.jitter
        quiet = max(pair.restless_until, self.truth.resumed_at(client.id))
        linked_at = attempt.connection.linked_at if isinstance(attempt.connection, HeardConnection) else now
        # A link that has been lost without a word hears no other.
        is_heard = linked_at > truth.silent_at and not pair.cuts
        is_reset = truth.crashed_at < NEVER and truth.first_crash == "rst" and is_heard
        if is_reset and now > max(truth.crashed_at, quiet) + way:
            self._fail("U5", f"{client.id} picks {server.name}, whose reset it has had since {truth.crashed_at} ns")
        if not self._has_resolver_errors and truth.gone_at < NEVER and now > max(truth.gone_at, quiet):
            self._fail("U5", f"{client.id} picks {server.name}, which the resolver has not given since {truth.gone_at}")
        is_half_open = linked_at <= truth.half_open_at
        dead_at = min(pair.dead_at, truth.half_open_at) if is_half_open else pair.dead_at
        if self._threshold == 0 and self.world.policy.service is not None:
            self._check_silence(now, client, server, max(dead_at, quiet) + way)
            self._check_health(now, client, attempt, server, (quiet, way) if is_heard else None)

    def _check_silence(self, now: int, client: Client, server: Server, last_word_at: int) -> None:
        heartbeat = self.world.policy.health.heartbeat
        if heartbeat is None or last_word_at > now:
            return
        by = last_word_at + heartbeat.interval_ns + heartbeat.timeout_ns
        is_kept = self._kept_at.get((client.id, server.name), -1) >= last_word_at - 2 * SECOND
        if now > by and not is_kept:
            self._fail("U5", f"{client.id} picks {server.name}, from which nothing can have come since {last_word_at}")

    def _check_health(
        self, now: int, client: Client, attempt: Attempt, server: Server, wire: tuple[int, int] | None
    ) -> None:
        heard = self._heard(attempt)
        if heard is not None and heard.is_unimplemented:
            return
        truth = self.truth.servers[server.name]
        is_told = server.group.health == "honest" and truth.honest_at < NEVER and truth.pauses == 0
        if wire is not None and is_told and truth.ill_at < NEVER:
            quiet, way = wire
            said_at = max(max(truth.ill_at, truth.honest_at) + server.group.watch_lag, truth.unpaused_at, quiet) + way
            if now > said_at + self._confirmation:
                self._fail("U5", f"{client.id} picks {server.name}, which has said since {said_at} that it is ill")
        self._check_word(now, client, attempt, server, heard)

    def _heard(self, attempt: Attempt) -> LinkWords | None:
        connection = attempt.connection
        return connection.heard if isinstance(connection, HeardConnection) else None

    def _check_word(
        self, now: int, client: Client, attempt: Attempt, server: Server, heard: LinkWords | None
    ) -> None:
        connection = attempt.connection
        if heard is None:
            # The link may have been lost in this very instant.
            if connection.link is None and isinstance(connection, HeardConnection) and connection.lost_at == now:
                return
            self._fail("U6", f"{client.id} picks {server.name} on a connection that has said nothing of its health")
        elif heard.status != SERVING and now > heard.changed_at + self._confirmation:
            self._fail("U6", f"{client.id} picks {server.name}, whose last word was {heard.status}")

    def _check_ready(self, client: Client, address: str) -> None:
        policy = self.world.policy
        links = [one for one in self._connections.get((client.id, address), ()) if one.link is not None]
        now = self.world.engine.now
        if self._is_disturbed(client) or any(one.linked_at == now for one in links):
            return
        if not links:
            if self.truth.pair(client.id, address).cuts == 0 and not self._lost_now(client, address):
                self._fail("U6", f"{client.id} takes {address} for READY without a connection")
            return
        if policy.service is None:
            return
        heard = [one.heard for one in links]
        is_good = any(
            words is not None
            and (words.status == SERVING or words.changed_at == now or _is_unchecked(words, policy.health))
            for words in heard
        )
        if not is_good:
            self._fail("U6", f"{client.id} takes {address} for READY, whose connection has not said SERVING")

    def _lost_now(self, client: Client, address: str) -> bool:
        now = self.world.engine.now
        return any(one.lost_at == now for one in self._connections.get((client.id, address), ()))

    def _check_exclusion(self, client: Client, attempt: Attempt) -> None:
        tried = self.books.tried.get((client.id, attempt.number), ())
        if not tried or attempt.sub.id not in tried:
            return
        others = [sub for sub in client.pool.board.snapshot.ready if sub.id not in tried]
        if others:
            self._fail("U15", f"{client.id} makes another attempt on {attempt.sub.address}, not on {others[0].address}")

    def _check_rotation(self, client: Client, attempt: Attempt) -> None:
        if not self._is_rotation:
            return
        ready = client.pool.board.snapshot.ready
        ids = tuple(sub.id for sub in ready)
        # A call that fails takes places of the rotation that nothing is sent to.
        is_probe = attempt.sub in client.pool.board.snapshot.probes
        if client.open_calls or is_probe or attempt.start.attempt > 1 or attempt.sub.id not in ids or attempt.sub not in ready:
            self._rotation.pop(client.id, None)
            return
        place = ids.index(attempt.sub.id)
        before = self._rotation.get(client.id)
        if before is not None and before[0] == ids and place != (before[1] + 1) % len(ids):
            self._fail("U14", f"{client.id} picks number {place} of {len(ids)} after number {before[1]}")
        self._rotation[client.id] = (ids, place)

    # --- snapshots ---------------------------------------------------------------------------------------

    def _check_cap(self, client: Client, snapshot: Snapshot) -> None:
        ejected = [view for view in snapshot.views if view.is_ejected]
        outliers = self.world.policy.outliers
        if not ejected:
            return
        if outliers is None:
            self._fail("U8", f"{client.id} ejects though nobody asked for that")
            return
        count = len(snapshot.views)
        most = min(math.ceil(count * outliers.max_ejection_percent / 100), max(0, count - 1))
        out = sum(view.state is not _READY for view in snapshot.views)
        well = [view for view in ejected if self._is_well(client, view.endpoint.address)]
        if well and out > most:
            self._fail("U8", f"{client.id} holds {well[0].endpoint.address} out: {out} of {count} are, {most} may be")
        if well and out == count:
            self._fail("U8", f"{client.id} has ejected {well[0].endpoint.address}, the last healthy one")

    def _is_well(self, client: Client, address: str) -> bool:
        """Whether the wire has said that a server is healthy, and not in this very instant."""
        now = self.world.engine.now
        for connection in self._connections.get((client.id, address), ()):
            heard = connection.heard
            if self.world.policy.service is None:
                if connection.link is not None and connection.linked_at < now:
                    return True
            elif heard is not None and heard.status == SERVING and heard.changed_at + self._confirmation < now:
                return connection.generation is not None
        return False

    def _check_panic(self, client: Client, snapshot: Snapshot) -> None:
        total = len(snapshot.views)
        hopeful = sum(view.state in (_READY, _CONNECTING) for view in snapshot.views)
        is_panic = bool(total) and hopeful / total < self._threshold
        healthy = {view.id for view in snapshot.views if view.state is _READY}
        picked = {sub.id for sub in snapshot.ready}
        if not is_panic and picked - healthy:
            self._fail("U13", f"{client.id} picks among {len(picked)} of which {len(healthy)} are READY, without panic")
        if not healthy <= picked:
            self._fail("U13", f"{client.id} does not pick among all that are READY")
        if is_panic and not self._is_disturbed(client):
            missing = [view for view in snapshot.views if view.id not in picked and self._is_up(client, view.endpoint.address)]
            if missing:
                self._fail("U13", f"{client.id} panics, and does not pick {missing[0].endpoint.address}")

    def _is_up(self, client: Client, address: str) -> bool:
        now = self.world.engine.now
        links = self._connections.get((client.id, address), ())
        return bool(links) and all(
            one.link is not None and one.linked_at < now and one.generation is not None for one in links if not one.is_closed
        )

    # --- now and then, and at the end --------------------------------------------------------------------

    def _look(self) -> None:
        engine = self.world.engine
        for client in self.world.clients:
            self._check_counters()
            for view in client.pool.board.snapshot.views:
                if view.state is _READY:
                    self._seen_ready[client.id, view.endpoint.address] = engine.now
        engine.after(_EVERY, self._look)

    def _check_counters(self) -> None:
        for sub, count in self.books.in_flight().items():
            if sub.load.in_flight != count:
                self._fail("U3", f"{sub!r} has {count} attempts under way")
            if sub.load.successes != self.books.successes.get(sub, 0):
                given = self.books.successes.get(sub, 0)
                self._fail("U4", f"{sub!r} counts {sub.load.successes} successes, and has had {given} answers")

    def finish(self, record: RunRecord) -> None:
        """Check what must hold of the whole run."""
        self._check_counters()
        self._check_sums(record)
        self._check_budget()
        self._check_recovery()

    def _check_sums(self, record: RunRecord) -> None:
        metrics, books = record.metrics, self.books
        if metrics["requests"] != metrics["ok"] + metrics["errors"] + metrics["in_flight"]:
            self._fail("U1", f"{metrics['requests']} calls, {metrics['ok']} ok, {metrics['errors']} errors")
        if metrics["requests"] - len(books.over) != metrics["in_flight"]:
            self._fail("U1", f"{len(books.over)} of {metrics['requests']} calls are over, not all others under way")
        if books.open_calls and all(client.group.deadline is not None for client in self.world.clients):
            self._fail("U1", f"{books.open_calls} calls are under way after all deadlines")
        whole = books.time_of_all()
        if books.open_calls == 0 and books.area() != whole:
            self._fail("U9", f"calls were under way for {books.area()} ns, and took {whole} ns")
        took = record.latency.mean * record.latency.count
        if abs(took - books.time_of_ok) > 0.02 * books.time_of_ok:
            self._fail("U9", f"calls that ended well took {books.time_of_ok} ns, not {took:.0f}")

    def _check_budget(self) -> None:
        for client in self.world.clients:
            failover = self.world.policy.failover
            most = 1 if failover is None or not client.group.idempotent else failover.max_attempts
            executions = {call: count for call, count in self.books.arrived.items() if call[0] == client.id}
            worst = max(executions, key=lambda call: executions[call], default=None)
            if worst is not None and executions[worst] > most:
                self._fail("U7", f"call {worst[1]} of {client.id} reached {executions[worst]} servers, not {most}")
            paid = sum(count - 1 for count in executions.values())
            limit = self._limit(client, failover.budget if failover is not None else None)
            if paid > limit:
                self._fail("U7", f"{client.id} made {paid} attempts after the first, {limit:.1f} were paid for")

    def _limit(self, client: Client, budget: RetryBudget | RetryThrottle | None) -> float:
        if isinstance(budget, RetryThrottle):
            # A6: an attempt is allowed above half of the tokens, and the one before it has taken one. That of a hedge may
            # be taken later.
            return math.inf if client.is_hedged else budget.max_tokens / 2 + budget.token_ratio * self.books.ok[client.id]
        if isinstance(budget, RetryBudget):
            spans = math.ceil(self.world.end / budget.ttl_ns)
            # What a call gives lasts for its time to live, and so counts in two spans at most.
            return 2 * budget.ratio * client.called + budget.min_per_second * budget.ttl * spans
        return math.inf

    def _check_recovery(self) -> None:
        for client in self.world.clients:
            if self.truth.is_stalled(client.id):
                self._fail("U12", f"{client.id} stands still for ever")
            for view in client.pool.board.snapshot.views:
                address = view.endpoint.address
                if not self._is_to_be_ready(client, address):
                    continue
                seen_at = self._seen_ready.get((client.id, address), -1)
                if seen_at < self.world.end - 2 * SECOND:
                    self._fail("U12", f"{client.id} has not taken {address} for READY since {seen_at}: {view.reason}")

    def _is_to_be_ready(self, client: Client, address: str) -> bool:
        if self._is_stuck(client, address):
            return False
        server, policy = self.world.server(address), self.world.policy
        group, truth = server.group, self.truth.servers[address]
        if truth.modes or truth.ill or truth.crashes or truth.pauses or truth.gone_at < NEVER:
            self._fail("U12", f"a fault of {address} is never over")
        if policy.service is not None:
            if group.health == "absent" and policy.health.on_unimplemented != "healthy":
                return False
            if group.health not in ("honest", "lying", "absent"):
                return False
        outliers = policy.outliers
        if outliers is not None:
            longest = outliers.max_ejection_time * (1 + outliers.jitter) + outliers.base_ejection_time + 1
            since = self.world.end - round(longest * SECOND) - 2 * SECOND
            if self._ejected_at.get((client.id, address), -1) > since:
                return False
        return group.max_age is None or policy.health.damping is None

    def _is_stuck(self, client: Client, address: str) -> bool:
        """Whether nothing will ever say more on the present connection, by its nature."""
        connections = self._connections.get((client.id, address), ())
        silent_at = self.truth.servers[address].silent_at
        policy = self.world.policy
        has_heartbeat = policy.health.heartbeat is not None and policy.service is not None
        return any(
            (one.heard is not None and one.heard.is_unimplemented and not self._trusts_silence)
            or (one.linked_at <= silent_at and not has_heartbeat)
            for one in connections
            if not one.is_closed
        )

    @property
    def _trusts_silence(self) -> bool:
        return self.world.policy.health.on_unimplemented == "healthy"

    def _is_disturbed(self, client: Client) -> bool:
        now = self.world.engine.now
        return self.truth.is_stalled(client.id) or self.truth.resumed_at(client.id) == now

    def _fail(self, rule: str, text: str) -> None:
        raise Violation(rule, f"{text} (at {self.world.engine.now} ns)")


def _is_unchecked(words: LinkWords, health: object) -> bool:
    return words.is_unimplemented and getattr(health, "on_unimplemented", "") == "healthy"


def _name(connection: HeardConnection) -> str:
    return f"{connection.client.id} to {connection.path.server.name}"

