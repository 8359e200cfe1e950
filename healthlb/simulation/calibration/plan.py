"""What is done in both worlds: when each call is made, how much work it is, and when a backend says it is out.

Both worlds get the same plan. The simulator draws none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from healthlb.simulation.scenario.scenario import SECOND, Scenario
from healthlb.simulation.scenario_files.scenario_file import parse_scenario

BACKENDS = 3
SLOTS = 4
RATE = 200.0
WORK = 0.025
FLAPPING, FAILING = 1, 2
# Each so many-th call of the failing one.
ERRORS = 16
_PERIODS = 4


@dataclass(frozen=True, slots=True)
class Flip:
    """A change of a backend's serving status; `at` is in nanoseconds from the beginning."""

    at: int
    backend: int
    status: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls and the faults of a calibration.

    Attributes:
        duration: nanoseconds.
        times: when each call is made, in nanoseconds from the beginning.
        works: of each call, nanoseconds in a slot.
        flips: in the order of time.
        picker: of the channel.
    """

    duration: int
    times: tuple[int, ...]
    works: tuple[int, ...]
    flips: tuple[Flip, ...]
    picker: str = "round_robin"

    @property
    def half(self) -> int:
        """Where the measuring ends and the judging begins."""
        return self.duration // 2


class Sequenced:
    """A law that gives what it was given, one after the other."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self._next = 0

    @property
    def mean(self) -> float:
        """Of all values, in nanoseconds."""
        return sum(self._values) / len(self._values)

    @property
    def mean_square(self) -> float:
        """Of all values."""
        return sum(value * value for value in self._values) / len(self._values)

    def draw(self, random: Callable[[], float], /) -> int:
        """Return the next value."""
        value = self._values[self._next]
        self._next += 1
        return value


def make_plan(seconds: float, seed: int, picker: str = "round_robin") -> Plan:
    """Return the plan: Poisson calls, exponential work, a backend that is out in the second half of each period."""
    duration = int(seconds * SECOND)
    arrivals, work = Random(f"arrivals {seed}"), Random(f"work {seed}")
    times, at = [], 0
    while (at := at + _exponential(arrivals, 1 / RATE)) < duration:
        times.append(at)
    works = tuple(_exponential(work, WORK) for _ in times)
    period = duration // _PERIODS
    flips = []
    for number in range(_PERIODS):
        flips.append(Flip(number * period + period // 2, FLAPPING, "NOT_SERVING"))
        flips.append(Flip((number + 1) * period, FLAPPING, "SERVING"))
    return Plan(duration, tuple(times), works, tuple(flips), picker)


def _exponential(random: Random, mean: float) -> int:
    return max(1, round(-math.log(1 - random.random()) * mean * SECOND))


def make_scenario(plan: Plan, works: Sequence[int]) -> Scenario:
    """Return the plan as the simulator takes it.

    Args:
        plan: what is done.
        works: of each call, in place of the plan's.
    """
    period = plan.duration / _PERIODS / SECOND
    flap = {"kind": "health", "target": f"b{FLAPPING}", "from": 0, "period": period, "duty": 0.5}
    content: dict[str, Any] = {
        "name": "calibration",
        "duration": plan.duration / SECOND,
        "backend": [{"name": "b", "count": BACKENDS, "slots": SLOTS, "wire": 0,
                     "service": {"dist": "exponential", "mean": WORK}}],
        "client": [{"name": "c", "load": {"trace": [at / SECOND for at in plan.times]}, "idempotent": True}],
        "policy": {"real": {"preset": "default", "picker": plan.picker, "outliers": False}},
        "faults": {"timeline": [flap, {"kind": "error", "target": f"b{FAILING}", "from": 0, "rate": 1 / ERRORS}]},
    }  # fmt: skip
    scenario = parse_scenario(content, "calibration")
    (client,) = scenario.clients
    return replace(scenario, clients=(replace(client, work=Sequenced(works)),))
