"""The options of passive health: which failures count, who is ejected, for how long, and how it returns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from healthlb.config.bounds import check_collection, check_count, check_number, code_name, to_ns
from healthlb.errors import ConfigError

# What says "this backend is broken". NOT_FOUND and the application's other codes say that it works.
_CODES = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """Ejects who succeeds less often than the others (gRFC A50's `successRateEjection`).

    Attributes:
        stdev_factor: thousandths of a standard deviation below the mean; at least 0.
        enforcement: the chance of an ejection, in percent; 0 to 100.
        minimum_hosts: subchannels with enough calls that it takes; at least 1.
        request_volume: calls in an interval that are enough; at least 1.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    stdev_factor: int = 1900
    enforcement: int = 100
    minimum_hosts: int = 5
    request_volume: int = 100

    def __post_init__(self) -> None:
        check_count("SuccessRate.stdev_factor", self.stdev_factor, low=0)
        _check_volume("SuccessRate", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePercentage:
    """Ejects who fails more calls than a fixed share (gRFC A50's `failurePercentageEjection`).

    Attributes:
        threshold: percent of failed calls above which it acts; 0 to 100.
        enforcement: the chance of an ejection, in percent; 0 to 100.
        minimum_hosts: subchannels with enough calls that it takes; at least 1.
        request_volume: calls in an interval that are enough; at least 1.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    threshold: int = 85
    enforcement: int = 100
    minimum_hosts: int = 5
    request_volume: int = 50

    def __post_init__(self) -> None:
        check_count("FailurePercentage.threshold", self.threshold, low=0, high=100)
        _check_volume("FailurePercentage", self)


def _check_volume(option: str, rule: SuccessRate | FailurePercentage) -> None:
    check_count(f"{option}.enforcement", rule.enforcement, low=0, high=100)
    check_count(f"{option}.minimum_hosts", rule.minimum_hosts, low=1)
    check_count(f"{option}.request_volume", rule.request_volume, low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Passive health: a subchannel whose calls fail is ejected for a while, whatever its health service says.

    It returns through one call, the probe. The last healthy subchannel is never ejected.

    Attributes:
        codes: statuses that count as failures, as names or `grpc.StatusCode`. DEADLINE_EXCEEDED counts only
            where the others meet their deadlines.
        consecutive_failures: in a row that eject at once, None for no such rule; at least 1.
        consecutive_connection_failures: connections in a row, each lost with failed calls and no success, that
            eject; None for no such rule; at least 1.
        success_rate: a `SuccessRate`, or None (gRFC A50).
        failure_percentage: a `FailurePercentage`, or None (gRFC A50).
        latency_factor: times the median latency of all, measured by calls in flight, that eject; above 1. None,
            the default, for no such rule.
        latency_floor: seconds that are fast enough in any case; above 0.
        interval: seconds between two looks at rates and latencies; above 0 (gRFC A50).
        base_ejection_time: seconds of the first ejection; above 0. gRFC A50's is 30.
        ejection_growth: times the last one's duration that the next ejection in short order takes; 1 to 10. None is
            gRFC A50's growth: the n-th takes n times as long as the first.
        max_ejection_time: seconds; no ejection is longer, before jitter; at least `base_ejection_time` (gRFC A50).
        max_ejection_percent: of the subchannels, rounded up, that may be out when one is ejected; those out for
            any other reason count too; 0 to 100. A50's 10 counts ejections alone.
        load_shedding: whether calls are refused at once, with UNAVAILABLE, while subchannels hang and the others have
            too much to do: as many as these cannot do, and at most the share that those that hang had.
        jitter: an ejection is longer by up to this share, so that not all clients return at once; 0 to 1.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    codes: Collection[Any] = _CODES
    consecutive_failures: int | None = 5
    consecutive_connection_failures: int | None = 5
    success_rate: SuccessRate | None = field(default_factory=SuccessRate)
    failure_percentage: FailurePercentage | None = field(default_factory=FailurePercentage)
    latency_factor: float | None = None
    latency_floor: float = 0.1
    interval: float = 10.0
    base_ejection_time: float = 1.0
    ejection_growth: float | None = 2.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 50
    load_shedding: bool = True
    jitter: float = 0.1

    def __post_init__(self) -> None:
        self._check_rules()
        if self.latency_factor is not None:
            check_number("Outliers.latency_factor", self.latency_factor, above=1)
        check_number("Outliers.latency_floor", self.latency_floor, above=0)
        check_number("Outliers.interval", self.interval, above=0)
        check_number("Outliers.base_ejection_time", self.base_ejection_time, above=0)
        if self.ejection_growth is not None:
            check_number("Outliers.ejection_growth", self.ejection_growth, low=1, high=10)
        check_number("Outliers.max_ejection_time", self.max_ejection_time, low=self.base_ejection_time)
        check_count("Outliers.max_ejection_percent", self.max_ejection_percent, low=0, high=100)
        check_number("Outliers.jitter", self.jitter, low=0, high=1)

    def _check_rules(self) -> None:
        check_collection("Outliers.codes", self.codes, "a collection of status codes")
        object.__setattr__(self, "codes", frozenset(code_name("Outliers.codes", code) for code in self.codes))
        for name in ("consecutive_failures", "consecutive_connection_failures"):
            if getattr(self, name) is not None:
                check_count(f"Outliers.{name}", getattr(self, name), low=1)
        if not isinstance(self.success_rate, SuccessRate | None):
            raise ConfigError(f"Outliers.success_rate must be a SuccessRate or None, not {self.success_rate!r}")
        if not isinstance(self.failure_percentage, FailurePercentage | None):
            raise ConfigError(
                f"Outliers.failure_percentage must be a FailurePercentage or None, not {self.failure_percentage!r}"
            )

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        return to_ns(self.interval)

    @property
    def latency_floor_ns(self) -> int:
        """What is fast enough in nanoseconds."""
        return to_ns(self.latency_floor)

    @property
    def base_ejection_time_ns(self) -> int:
        """The first ejection's time in nanoseconds."""
        return to_ns(self.base_ejection_time)

    @property
    def max_ejection_time_ns(self) -> int:
        """The longest ejection's time in nanoseconds."""
        return to_ns(self.max_ejection_time)
