"""When attempts come: hedges on time, others after their backoff, and only after what is worth another attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from healthlb.core.states import Code
from healthlb.simulation.fuzzing.oracle_context import OracleContext

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt


@dataclass(slots=True)
class _Attempts:
    """Those of one call.

    Attributes:
        arrived_at: when the call did, from which its deadline counts; began_at: when the client's thread came to it.
        live: those under way.
        ended: how many have ended; counted: those of them that may have reached a server.
        is_worth_another: whether the end of the last one was.
        last: the status with which the last one ended, None where it never left, was cut off or
            rescued.
        last_at: when that was.
    """

    arrived_at: int
    began_at: int
    live: dict[Attempt, None] = field(default_factory=dict)
    ended: int = 0
    counted: int = 0
    is_worth_another: bool = False
    last: Code | None = None
    last_at: int = -1


class AttemptOracle:
    """Looks at each attempt of a call.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context
        self._calls: dict[tuple[str, int], _Attempts] = {}
        self._strained_at: dict[str, int] = {}
        failover = context.world.policy.failover
        self._codes = frozenset(Code[code] for code in failover.codes) if failover is not None else frozenset()
        self._backoff = failover.backoff if failover is not None else None
        self._longest_wait = self._backoff.maximum_ns * 2 if self._backoff is not None else 0

    def follow(self, client: Client) -> None:
        """Look at how a client's attempts end."""
        failed = client._failed

        def heard(attempt: Attempt, code: Code, now: int, is_refused: bool = False, is_lost: bool = False) -> None:
            self._failed(client, attempt, code, now, is_refused)
            failed(attempt, code, now, is_refused=is_refused, is_lost=is_lost)

        client._failed = heard  # type: ignore[method-assign]

    def began(self, client: Client, number: int, arrived_at: int) -> None:
        """A call begins."""
        self._note(client)
        self._calls[client.id, number] = _Attempts(arrived_at, self._context.world.engine.now)

    def _note(self, client: Client) -> None:
        """While its backends have too much to do, a client sends no call twice."""
        if client.subchannels.admission.limiter.is_strained:
            self._strained_at[client.id] = self._context.world.engine.now

    def over(self, client: Client, number: int, code: Code) -> None:
        """A call is over."""
        self._note(client)
        call = self._calls.pop((client.id, number), None)
        now = self._context.world.engine.now
        if call is None or code is Code.OK or client.is_hedged or not call.is_worth_another or call.last_at != now:
            return
        policy = client.policy.call
        has_time = not client.group.deadline or now - call.arrived_at + self._longest_wait < client.group.deadline
        is_possible = policy.is_idempotent and call.counted < policy.max_attempts and has_time
        is_free = self._context.world.policy.overload is None and bool(client.subchannels.holder.snapshot.ready)
        is_free = is_free and self._strained_at.get(client.id, -1) < now
        if is_possible and is_free and self._context.denied_at.get(client.id, -1) < now:
            self._context.fail("U18", f"{client.id} gives call {number} up after {call.counted} attempts: {code.name}")

    def sent(self, client: Client, attempt: Attempt) -> None:
        """An attempt is sent."""
        self._note(client)
        call = self._calls.get((client.id, attempt.number))
        if call is None:
            return
        live = [one for one in call.live if not one.is_over]
        is_late = self._context.has_stalled(client, call.began_at)
        if attempt.start.attempt > 1 and not is_late:
            if live and not call.ended and len(call.live) == attempt.start.attempt - 1:
                self._check_hedge(client, attempt, call)
            elif not live:
                self._check_retry(client, attempt, call)
        call.live[attempt] = None

    def _check_hedge(self, client: Client, attempt: Attempt, call: _Attempts) -> None:
        delay = client.policy.call.hedging_delay
        now = self._context.world.engine.now
        if delay is None:
            self._context.fail("U18", f"{client.id} sends attempt {attempt.start.attempt} beside another, unasked")
        due_at = call.began_at + delay * (attempt.start.attempt - 1)
        if now != due_at and self._strained_at.get(client.id, -1) < call.began_at:
            self._context.fail("U18", f"{client.id} hedges call {attempt.number} {now - due_at} ns after its time")

    def _check_retry(self, client: Client, attempt: Attempt, call: _Attempts) -> None:
        if call.last is None:
            return
        what = f"{client.id} makes attempt {attempt.start.attempt} of call {attempt.number}"
        if call.last not in self._codes:
            self._context.fail("U18", f"{what} after {call.last.name}")
        backoff = self._backoff
        if backoff is not None and not client.is_hedged:
            waited = self._context.world.engine.now - call.last_at
            if waited < backoff.initial_ns * (1 - backoff.jitter) - 2:
                self._context.fail("U18", f"{what} after {waited} ns, sooner than its backoff")

    def _failed(self, client: Client, attempt: Attempt, code: Code, now: int, is_refused: bool) -> None:
        self._context.ledger.has_failed = True
        call = self._calls.get((client.id, attempt.number))
        if call is None:
            return
        limit = client.policy.call.attempt_timeout
        is_cut_off = code is Code.DEADLINE_EXCEEDED and limit is not None and now - attempt.started_at >= limit
        is_rescued = attempt.call is not None and attempt.call.rescued is attempt
        call.ended += 1
        call.counted += not is_refused
        call.is_worth_another = not is_refused and (is_cut_off or is_rescued or code in self._codes)
        call.last = None if is_refused or is_cut_off or is_rescued else code
        call.last_at = now
