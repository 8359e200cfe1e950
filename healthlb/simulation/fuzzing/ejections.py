"""How long ejections last, and that nobody is ejected for silence who has answered.

An ejection is longer with each one that follows soon, less long again with each interval in between. Silence is looked
for in a time that the rules give: for a heartbeat that is lost, from the Check on; for calls that were late in a row,
the last half second. Whoever has answered a call in that time is not silent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from healthlb.core.facts import Ejection, Return, StateChange
from healthlb.core.states import ConnectivityState
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt

_SILENT_FOR = SECOND // 2
_LATE_ROW = re.compile(r"(\d+) calls failed in a row, (\d+) of them without an answer in time")


@dataclass(slots=True)
class _History:
    """The last ejection of one subchannel.

    Attributes:
        times: how many there were of late, that one included.
        at: when it was.
        until: when its time is over.
        back_at: when the subchannel was back, -1 while it is not.
    """

    times: int
    at: int
    until: int
    back_at: int = -1


class EjectionOracle:
    """Looks at each ejection and each return.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context
        self._last: dict[tuple[str, int], _History] = {}

    def ejected(self, client: Client, fact: Ejection) -> None:
        """A client has ejected a subchannel."""
        policy = self._context.world.policy.outliers
        if policy is None:
            return
        last = self._last.get((client.id, fact.sub))
        low, high = self._expected(client, last, fact.at)
        if not low <= fact.times <= high:
            self._context.fail("U19", f"{client.id} ejects {fact.address}: times {fact.times}, not {low} to {high}")
        growth = policy.ejection_growth
        factor = fact.times if growth is None else growth ** (fact.times - 1)
        shortest = min(policy.base_ejection_time_ns * factor, policy.max_ejection_time_ns)
        if not shortest - 2 <= fact.duration <= shortest * (1 + policy.jitter) + 2:
            self._context.fail("U19", f"{client.id} ejects {fact.address} for {fact.duration} ns, not {shortest}")
        self._last[client.id, fact.sub] = _History(fact.times, fact.at, fact.at + fact.duration)

    def _expected(self, client: Client, last: _History | None, now: int) -> tuple[int, int]:
        """Return how many times there may have been of late, this one included: from, and to."""
        policy = self._context.world.policy.outliers
        assert policy is not None
        if last is None:
            return 1, 1
        if last.back_at < 0:
            return last.times + 1, last.times + 1
        # A50: each interval in which it is in makes it one less; the intervals' beginning is not known.
        intervals = (now - last.back_at) // policy.interval_ns
        fewest = max(0, last.times - intervals - 1) + 1
        if self._context.has_stalled(client, last.back_at):
            return fewest, last.times + 1
        return fewest, max(0, last.times - intervals) + 1

    def returned(self, client: Client, fact: Return) -> None:
        """A subchannel is back."""
        last = self._last.get((client.id, fact.sub))
        if last is None:
            self._context.fail("U19", f"{client.id} takes {fact.address} back, which it has not ejected")
        last.back_at = fact.at
        links = self._context.links(client, fact.address)
        is_fresh = any(one.linked_at >= last.at for one in links)
        # What a Check or a ping shows of a silence counts for nothing else.
        has_answered = any(max(one.answered_at, one.ponged_at) >= last.at for one in links)
        is_fresh |= has_answered and fact.cause == "it answers again"
        is_needed = "too few" in fact.cause or "too much" in fact.cause
        if not is_needed and fact.at < last.until and not is_fresh:
            self._context.fail("U19", f"{client.id} takes {fact.address} back {last.until - fact.at} ns too soon")

    def look(self, client: Client) -> None:
        """Who is ejected is not READY before it is back."""
        for view in client.subchannels.holder.snapshot.views:
            last = self._last.get((client.id, view.id))
            if last is not None and last.back_at < 0 and view.state is ConnectivityState.READY:
                self._context.fail("U19", f"{client.id} takes {view.endpoint.address} for READY, and not for back")


class SilenceOracle:
    """Looks at who goes out for silence.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context
        # By client and address: on which connection, and when.
        self._answered: dict[tuple[str, str], tuple[int, int]] = {}

    def answered(self, client: Client, attempt: Attempt) -> None:
        """A client hears that a call has ended with OK."""
        sub = attempt.sub
        self._answered[client.id, sub.address] = (sub.generation, self._context.world.engine.now)

    def excluded(self, client: Client, fact: StateChange) -> None:
        """A heartbeat was lost of one that was READY."""
        generation, asked_at = self._context.asked_at.get((client.id, fact.address), (None, -1))
        on, answered_at = self._answered.get((client.id, fact.address), (None, -1))
        if generation is None or on != generation or self._context.has_stalled(client, asked_at):
            return
        if asked_at < answered_at < fact.at:
            text = f"{client.id} takes {fact.address} out for silence since {asked_at}"
            self._context.fail("U26", f"{text}, which has answered a call at {answered_at}")

    def ejected(self, client: Client, fact: Ejection) -> None:
        """One was ejected, maybe for calls that were late."""
        policy, found = self._context.world.policy.outliers, _LATE_ROW.match(fact.cause)
        if found is None or policy is None or policy.consecutive_failures is None:
            return
        row, late = map(int, found.groups())
        if row - late >= policy.consecutive_failures or self._context.has_stalled(client, fact.at - _SILENT_FOR):
            return
        since = self._answered.get((client.id, fact.address), (0, -_SILENT_FOR))[1]
        links = self._context.links(client, fact.address)
        if fact.at - since < _SILENT_FOR and any(one.linked_at < since for one in links[-1:]):
            self._context.fail(
                "U26", f"{client.id} ejects {fact.address} for late calls, which has answered at {since}"
            )
