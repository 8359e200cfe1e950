"""What the oracles look at: a world, what is true in it, and what was said and done.

It is written by what happens, and only read by the oracles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from healthlb.simulation.fuzzing.call_ledger import CallLedger
from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.fuzzing.ground_truth import GroundTruth
    from healthlb.simulation.fuzzing.wire_log import HeardConnection, LinkWords
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.world import World

_HELD = 100_000_000  # After a stall the core's timers wait for less than that.


class Violation(Exception):
    """Something does not hold that must.

    Attributes:
        rule: its number, as "U3".
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class OracleContext:
    """One world under watch.

    Attributes:
        world: which.
        truth: what is true in it.
        ledger: who has called whom.
        threshold: of panic; 0 for never.
        rising: nanoseconds for which SERVING may have to stand to be believed; falling: the same of other statuses.
        renewal: nanoseconds for which SERVING stands after the end of its Watch.
        seen_ready: when a client last took a server for READY.
        ejected_at: when a client last ejected a server.
        asked_at: the connection on which a client last sent a server a Check, by its generation, and when.
        denied_at: when a client's budget last did not pay for an attempt.
        kept_at: when a client last kept a silent server, since too few others are left.
        roomy_at: when nothing waited for a slot of a server, the last time that was looked at.
    """

    def __init__(self) -> None:
        self.world: World
        self.truth: GroundTruth
        self.ledger = CallLedger()
        self.threshold = 0.0
        self.rising = self.falling = self.renewal = 0
        self.seen_ready: dict[tuple[str, str], int] = {}
        self.ejected_at: dict[tuple[str, str], int] = {}
        self.asked_at: dict[tuple[str, str], tuple[int | None, int]] = {}
        self.denied_at: dict[str, int] = {}
        self.kept_at: dict[tuple[str, str], int] = {}
        self.roomy_at: dict[str, int] = {}
        self._links: dict[tuple[str, str], list[HeardConnection]] = {}
        self._heard_until: dict[tuple[str, str], int] = {}

    def set_up(self, world: World, truth: GroundTruth) -> None:
        """Take in what the world is."""
        self.world, self.truth = world, truth
        self.ledger.engine = world.engine
        health = world.policy.health
        self.threshold = world.policy.panic_threshold
        self.rising = (health.rise - 1) * health.confirm_interval_ns
        self.falling = (health.fall - 1) * health.confirm_interval_ns
        longest = max(2 * SECOND, 2 * health.min_restart_interval_ns)
        self.renewal = min(longest, health.first_response_timeout_ns)

    def connected(self, connection: HeardConnection) -> None:
        """A client begins to connect."""
        key = (connection.client.id, connection.server.name)
        self._heard_until[key] = self.heard_until(connection.client, connection.server.name)
        kept = [one for one in self._links.get(key, ()) if not one.is_closed]
        self._links[key] = [*kept, connection]

    def links(self, client: Client, address: str) -> list[HeardConnection]:
        """Return the connections of a client to an address that are not closed."""
        return [one for one in self._links.get((client.id, address), ()) if not one.is_closed]

    def heard_until(self, client: Client, address: str) -> int:
        """Return until when a client had a link to an address that told of health: now, where it has; -1 for never."""
        known = self._links.get((client.id, address), ())
        told = [one for one in known if self.world.policy.service is None or (one.words and one.words.has_word)]
        times = [self.world.engine.now if one.link is not None else one.lost_at for one in told]
        return max([self._heard_until.get((client.id, address), -1), *times])

    def is_disturbed(self, client: Client) -> bool:
        """Whether a client stands still, or has done so until this very instant."""
        return self.truth.is_stalled(client.id) or self.truth.resumed_at(client.id) == self.world.engine.now

    def has_stalled(self, client: Client, since: int) -> bool:
        """Whether a client has stood still at `since` or later, or just before: its timers wait for a moment then."""
        return any(ended + _HELD >= since for _, ended in self.truth.stalls(client.id))

    def heard_at(self, client: Client, said_at: int) -> int:
        """Return when a client must have heard at the latest what the wire has brought at `said_at`.

        Only what comes while its loop stands still is heard later than that.
        """
        for began, ended in self.truth.stalls(client.id):
            if began <= said_at <= ended:
                said_at = ended
        return said_at

    def looked_at(self, client: Client, changed_at: int) -> int:
        """Return when a client looks at a list that the resolver has since `changed_at`: at once, or in its time."""
        length = client.group.dns_cache
        if not length:
            return changed_at
        phase = self.world.streams.stream("dns", client.id).randrange(length)
        return changed_at + (phase - changed_at) % length

    def believed_at(self, client: Client, said_at: int, confirmation: int) -> int:
        """Return when a client must have taken in a word at the latest that the wire has brought.

        Where its loop stands still before it has, the word waits for its confirmation from then on, and the client's
        timers wait for a moment besides.

        Args:
            client: who.
            said_at: when the word came.
            confirmation: nanoseconds that it must stand for.
        """
        heard_at = said_at
        for began, ended in self.truth.stalls(client.id):
            if began <= heard_at + confirmation and said_at <= ended + _HELD:
                heard_at = max(heard_at, ended + _HELD if confirmation or began <= said_at else said_at)
        return heard_at + confirmation

    def stands_until(self, client: Client, ended_at: int, *, at_least: bool = False) -> int:
        """Return until when a SERVING may stand for a client whose Watch the wire has ended at `ended_at`.

        It stands from when the end is heard on. Only where the client stands still at the end of that, its timers are
        later.

        Args:
            client: who.
            ended_at: when the Watch ended, 0 where no SERVING stands.
            at_least: until when it must stand.
        """
        if not ended_at:
            return 0
        until = self.heard_at(client, ended_at) + self.renewal
        return until if at_least else self.believed_at(client, until, 0)

    def stands(self, client: Client, words: LinkWords, at: int) -> tuple[bool, bool]:
        """Whether a SERVING may stand at `at` though its Watch has ended, and whether it must.

        Where the next Watch began too late, none does: the timer that began it ended this as well.
        """
        least = self.stands_until(client, words.stands_since, at_least=True)
        is_in_time = words.started_at < least
        may = is_in_time and at <= self.stands_until(client, words.stands_since)
        return may, may and words.is_sure and at <= least

    def fail(self, rule: str, text: str) -> NoReturn:
        """Say that something does not hold.

        Raises:
            Violation: always.
        """
        raise Violation(rule, f"{text} (at {self.world.engine.now} ns)")
