"""Every option, with its unit, default, bound and source.

The one rule: a value is checked where it is given, and the error names the option, the value
and the bound. Seconds are floats here; the `*_ns` properties are what the core reads.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from healthlb.config_bounds import check_collection as check_collection
from healthlb.config_bounds import check_count as check_count
from healthlb.config_bounds import check_number as check_number
from healthlb.config_bounds import to_ns as to_ns
from healthlb.config_metadata import Metadata as Metadata
from healthlb.config_metadata import MetadataSource as MetadataSource
from healthlb.config_metadata import check_metadata as check_metadata
from healthlb.config_metadata import is_metadata as is_metadata
from healthlb.config_stability import FlapDamping as FlapDamping
from healthlb.config_stability import SlowStart as SlowStart
from healthlb.errors import ConfigError

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]{1,9})?)s")
_LONGEST = 315_576_000_000.0  # Seconds, of a protobuf Duration.


def parse_duration(name: str, value: object) -> float:
    """Return the seconds of a service config's duration, as `"1.5s"`; raise ConfigError where it is none."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"{name} must be a duration like '1.5s', not {value!r}")
    seconds = float(match[1])
    if seconds > _LONGEST:
        raise ConfigError(f"{name} must be at most {_LONGEST:.0f}s, not {value!r}")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter; the defaults are gRPC's connection backoff.

    Unlike grpc-go and C-core, the first delay is jittered too, so that clients whose Watches
    fail together do not come back together.

    Attributes:
        initial: the first delay, in seconds; above 0.
        multiplier: the growth from one delay to the next; at least 1.
        jitter: the share by which a delay varies either way; 0 to 1.
        maximum: no delay is longer than this before jitter, in seconds; at least `initial`.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    initial: float = 1.0
    multiplier: float = 1.6
    jitter: float = 0.2
    maximum: float = 120.0

    def __post_init__(self) -> None:
        check_number("Backoff.initial", self.initial, above=0)
        check_number("Backoff.multiplier", self.multiplier, low=1)
        check_number("Backoff.jitter", self.jitter, low=0, high=1)
        check_number("Backoff.maximum", self.maximum, low=self.initial)

    @property
    def initial_ns(self) -> int:
        """The first delay in nanoseconds."""
        return to_ns(self.initial)

    @property
    def maximum_ns(self) -> int:
        """The longest delay in nanoseconds."""
        return to_ns(self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a backend is noticed that hangs or is cut off without a reset.

    A Watch cannot tell: it stays open and silent. So a `Health/Check` goes out now and then over
    the same connection, and any answer at all, an error status included, is a sign of life.

    Attributes:
        interval: seconds of silence before a Check is sent; above 0. With more than 200
            subchannels in a process it stretches to their number / 20 s. Where there is no Watch, the health is asked
            for at this pace, too.
        timeout: seconds to wait for an answer; above 0.
        ping: whether a backend whose Check gets no answer is called by a method that nobody has registered, too, before
            it is taken for hung. A server whose threads are all at work answers that one, with UNIMPLEMENTED, and stays
            in. A healthy fleet is sent none. With it, backends are asked as soon as their calls are silent for longer
            than is usual; without it, when a deadline has passed.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    interval: float = 10.0
    timeout: float = 3.0
    ping: bool = True

    def __post_init__(self) -> None:
        check_number("Heartbeat.interval", self.interval, above=0)
        check_number("Heartbeat.timeout", self.timeout, above=0)
        if not isinstance(self.ping, bool):
            raise ConfigError(f"Heartbeat.ping must be True or False, not {self.ping!r}")

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        return to_ns(self.interval)

    @property
    def timeout_ns(self) -> int:
        """The timeout in nanoseconds."""
        return to_ns(self.timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the health of each subchannel is followed (gRFC A17 and where we go further).

    Attributes:
        backoff: between Watches that ended without an answer (gRFC A17).
        reconnect: of the connections; shorter than gRPC's own default, which leaves a backend
            out for 14 s after 30 s down.
        metadata: pairs that go with every Watch and Check; or a callable (or coroutine function) without arguments that
            returns them, asked for each Watch and each Check, as tokens expire. See docs/user_code.md.
        watch: False holds no Watch; `Health/Check` is asked at the heartbeat's pace instead. For servers that allow few
            calls or streams at a time.
        first_response_timeout: seconds until a Watch that says nothing counts as failed; above 0.
            A17 has none, so one stuck health service could hold up a whole channel.
        min_restart_interval: seconds; the floor under the "immediate" restart of a Watch that
            answered and ended. Grows with each quick end, forgotten after 10 s of a stable stream.
        heartbeat: a `Heartbeat`, or None for none.
        on_unimplemented: what is done where the server has no Watch. "check" asks `Health/Check` at the heartbeat's
            pace and follows its answers; where that is missing, too, the server counts as healthy. "healthy" (gRFC
            A17) and "unhealthy" ask nothing more.
        rise: how many SERVING in a row bring a subchannel back that was unhealthy; at least 1 (Envoy's
            `healthy_threshold`). The first status on a connection suffices.
        fall: how many other statuses in a row take it out; at least 1 (Envoy's `unhealthy_threshold`).
        confirm_interval: seconds for which a status stands until it counts as said again, for `rise` and `fall`; above
            0. A Watch tells of changes only, so its silence confirms. Where there is no Watch, a Check asks again.
        damping: a `FlapDamping`, or None for none.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    backoff: Backoff = field(default_factory=Backoff)
    reconnect: Backoff = field(default_factory=lambda: Backoff(initial=0.2, maximum=1.0))
    # No part of the repr: it may be a token.
    metadata: Metadata | MetadataSource = field(default=(), repr=False)
    watch: bool = True
    first_response_timeout: float = 10.0
    min_restart_interval: float = 0.1
    heartbeat: Heartbeat | None = field(default_factory=Heartbeat)
    on_unimplemented: str = "check"
    rise: int = 1
    fall: int = 1
    confirm_interval: float = 1.0
    damping: FlapDamping | None = None

    def __post_init__(self) -> None:
        check_number("HealthCheck.first_response_timeout", self.first_response_timeout, above=0)
        check_number("HealthCheck.min_restart_interval", self.min_restart_interval, above=0)
        for name, kind in (("backoff", Backoff), ("reconnect", Backoff)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"HealthCheck.{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        if self.heartbeat is not None and not isinstance(self.heartbeat, Heartbeat):
            raise ConfigError(f"HealthCheck.heartbeat must be a Heartbeat or None, not {self.heartbeat!r}")
        if not isinstance(self.watch, bool):
            raise ConfigError(f"HealthCheck.watch must be True or False, not {self.watch!r}")
        if self.on_unimplemented not in ("check", "healthy", "unhealthy"):
            raise ConfigError(
                "HealthCheck.on_unimplemented must be 'check', 'healthy' or 'unhealthy', "
                f"not {self.on_unimplemented!r}"
            )
        check_count("HealthCheck.rise", self.rise, low=1)
        check_count("HealthCheck.fall", self.fall, low=1)
        check_number("HealthCheck.confirm_interval", self.confirm_interval, above=0)
        if self.damping is not None and not isinstance(self.damping, FlapDamping):
            raise ConfigError(f"HealthCheck.damping must be a FlapDamping or None, not {self.damping!r}")
        if not callable(self.metadata):
            object.__setattr__(self, "metadata", check_metadata("HealthCheck.metadata", self.metadata))

    @property
    def first_response_timeout_ns(self) -> int:
        """The first-response timeout in nanoseconds."""
        return to_ns(self.first_response_timeout)

    @property
    def min_restart_interval_ns(self) -> int:
        """The floor between restarts in nanoseconds."""
        return to_ns(self.min_restart_interval)

    @property
    def confirm_interval_ns(self) -> int:
        """The confirmation interval in nanoseconds."""
        return to_ns(self.confirm_interval)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """To how many of a target's endpoints a channel connects (gRFC A68, random subsetting).

    Attributes:
        size: at least 1. Where the resolver gives no more, all are used. The SRE book has 20 to 100 for large fleets.
        seed: clients with equal seeds choose alike; None chooses a random one for each channel. Any whole number of
            64 bits, signed.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    size: int
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("Subset.size", self.size, low=1)
        if self.seed is not None:
            check_count("Subset.seed", self.seed, low=-(2**63), high=2**63 - 1)


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


_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


def code_name(option: str, code: object) -> str:
    """Return the name of a status that is given by name, number or `grpc.StatusCode`; raise ConfigError for others."""
    if isinstance(code, int) and not isinstance(code, bool) and 0 < code < len(_CODES):
        return _CODES[code]
    name = code.upper() if isinstance(code, str) else getattr(code, "name", None)
    if name not in _CODES[1:]:
        raise ConfigError(f"{option} must hold names of gRPC status codes other than OK, not {code!r}")
    return str(name)


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
