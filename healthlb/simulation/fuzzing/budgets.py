"""What budgets may allow: an account of its own, kept from the calls that began and from how each was asked.

A budget is asked through `withdraw`, and its answer is compared with what the rules leave: never more than they allow,
and never less. Where the rules leave a choice (when a slice of time is forgotten), both ends of it are allowed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.simulation.fuzzing.oracle_context import OracleContext

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client

# A slice of a tenth of the time to live is forgotten as a whole, and looked at once in such a time.
_SLACK = 0.2


class BudgetOracle:
    """Keeps the account of one client's budget.

    Args:
        context: what is watched.
        client: whose.
    """

    def __init__(self, context: OracleContext, client: Client) -> None:
        self._context = context
        self._client = client
        failover = context.world.policy.failover
        policy = failover.budget if failover is not None else None
        budget: Any = client.budget
        if isinstance(policy, RetryBudget):
            self._share = policy
            self._calls: deque[int] = deque()
            self._paid: deque[int] = deque()
            _after(budget, "call_started", lambda answer, now: self._calls.append(now))
            _after(budget, "withdraw", self._asked_for_a_share)
            # A hedge finds no backend in the moment in which it is paid for.
            _after(budget, "give_back", lambda answer: self._paid.pop())
        elif isinstance(policy, RetryThrottle):
            self._most = policy.max_tokens * 1000
            self._tokens = self._most
            gain = round(policy.token_ratio * 1000)
            _after(budget, "call_succeeded", lambda answer: self._give(gain))
            _after(budget, "attempt_failed", lambda answer: self._give(-1000))
            _after(budget, "withdraw", self._asked_for_a_token)

    def _asked_for_a_share(self, is_allowed: object, now: int) -> None:
        policy = self._share
        oldest = now - round(policy.ttl_ns * (1 + _SLACK))
        for times in (self._calls, self._paid):
            while times and times[0] < oldest:
                times.popleft()
        recent = now - policy.ttl_ns
        reserve = policy.min_per_second * policy.ttl
        if is_allowed:
            most = reserve + policy.ratio * len(self._calls) - sum(at > recent for at in self._paid)
            self._paid.append(now)
            if most < 1 - 1e-6:
                self._context.fail("U17", f"{self._client.id} pays for an attempt with {most:.2f} left of its budget")
        else:
            self._context.denied_at[self._client.id] = now
            least = reserve + policy.ratio * sum(at > recent for at in self._calls) - len(self._paid)
            if least >= 1 + 1e-6:
                self._context.fail("U17", f"{self._client.id} does not pay for an attempt with {least:.2f} left")

    def _give(self, tokens: int) -> None:
        self._tokens = max(0, min(self._most, self._tokens + tokens))

    def _asked_for_a_token(self, is_allowed: object, now: int) -> None:
        if not is_allowed:
            self._context.denied_at[self._client.id] = now
        # A6: while more than half of the tokens are there.
        if bool(is_allowed) != (2 * self._tokens > self._most):
            verb = "makes" if is_allowed else "does not make"
            self._context.fail("U17", f"{self._client.id} {verb} an attempt with {self._tokens / 1000:g} tokens")


def _after(target: Any, name: str, act: Any) -> None:
    """Have `act` called with the result and the same arguments after each call of a method of `target`."""
    method = getattr(target, name)

    def wrapped(*arguments: Any) -> Any:
        result = method(*arguments)
        act(result, *arguments)
        return result

    setattr(target, name, wrapped)
