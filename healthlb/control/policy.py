"""Which policy a method's calls are made by: the channel's failover, the service config, the method's own word."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from healthlb.config import Failover, RetryBudget, RetryThrottle
from healthlb.control.idempotency import is_idempotent, matching, why_not
from healthlb.core.attempts import MethodPolicy
from healthlb.core.failover import call_policy
from healthlb.service_config import MethodConfig, ServiceConfig

_ONE_ATTEMPT = Failover(max_attempts=1, codes=(), idempotent=False, strict=True, budget=None)


@dataclass(frozen=True, slots=True)
class Policies:
    """A channel's or a view's policies.

    Attributes:
        failover: given by the caller, or the default; None for one attempt.
        is_explicit: whether the caller gave it, so that it wins over the service config.
        config: the service config.
        unmatched: patterns of `failover` that have matched no method so far.
    """

    failover: Failover | None
    is_explicit: bool
    config: ServiceConfig
    unmatched: dict[str, None] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rule = None if self.failover is None else self.failover.idempotent
        patterns = () if rule is None or isinstance(rule, bool) else rule
        object.__setattr__(self, "unmatched", dict.fromkeys(patterns))

    @property
    def budget(self) -> RetryBudget | RetryThrottle | None:
        """What pays for attempts after the first."""
        if not self.is_explicit and self.config.throttle is not None:
            return self.config.throttle
        return None if self.failover is None else self.failover.budget

    def method(self, name: str) -> MethodPolicy:
        """Return the policy of `/package.Service/Method`."""
        said = self.config.method(name) or MethodConfig(names=())
        failover = self._failover(said)
        for pattern in matching(name, self.unmatched):
            self.unmatched.pop(pattern, None)
        return MethodPolicy(
            call=call_policy(failover, is_idempotent(name, failover.idempotent)),
            timeout=said.timeout,
            wait_for_ready=bool(said.wait_for_ready),
            is_strict=failover.strict,
            buffer_limit=failover.buffer_limit,
            idempotency=why_not(name, failover.idempotent),
            unmatched=self.unmatched,
        )

    def _failover(self, said: MethodConfig) -> Failover:
        if self.failover is None:
            return _ONE_ATTEMPT
        if said.retry is None or self.is_explicit:
            return self.failover
        # The method's own retry or hedging policy, in the channel's frame.
        frame = self.failover
        return replace(said.retry, strict=frame.strict, buffer_limit=frame.buffer_limit, rescue=frame.rescue)

    def with_failover(self, failover: Failover | None) -> Policies:
        """Return the policies of a view with another failover."""
        return Policies(failover, is_explicit=True, config=self.config)

