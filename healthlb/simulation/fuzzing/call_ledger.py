"""The books of all calls of a world, kept beside the clients' own.

An entry is made where something crosses the wire or a call begins or ends, never from a counter.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from healthlb.core.load import Subchannel
from healthlb.core.states import Code

if TYPE_CHECKING:
    from healthlb.simulation.engine.engine import Engine
    from healthlb.simulation.world.link import Attempt

Number = tuple[str, int]


class CallLedger:
    """Who has called whom, and what came of it.

    Attributes:
        engine: virtual time.
        over: calls that have ended.
        answered: calls that a server has answered with OK, and that are not over.
        tried: the subchannels of calls under way, by number.
        arrived: how many attempts of a call have reached a server.
        successes: answers with OK that a client has taken, by where they came from.
        ok: calls that ended with OK, by client.
        open_calls: calls that have begun and are not over.
        most_open: the most there were at a time, by client.
        has_failed: whether any attempt has ended otherwise than well.
        time_of_ok: nanoseconds that calls took that ended with OK.
    """

    def __init__(self) -> None:
        self.engine: Engine
        self.over: set[Number] = set()
        self.answered: dict[Number, bool] = {}
        self.tried: dict[Number, tuple[int, ...]] = {}
        self.arrived: Counter[Number] = Counter()
        self.successes: Counter[Subchannel] = Counter()
        self.ok: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.open_calls = 0
        self.time_of_ok = 0
        self.has_failed = False
        self._open: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        self._begun_at: dict[Number, int] = {}
        self._live: dict[Attempt, None] = {}
        self._subs: dict[Subchannel, None] = {}
        self._served: dict[Attempt, tuple[str, Code]] = {}
        self._area = self._area_at = self._time_of_all = 0

    # --- calls ---------------------------------------------------------------------------------------

    def began(self, client: str, arrived_at: int) -> None:
        """A client begins its next call, which may have waited for its thread."""
        self._pass()
        self._begun[client] += 1
        self._begun_at[client, self._begun[client]] = arrived_at
        self._area += self.engine.now - arrived_at
        self.open_calls += 1
        self._open[client] += 1
        self.most_open[client] = max(self.most_open[client], self._open[client])

    def end(self, client: str, number: int) -> bool:
        """A call is over; False where it was before."""
        call = (client, number)
        if call in self.over or call not in self._begun_at:
            return False
        self._pass()
        self.over.add(call)
        self.tried.pop(call, None)
        self.open_calls -= 1
        self._open[client] -= 1
        took = self.engine.now - self._begun_at.pop(call)
        self._time_of_all += took
        if call in self.answered:
            self.time_of_ok += took
            self.ok[client] += 1
        return True

    def _pass(self) -> None:
        now = self.engine.now
        self._area += self.open_calls * (now - self._area_at)
        self._area_at = now

    def area(self) -> int:
        """Return the calls under way, summed over time, in nanoseconds."""
        self._pass()
        return self._area

    def time_of_all(self) -> int:
        """Return the nanoseconds that all calls took that are over."""
        return self._time_of_all

    # --- attempts --------------------------------------------------------------------------------------

    def sent(self, attempt: Attempt) -> None:
        """An attempt leaves its client."""
        call = (attempt.client.id, attempt.number)
        self.tried[call] = (*self.tried.get(call, ()), attempt.sub.id)
        self._live[attempt] = None
        self._subs[attempt.sub] = None

    def arrive(self, attempt: Attempt) -> None:
        """Note that an attempt has reached a server that knows its connection."""
        self.arrived[attempt.client.id, attempt.number] += 1

    def serve(self, attempt: Attempt, server: str, code: Code) -> None:
        """A server is done with it."""
        self._served[attempt] = (server, code)

    def reply(self, attempt: Attempt, code: Code) -> str:
        """A reply has arrived at a client that still waits for it; return what is wrong with it, or ""."""
        server, said = self._served.pop(attempt, ("nobody", code))
        if server != attempt.sub.address or said is not code:
            return f"{attempt.sub.address} is said to have answered {code.name}; it was {server}, {said.name}"
        if code is Code.OK:
            self.successes[attempt.sub] += 1
            self.answered[attempt.client.id, attempt.number] = True
        return ""

    def stragglers(self) -> list[Attempt]:
        """Return the attempts under way whose calls are over."""
        return [a for a in self._live if not a.is_over and (a.client.id, a.number) in self.over]

    def in_flight(self, client: str = "") -> dict[Subchannel, int]:
        """Return how many attempts are under way, for each subchannel there was, of one client or of all."""
        self._live = {attempt: None for attempt in self._live if not attempt.is_over}
        found = dict.fromkeys(self._subs, 0)
        for attempt in self._live:
            if not client or attempt.client.id == client:
                found[attempt.sub] += 1
        return found
