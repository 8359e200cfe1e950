"""What a check is, what came of it, and when that counts.

The one rule: nothing here runs anything or reads a clock.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from healthlb.config import check_count, check_number
from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError

Probe = Callable[[], Awaitable[object] | object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A dependency that is looked at now and then.

    Attributes:
        probe: a function or coroutine function without arguments that raises when the dependency is unhealthy and
            returns None (or True) when it is healthy. Anything else that it returns counts as unhealthy.
        interval: seconds from the start of one run to the start of the next; above 0. Runs never overlap.
        timeout: seconds after which a run counts as failed; above 0.
        jitter: the share by which the interval varies either way; 0 to 1.
        fail_after: failed runs in a row that turn a healthy check unhealthy; at least 1.
        pass_after: passed runs in a row that turn an unhealthy check healthy; at least 1. The first run of all
            decides at once, either way.
        critical: whether `""`, the server as a whole, depends on it. The services that name it always do.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    probe: Probe
    interval: float = 10.0
    timeout: float = 5.0
    jitter: float = 0.1
    fail_after: int = 1
    pass_after: int = 1
    critical: bool = True

    def __post_init__(self) -> None:
        if not callable(self.probe):
            raise ConfigError(f"Check.probe must be callable, not {self.probe!r}")
        check_no_arguments("Check.probe", self.probe)
        check_number("Check.interval", self.interval, above=0)
        check_number("Check.timeout", self.timeout, above=0)
        check_number("Check.jitter", self.jitter, low=0, high=1)
        check_count("Check.fail_after", self.fail_after, low=1)
        check_count("Check.pass_after", self.pass_after, low=1)


def check_no_arguments(option: str, function: Callable[..., object]) -> None:
    """Raise `ConfigError` where a function cannot be called without arguments."""
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ConfigError(f"{option} must be callable without arguments, not {function!r}: {error}") from error
    except ValueError:  # Some functions in C have no signature.
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What is known of a check.

    Attributes:
        name: of the check.
        status: UNKNOWN before its first run, else SERVING or NOT_SERVING, hysteresis included.
        error: of the last run; "" where it passed or there was none.
        duration: seconds that the last run took.
        age: seconds since the last run ended; None where there was none.
        runs: how often it ran.
        critical: as the check has it.
    """

    name: str
    status: ServingStatus
    error: str
    duration: float
    age: float | None
    runs: int
    critical: bool


@dataclass(slots=True)
class Record:
    """The state of one check: the last run, and how many in a row spoke against the status.

    Attributes:
        check: the check.
        status: as `CheckResult` has it.
        error: of the last run.
        duration: of the last run, in seconds.
        ended_at: when the last run ended, in seconds; None where there was none.
        runs: how often it ran.
        against: runs in a row that contradict the status.
    """

    check: Check
    status: ServingStatus = ServingStatus.UNKNOWN
    error: str = ""
    duration: float = 0.0
    ended_at: float | None = None
    runs: int = 0
    against: int = 0

    def add(self, error: str, duration: float, now: float) -> None:
        """Count a run; `error` is "" where it passed."""
        self.error, self.duration, self.ended_at = error, duration, now
        self.runs += 1
        seen = ServingStatus.NOT_SERVING if error else ServingStatus.SERVING
        if seen is self.status:
            self.against = 0
            return
        self.against += 1
        needed = self.check.fail_after if error else self.check.pass_after
        if self.status is ServingStatus.UNKNOWN or self.against >= needed:
            self.status, self.against = seen, 0

    def result(self, name: str, now: float) -> CheckResult:
        """Return what is known at `now`, in seconds."""
        return CheckResult(
            name=name,
            status=self.status,
            error=self.error,
            duration=self.duration,
            age=None if self.ended_at is None else now - self.ended_at,
            runs=self.runs,
            critical=self.check.critical,
        )
