"""The options of calls that fail: which are tried again, how often, and within which budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from healthlb.config.backoff import Backoff
from healthlb.config.bounds import (
    check_collection,
    check_count,
    check_number,
    code_name,
    to_ns,
)
from healthlb.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How many attempts after the first a channel may make (Finagle's RetryBudget).

    Attributes:
        ratio: attempts per call of the last `ttl` seconds; 0 to 1000.
        min_per_second: attempts per second that are allowed in any case; at least 0.
        ttl: seconds for which a call counts; above 0.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    ratio: float = 0.2
    min_per_second: float = 10.0
    ttl: float = 10.0

    def __post_init__(self) -> None:
        check_number("RetryBudget.ratio", self.ratio, low=0, high=1000)
        check_number("RetryBudget.min_per_second", self.min_per_second, low=0)
        check_number("RetryBudget.ttl", self.ttl, above=0)

    @property
    def ttl_ns(self) -> int:
        """The ttl in nanoseconds."""
        return to_ns(self.ttl)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryThrottle:
    """gRPC's own budget (gRFC A6, `retryThrottling`): attempts are made while more than half of the tokens are left.

    Attributes:
        max_tokens: above 0, at most 1000. Each failed attempt takes one.
        token_ratio: what a successful call gives back; at least 0.001.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    max_tokens: int
    token_ratio: float

    def __post_init__(self) -> None:
        check_number("RetryThrottle.max_tokens", self.max_tokens, above=0, high=1000)
        check_number("RetryThrottle.token_ratio", self.token_ratio, low=0.001)


Idempotent = bool | Collection[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """What happens to a call whose attempt fails.

    An attempt that reached no server goes to another subchannel whatever the method is. Any other may have been
    executed, and is made again only where the method is idempotent.

    Attributes:
        max_attempts: attempts that may have reached a server, the first included; 1 to 20.
        codes: statuses that another attempt might mend, as names or `grpc.StatusCode`.
        idempotent: True for all methods; a collection of full method names or `fnmatch` patterns
            (`"/shop.Cart/Get*"`); False for none; None for what each method's protobuf option
            `idempotency_level` says.
        strict: take only proof that an attempt never left, not C-core's text of a refused connection.
        budget: `RetryBudget` or `RetryThrottle`, None for no limit but `max_attempts`.
        backoff: waits between attempts, None to go elsewhere at once.
        attempt_timeout: seconds for each attempt, None for the call's deadline only; above 0.
        hedging_delay: seconds after which an idempotent unary call is sent to another subchannel as well,
            None for never; at least 0 (gRFC A6).
        buffer_limit: bytes of a stream of requests that are kept to be sent again; at least 0.
        rescue: whether idempotent calls go elsewhere at once that are in flight on a backend that is found hung.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    max_attempts: int = 3
    codes: Collection[Any] = ("UNAVAILABLE", "CANCELLED")
    idempotent: Idempotent = None
    strict: bool = False
    budget: RetryBudget | RetryThrottle | None = field(default_factory=RetryBudget)
    backoff: Backoff | None = None
    attempt_timeout: float | None = None
    hedging_delay: float | None = None
    buffer_limit: int = 262144
    rescue: bool = True

    def __post_init__(self) -> None:
        check_count("Failover.max_attempts", self.max_attempts, low=1, high=20)
        check_count("Failover.buffer_limit", self.buffer_limit, low=0)
        check_collection("Failover.codes", self.codes, "a collection of status codes")
        object.__setattr__(self, "codes", frozenset(code_name("Failover.codes", code) for code in self.codes))
        if not isinstance(self.idempotent, bool | None):
            object.__setattr__(self, "idempotent", _check_patterns(self.idempotent))
        if not isinstance(self.budget, RetryBudget | RetryThrottle | None):
            raise ConfigError(f"Failover.budget must be a RetryBudget, a RetryThrottle or None, not {self.budget!r}")
        if not isinstance(self.backoff, Backoff | None):
            raise ConfigError(f"Failover.backoff must be a Backoff or None, not {self.backoff!r}")
        if self.attempt_timeout is not None:
            check_number("Failover.attempt_timeout", self.attempt_timeout, above=0)
        if self.hedging_delay is not None:
            check_number("Failover.hedging_delay", self.hedging_delay, low=0)


def _check_patterns(patterns: object) -> tuple[str, ...]:
    wanted = "a bool, None or a collection of method names"
    check_collection("Failover.idempotent", patterns, wanted)
    if not isinstance(patterns, Collection) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(f"Failover.idempotent must be {wanted}, not {patterns!r}")
    for pattern in patterns:
        if not pattern.startswith(("/", "*")):
            raise ConfigError(
                f"Failover.idempotent must hold full method names like '/package.Service/Method', not {pattern!r}"
            )
    return tuple(patterns)
