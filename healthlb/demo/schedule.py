"""Which fault hits which backend when.

At most one backend is bad at a time, each is given time to come back, and the
last fault is over before the end. The same arguments give the same schedule.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

# Shorter runs have shorter faults, down to half of what follows at 5 s.
FULL_PACE_FROM = 10.0
# A hang shows only when a heartbeat is missed: 10 s of silence and 3 s of waiting by default.
HANG_FROM = 40.0
LEAD = 1.0


class FaultKind(enum.Enum):
    """What is done to a backend."""

    NOT_SERVING = "not_serving"
    KILL = "kill"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Fault:
    """One backend is bad for a while.

    Attributes:
        kind: what is done to it.
        backend: its index.
        begins_at: seconds after the traffic began.
        ends_at: seconds after the traffic began, when the repair is started.
    """

    kind: FaultKind
    backend: int
    begins_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class _Shape:
    """Seconds that a fault of one kind lasts: from `shortest` to `longest`, then `rest` without another fault."""

    shortest: float
    longest: float
    rest: float


_SHAPES = {
    FaultKind.NOT_SERVING: _Shape(1.5, 2.5, rest=1.5),
    # The rest covers the start of a new process and one wait of the reconnect backoff.
    FaultKind.KILL: _Shape(1.0, 2.0, rest=3.0),
    FaultKind.HANG: _Shape(16.0, 18.0, rest=4.0),
}


def plan(seed: int, duration: float, backends: int) -> tuple[Fault, ...]:
    """Lay out the faults of one run.

    Args:
        seed: of the random choices.
        duration: of the run, in seconds; at least 5.
        backends: how many there are; at least 2.
    """
    rng = random.Random(seed)
    packed, end = _packed(rng, duration, backends)
    slack = max(0.0, duration - end)
    delays = sorted(rng.uniform(0.0, slack) for _ in packed)
    return tuple(
        Fault(fault.kind, fault.backend, fault.begins_at + delay, fault.ends_at + delay)
        for fault, delay in zip(packed, delays, strict=True)
    )


def _packed(rng: random.Random, duration: float, backends: int) -> tuple[list[Fault], float]:
    pace = min(1.0, duration / FULL_PACE_FROM)
    kinds = [FaultKind.NOT_SERVING, FaultKind.KILL] + [FaultKind.HANG] * (duration >= HANG_FROM)
    faults: list[Fault] = []
    at = LEAD * pace
    round_left: list[FaultKind] = []
    while kinds:
        round_left = round_left or rng.sample(kinds, len(kinds))
        kind = round_left.pop()
        shape = _SHAPES[kind]
        ends_at = at + rng.uniform(shape.shortest, shape.longest) * pace
        if ends_at + shape.rest * pace > duration:
            kinds = [other for other in kinds if other is not kind]
            round_left = [other for other in round_left if other is not kind]
            continue
        faults.append(Fault(kind, _another(rng, backends, faults), at, ends_at))
        at = ends_at + shape.rest * pace
    return faults, at


def _another(rng: random.Random, backends: int, faults: list[Fault]) -> int:
    last = faults[-1].backend if faults else None
    return rng.choice([index for index in range(backends) if index != last])
