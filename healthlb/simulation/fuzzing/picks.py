"""Where attempts may go: what a client must know when it picks.

A pick is wrong only where the client must know better by the wire's delays alone; what arrives in the
very instant of the pick, it need not know.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from healthlb.simulation.fuzzing.ground_truth import NEVER
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.fuzzing.wire_log import SERVING, HeardConnection, LinkWords
from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt
    from healthlb.simulation.world.server import Server


class PickOracle:
    """Looks at each pick.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context
        world = context.world
        # A resolver that has failed is asked again in its own time, and its news is not heard before.
        self._has_resolver_errors = any(fault.error for fault in world.scenario.faults)
        self._is_rotation = world.policy.picker == "round_robin"
        self._is_choice = world.policy.picker == "least_request"
        self._rotation: dict[str, tuple[tuple[int, ...], int]] = {}

    def picked(self, now: int, client: Client, attempt: Attempt, server: Server) -> None:
        """An attempt is sent."""
        if self._context.is_disturbed(client):
            self.interrupt(client)
            return
        self._check_pick(now, client, attempt, server)
        self._check_exclusion(client, attempt)
        self._check_rotation(client, attempt)
        self._check_choice(client, attempt)

    def interrupt(self, client: Client) -> None:
        """Places of a rotation may have been taken that nothing was sent to."""
        self._rotation.pop(client.id, None)

    def _check_pick(self, now: int, client: Client, attempt: Attempt, server: Server) -> None:
        truth, pair = self._context.truth.servers[server.name], self._context.truth.pair(client.id, server.name)
        way = server.wire + server.group.jitter
        quiet = pair.restless_until
        heard_at = partial(self._context.heard_at, client)
        linked_at = attempt.connection.linked_at if isinstance(attempt.connection, HeardConnection) else now
        # A link that has been lost without a word hears no other.
        is_heard = linked_at > truth.silent_at and not pair.cuts
        is_reset = truth.crashed_at < NEVER and truth.first_crash == "rst" and is_heard
        if is_reset and now > heard_at(max(truth.crashed_at, quiet) + way):
            self._context.fail(
                "U5", f"{client.id} picks {server.name}, whose reset it has had since {truth.crashed_at} ns"
            )
        is_gone = truth.gone_at < NEVER and now > heard_at(self._context.looked_at(client, truth.gone_at))
        if is_gone and not self._has_resolver_errors:
            self._context.fail(
                "U5", f"{client.id} picks {server.name}, which the resolver has not given since {truth.gone_at}"
            )
        is_half_open = linked_at <= truth.half_open_at
        dead_at = min(pair.dead_at, truth.half_open_at) if is_half_open else pair.dead_at
        if self._context.threshold == 0 and self._context.world.policy.service is not None:
            last_word_at = max(dead_at, quiet, self._context.truth.resumed_at(client.id)) + way
            self._check_silence(now, client, server, dead_at, last_word_at)
            self._check_health(now, client, attempt, server, (quiet, way) if is_heard else None)

    def _check_silence(self, now: int, client: Client, server: Server, dead_at: int, last_word_at: int) -> None:
        heartbeat = self._context.world.policy.health.heartbeat
        if heartbeat is None or last_word_at > now:
            return
        # Ten a second for all of a client's subchannels: where there are many, each has its turn the less often.
        interval = max(heartbeat.interval_ns, len(client.subchannels.holder.snapshot.views) * SECOND // 9)
        by = last_word_at + interval + heartbeat.timeout_ns
        # It is told of once in an outage, however often the client itself stands still in it.
        is_kept = self._context.kept_at.get((client.id, server.name), -1) >= min(dead_at, last_word_at) - 2 * SECOND
        if now > by and not is_kept:
            self._context.fail(
                "U5", f"{client.id} picks {server.name}, from which nothing can have come since {last_word_at}"
            )

    def _check_health(
        self, now: int, client: Client, attempt: Attempt, server: Server, wire: tuple[int, int] | None
    ) -> None:
        heard = self._heard(attempt)
        if heard is not None and heard.is_unimplemented:
            return
        truth = self._context.truth.servers[server.name]
        is_told = server.group.health == "honest" and truth.honest_at < NEVER and truth.pauses == 0
        if wire is not None and is_told and truth.ill_at < NEVER:
            quiet, way = wire
            said_at = max(max(truth.ill_at, truth.honest_at) + server.group.watch_lag, truth.unpaused_at, quiet) + way
            if now > self._told_at(client, heard, said_at):
                self._context.fail(
                    "U5", f"{client.id} picks {server.name}, which has said since {said_at} that it is ill"
                )
        self._check_word(now, client, attempt, server, heard)

    def _told_at(self, client: Client, heard: LinkWords | None, said_at: int) -> int:
        """Return when a client must believe at the latest what its server says to all Watches at `said_at`.

        Who has none then, since it has ended, is told by the next one; until then a SERVING stands, if not for long.
        """
        context = self._context
        if heard is None:
            return context.believed_at(client, said_at, context.falling)
        told_at = context.believed_at(client, max(said_at, heard.renewed_at), context.falling)
        return max(told_at, context.stands_until(client, heard.stands_since))

    def _heard(self, attempt: Attempt) -> LinkWords | None:
        connection = attempt.connection
        return connection.heard if isinstance(connection, HeardConnection) else None

    def _check_word(self, now: int, client: Client, attempt: Attempt, server: Server, heard: LinkWords | None) -> None:
        connection = attempt.connection
        if heard is None:
            # The link may have been lost in this very instant.
            if isinstance(connection, HeardConnection) and connection.link is None and connection.lost_at == now:
                return
            self._context.fail(
                "U6", f"{client.id} picks {server.name} on a connection that has said nothing of its health"
            )
        elif heard.status != SERVING and now > max(
            self._context.believed_at(client, heard.ill_since, self._context.falling),
            self._context.stands_until(client, heard.stands_since),
        ):
            self._context.fail("U6", f"{client.id} picks {server.name}, whose last word was {heard.status}")

    def _check_exclusion(self, client: Client, attempt: Attempt) -> None:
        tried = self._context.ledger.tried.get((client.id, attempt.number), ())
        if not tried or attempt.sub.id not in tried:
            return
        others = [
            sub for sub in client.subchannels.holder.snapshot.ready if sub.id not in tried and not sub.load.is_full
        ]
        if others:
            self._context.fail(
                "U15", f"{client.id} makes another attempt on {attempt.sub.address}, not on {others[0].address}"
            )

    def _check_rotation(self, client: Client, attempt: Attempt) -> None:
        if not self._is_rotation:
            return
        ready = client.subchannels.holder.snapshot.ready
        ids = tuple(sub.id for sub in ready)
        # A call that fails takes places of the rotation that nothing is sent to.
        is_probe = attempt.sub in client.subchannels.holder.snapshot.probes
        if (
            client.open_calls
            or is_probe
            or attempt.start.attempt > 1
            or attempt.sub.id not in ids
            or attempt.sub not in ready
        ):
            self._rotation.pop(client.id, None)
            return
        place = ids.index(attempt.sub.id)
        before = self._rotation.get(client.id)
        if before is not None and before[0] == ids and place != (before[1] + 1) % len(ids):
            self._context.fail("U14", f"{client.id} picks number {place} of {len(ids)} after number {before[1]}")
        self._rotation[client.id] = (ids, place)

    def _check_choice(self, client: Client, attempt: Attempt) -> None:
        """Of two alike the less busy is picked, since both are looked at. A failure counts as calls in flight."""
        ready = client.subchannels.holder.snapshot.ready
        if not self._is_choice or len(ready) != 2 or attempt.sub not in ready or self._context.ledger.has_failed:
            return
        other = ready[1] if attempt.sub is ready[0] else ready[0]
        is_alike = other.weight == attempt.sub.weight and attempt.start.attempt == 1 and not other.load.is_full
        if is_alike and other.load.in_flight < attempt.sub.load.in_flight - 1:
            self._context.fail(
                "U22", f"{client.id} picks {attempt.sub.address} with {attempt.sub.load.in_flight - 1} in flight, "
                f"{other.address} has {other.load.in_flight}"
            )  # fmt: skip
