"""Each READY subchannel in turn, in proportion to its weight (gRPC's `weighted_round_robin`, gRFC A58).

The weight is the endpoint's own, times what the backend's load reports say (per-call trailers, gRFC A51): queries per
second for each unit of utilization, errors counting as extra load. Where no backend reports, the endpoints' weights
alone decide; equal ones make it a round robin.

New reports are not taken one by one: once in each `weight_update_period` the call that ends next has new weights made.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from healthlb.config import check_collection, check_number, parse_duration
from healthlb.core.load import Subchannel
from healthlb.core.pickers.arguments import snake_case
from healthlb.core.pickers.contract import CallEnd, CallInfo, PickerFactory
from healthlb.core.pickers.orca import LoadReport
from healthlb.core.pickers.static_stride import StaticStride
from healthlb.errors import ConfigError

_SECOND = 1_000_000_000
_SHORTEST_UPDATE_PERIOD = 0.1
_PERIODS = ("blackoutPeriod", "weightExpirationPeriod", "weightUpdatePeriod")


class ReportedWeight:
    """The weight that one backend's load reports come to."""

    __slots__ = ("_reported_at", "_since", "_weight")

    def __init__(self) -> None:
        self._weight = 0.0
        self._since: int | None = None
        self._reported_at = 0

    def reported(self, report: LoadReport, utilization: float, penalty: float, now: int) -> None:
        """Take in a report; one without queries or utilization says nothing (A58)."""
        if not (report.qps > 0 and utilization > 0):
            return
        utilization += max(0.0, report.eps) / report.qps * penalty
        weight = report.qps / utilization
        if not (math.isfinite(weight) and weight > 0):
            return
        self._weight = weight
        self._reported_at = now
        if self._since is None:
            self._since = now

    def value(self, now: int, expiry: int, blackout: int) -> float:
        """Return the weight, 0 where there is none that can be used: too young or too old."""
        if self._since is None:
            return 0.0
        if now - self._reported_at >= expiry:
            # A58: who comes back after that has its blackout again.
            self._since = None
            return 0.0
        return 0.0 if now - self._since < blackout else self._weight


def _check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    option = "WeightedRoundRobin.metric_names_for_computing_utilization"
    check_collection(option, names, "names of metrics")
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"{option} must hold names of metrics, not {name!r}")
    return tuple(names)


class WeightedRoundRobin(PickerFactory):
    """The factory: it owns the running number, and the reported weights of those that stay READY.

    Args:
        error_utilization_penalty: what an error adds to the utilization, per query; at least 0 (A58).
        blackout_period: seconds from a backend's first report until its weight counts; at least 0.
        weight_expiration_period: seconds until a weight is too old; above 0.
        weight_update_period: seconds between two choices of weights; less than 0.1 counts as 0.1 (A58).
        metric_names_for_computing_utilization: where a backend reports no application utilization, the largest of these
            counts, and the CPU's where it reports none of them; `cpu_utilization`, `mem_utilization`, or
            `named_metrics.x`, `utilization.x` and `request_cost.x` for what it calls x (gRFC A114).

    Raises:
        ConfigError: a value is out of its bounds.
    """

    needs_call = False
    needs_reports = True

    def __init__(
        self,
        *,
        error_utilization_penalty: float = 1.0,
        blackout_period: float = 10.0,
        weight_expiration_period: float = 180.0,
        weight_update_period: float = 1.0,
        metric_names_for_computing_utilization: Sequence[str] = (),
    ) -> None:
        check_number("WeightedRoundRobin.error_utilization_penalty", error_utilization_penalty, low=0)
        check_number("WeightedRoundRobin.blackout_period", blackout_period, low=0)
        check_number("WeightedRoundRobin.weight_expiration_period", weight_expiration_period, above=0)
        check_number("WeightedRoundRobin.weight_update_period", weight_update_period, low=0)
        self._metrics = _check_metrics(metric_names_for_computing_utilization)
        self._penalty = error_utilization_penalty
        self._blackout = round(blackout_period * _SECOND)
        self._expiry = round(weight_expiration_period * _SECOND)
        self._period = round(max(_SHORTEST_UPDATE_PERIOD, weight_update_period) * _SECOND)
        self._numbers: Iterator[int] = itertools.count()
        self._ready: dict[Subchannel, None] = {}
        # Of those that report; where nobody does, thousands cost a change of health nothing here.
        self._reported: dict[Subchannel, ReportedWeight] = {}
        self._picker = WeightedRoundRobinPicker(StaticStride((), (), self._numbers))
        self._has_reports = False
        self._updated_at = 0

    @classmethod
    def from_service_config(cls, arguments: Mapping[str, Any]) -> Self:
        """Return a factory for the arguments of gRPC's `WeightedRoundRobinLbConfig` (A58).

        Raises:
            ConfigError: one is out of its bounds.
        """
        given = dict(arguments)
        given |= {key: parse_duration(key, given[key]) for key in _PERIODS if key in given}
        return cls(**{snake_case(key): value for key, value in given.items()})

    def seed(self, rng: random.Random) -> None:
        """Start the rotation at a random place."""
        self._numbers = itertools.count(rng.getrandbits(31))

    def build(self, ready: Sequence[Subchannel]) -> WeightedRoundRobinPicker:
        """Return a picker that continues the rotation over `ready`.

        A backend that was away starts with a blackout, as in A58.
        """
        self._ready = dict.fromkeys(ready)
        # Calls add to the old dict meanwhile: it is looked into, and never iterated over.
        known = self._reported
        self._reported = {sub: known[sub] for sub in self._ready if sub in known} if known else {}
        self._picker = WeightedRoundRobinPicker(self._schedule(self._updated_at))
        return self._picker

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        """Take in how an attempt ended, and the backend's load."""
        if end.report is not None and sub in self._ready:
            reported = self._reported.get(sub) or self._reported.setdefault(sub, ReportedWeight())
            reported.reported(end.report, self._utilization(end.report), self._penalty, end.at)
            self._has_reports = True
        if self._has_reports and end.at - self._updated_at >= self._period:
            self._updated_at = end.at
            picker = self._picker
            picker.schedule = self._schedule(end.at)

    def _utilization(self, report: LoadReport) -> float:
        if report.application_utilization > 0:
            return report.application_utilization
        named = [value for name in self._metrics if (value := report.metric(name)) is not None]
        return max(named) if named else report.cpu_utilization

    def _schedule(self, now: int) -> StaticStride:
        subs = tuple(self._ready)
        weights = [sub.weight for sub in subs]
        if self._has_reports:
            heard = [self._reported.get(sub) for sub in subs]
            reported = [one.value(now, self._expiry, self._blackout) if one else 0.0 for one in heard]
            usable = [weight for weight in reported if weight]
            # A58: fewer than two are nothing to compare; who has none gets the mean.
            if len(usable) >= 2:
                mean = sum(usable) / len(usable)
                weights = [own * (weight or mean) for own, weight in zip(weights, reported, strict=True)]
        return StaticStride(subs, weights, self._numbers)


class WeightedRoundRobinPicker:
    """Picks by the present schedule.

    Attributes:
        schedule: replaced as a whole where there are new weights.
    """

    __slots__ = ("schedule",)

    def __init__(self, schedule: StaticStride) -> None:
        self.schedule: StaticStride = schedule

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the next subchannel by weight, past those that this call has tried."""
        return self.schedule.pick(call)
