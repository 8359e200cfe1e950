"""Which policy a method's calls are made by: the channel's failover, the service config, the method's own word."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from healthlb.config import Failover, Idempotent, RetryBudget, RetryThrottle
from healthlb.config.service_config import MethodConfig, ServiceConfig
from healthlb.core.call.call_attempts import MethodPolicy
from healthlb.core.call.failover import call_policy

_SAFE = (1, 2)  # protobuf's NO_SIDE_EFFECTS and IDEMPOTENT
_MOST_PATTERNS = 3


def is_idempotent(method: str, rule: Idempotent) -> bool:
    """Whether `/package.Service/Method` may be executed twice. What is not known is not idempotent.

    Args:
        method: the full method name.
        rule: `Failover.idempotent`: a bool, patterns, or None for the method's protobuf option
            `idempotency_level` in the default descriptor pool.
    """
    if isinstance(rule, bool):
        return rule
    if rule is not None:
        return bool(matching(method, rule))
    # Nobody has described a method to protobuf where it was not imported, and importing it takes 20 ms.
    descriptor_pool = sys.modules.get("google.protobuf.descriptor_pool")
    if descriptor_pool is None:
        return False
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return False
    is_safe: bool = descriptor.GetOptions().idempotency_level in _SAFE
    return is_safe


def matching(method: str, patterns: Iterable[str]) -> list[str]:
    """Return the patterns that match a full method name."""
    return [pattern for pattern in tuple(patterns) if fnmatchcase(method, pattern)]


def why_not(method: str, rule: Idempotent) -> str:
    """Return what errors say of a method that is not idempotent.

    Args:
        method: the full method name.
        rule: `Failover.idempotent`.
    """
    if rule is None or isinstance(rule, bool):
        return f"{method} is not idempotent: see Failover.idempotent"
    shown = ", ".join(map(repr, list(rule)[:_MOST_PATTERNS])) + (", ..." if len(rule) > _MOST_PATTERNS else "")
    return f"{method} is not idempotent: no pattern of Failover.idempotent matches it ({shown})"


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
        call = call_policy(failover, is_idempotent(name, failover.idempotent))
        for pattern in matching(name, self.unmatched):
            self.unmatched.pop(pattern, None)
        return MethodPolicy(
            call=call,
            timeout=said.timeout,
            wait_for_ready=bool(said.wait_for_ready),
            is_strict=failover.strict,
            buffer_limit=failover.buffer_limit,
            idempotency=why_not(name, failover.idempotent),
            unmatched=self.unmatched,
            # A6: a server may count on it where the policy is gRPC's own. Where a method is idempotent by the caller's
            # word, a connection that is lost between headers and status loses no call.
            headers_commit=not call.is_repeatable or self._is_said_by_config(said),
        )

    def _is_said_by_config(self, said: MethodConfig) -> bool:
        """Whether a retryPolicy or hedgingPolicy of the service config says how the method's calls are tried."""
        return self.failover is not None and said.retry is not None and not self.is_explicit

    def _failover(self, said: MethodConfig) -> Failover:
        frame = self.failover
        if frame is None:
            return _ONE_ATTEMPT
        if said.retry is None or not self._is_said_by_config(said):
            return frame
        # The method's own retry or hedging policy, in the channel's frame.
        return replace(said.retry, strict=frame.strict, buffer_limit=frame.buffer_limit, rescue=frame.rescue)

    def with_failover(self, failover: Failover | None) -> Policies:
        """Return the policies of a view with another failover."""
        return Policies(failover, is_explicit=True, config=self.config)
