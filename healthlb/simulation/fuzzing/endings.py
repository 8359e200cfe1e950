"""What must hold of a whole run: sums, budgets, and that all is well again once all faults are over.

The books are compared with the record, never the record with itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.simulation.fuzzing.ground_truth import NEVER
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.record import RunRecord


class EndOracle:
    """Looks at a run that is over.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context

    def finish(self, record: RunRecord) -> None:
        """Check all of it."""
        self._check_sums(record)
        self._check_budget()
        self._check_recovery()

    def _check_sums(self, record: RunRecord) -> None:
        metrics, ledger = record.metrics, self._context.ledger
        if metrics["requests"] != metrics["ok"] + metrics["errors"] + metrics["in_flight"]:
            self._context.fail("U1", f"{metrics['requests']} calls, {metrics['ok']} ok, {metrics['errors']} errors")
        if metrics["requests"] - len(ledger.over) != metrics["in_flight"]:
            self._context.fail(
                "U1", f"{len(ledger.over)} of {metrics['requests']} calls are over, not all others under way"
            )
        if ledger.open_calls and all(client.group.deadline is not None for client in self._context.world.clients):
            self._context.fail("U1", f"{ledger.open_calls} calls are under way after all deadlines")
        whole = ledger.time_of_all()
        if ledger.open_calls == 0 and ledger.area() != whole:
            self._context.fail("U9", f"calls were under way for {ledger.area()} ns, and took {whole} ns")
        took = record.latency.mean * record.latency.count
        if abs(took - ledger.time_of_ok) > 0.02 * ledger.time_of_ok:
            self._context.fail("U9", f"calls that ended well took {ledger.time_of_ok} ns, not {took:.0f}")

    def _check_budget(self) -> None:
        for client in self._context.world.clients:
            failover = self._context.world.policy.failover
            most = 1 if failover is None or not client.group.idempotent else failover.max_attempts
            executions = {call: count for call, count in self._context.ledger.arrived.items() if call[0] == client.id}
            worst = max(executions, key=lambda call: executions[call], default=None)
            if worst is not None and executions[worst] > most:
                self._context.fail(
                    "U7", f"call {worst[1]} of {client.id} reached {executions[worst]} servers, not {most}"
                )
            paid = sum(count - 1 for count in executions.values())
            limit = self._limit(client, failover.budget if failover is not None else None)
            if paid > limit:
                self._context.fail("U7", f"{client.id} made {paid} attempts after the first, {limit:.1f} were paid for")

    def _limit(self, client: Client, budget: RetryBudget | RetryThrottle | None) -> float:
        if isinstance(budget, RetryThrottle):
            # A6: an attempt is allowed above half of the tokens, and the one before it has taken one. What is sent
            # beside others may take its own later.
            return (
                math.inf
                if client.is_hedged
                else budget.max_tokens / 2 + budget.token_ratio * self._context.ledger.ok[client.id]
            )
        if isinstance(budget, RetryBudget):
            spans = math.ceil(self._context.world.end / budget.ttl_ns)
            # What a call gives lasts for its time to live, and so counts in two spans at most.
            return 2 * budget.ratio * client.called + budget.min_per_second * budget.ttl * spans
        return math.inf

    def _check_recovery(self) -> None:
        for client in self._context.world.clients:
            if self._context.truth.is_stalled(client.id):
                self._context.fail("U12", f"{client.id} stands still for ever")
            for view in client.subchannels.holder.snapshot.views:
                address = view.endpoint.address
                if not self._is_to_be_ready(client, address):
                    continue
                seen_at = self._context.seen_ready.get((client.id, address), -1)
                if seen_at < self._context.world.end - 2 * SECOND:
                    self._context.fail(
                        "U12", f"{client.id} has not taken {address} for READY since {seen_at}: {view.reason}"
                    )

    def _is_to_be_ready(self, client: Client, address: str) -> bool:
        if self._is_stuck(client, address):
            return False
        server, policy = self._context.world.server(address), self._context.world.policy
        group, truth = server.group, self._context.truth.servers[address]
        if truth.modes or truth.ill or truth.crashes or truth.pauses or truth.gone_at < NEVER:
            self._context.fail("U12", f"a fault of {address} is never over")
        if policy.service is not None:
            if group.health == "absent" and policy.health.on_unimplemented != "healthy":
                return False
            if group.health not in ("honest", "lying", "absent") or self._has_too_much_to_do(address):
                return False
        outliers = policy.outliers
        if outliers is not None:
            longest = outliers.max_ejection_time * (1 + outliers.jitter) + outliers.base_ejection_time + 1
            since = self._context.world.end - round(longest * SECOND) - 2 * SECOND
            if self._context.ejected_at.get((client.id, address), -1) > since:
                return False
        return group.max_age is None or policy.health.damping is None

    def _has_too_much_to_do(self, address: str) -> bool:
        """Whether a Watch has waited behind calls for as long as counts, since there are more of them than slots."""
        group, health = self._context.world.server(address).group, self._context.world.policy.health
        again = health.first_response_timeout_ns + 2 * health.backoff.maximum_ns
        line_since = self._context.roomy_at.get(address, 0)
        return group.checks != "beside" and line_since < self._context.world.end - 2 * SECOND - again

    def _is_stuck(self, client: Client, address: str) -> bool:
        """Whether nothing will ever say more on the present connection, by its nature."""
        connections = self._context.links(client, address)
        server = self._context.world.server(address)
        # What was on its way then still makes a link.
        silent_at = self._context.truth.servers[address].silent_at + server.wire + server.group.jitter
        policy = self._context.world.policy
        has_heartbeat = policy.health.heartbeat is not None and policy.service is not None
        return any(
            (one.heard is not None and one.heard.is_unimplemented and not self._trusts_silence)
            or (one.linked_at <= silent_at and not has_heartbeat)
            for one in connections
            if not one.is_closed
        )

    @property
    def _trusts_silence(self) -> bool:
        return self._context.world.policy.health.on_unimplemented == "healthy"
