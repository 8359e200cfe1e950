"""Who is taken out for silence: nobody who has answered a call in the time in which silence is looked for.

That time is what the rules say: for a heartbeat that is lost, from the Check on; for calls that were late in a row, the
last half second.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from healthlb.core.facts import Ejection, StateChange
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt

_SILENT_FOR = SECOND // 2
_LATE_ROW = re.compile(r"(\d+) calls failed in a row, (\d+) of them without an answer in time")


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
