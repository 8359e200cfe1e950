"""Small worlds for tests."""

from __future__ import annotations

from typing import Any

from healthlb.simulation.scenario.laws import Deterministic, Exponential
from healthlb.simulation.scenario.scenario import (
    MILLISECOND,
    SECOND,
    BackendGroup,
    ClientGroup,
    Fault,
    Load,
    Policy,
    Scenario,
)
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.world import World

MS = MILLISECOND
TEN = Deterministic(10 * MS)
ABOUT_TEN = Exponential(10 * MS)


def scenario(
    *faults: Fault,
    backends: dict[str, Any] | None = None,
    clients: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    rate: float = 400.0,
    seconds: float = 10.0,
    **more: Any,
) -> Scenario:
    """Return a world of four backends and one client, but for what is said."""
    group = {"count": 4, "slots": 20, "service": ABOUT_TEN, **(backends or {})}
    callers = {"load": Load(rate=rate), "deadline": 500 * MS, **(clients or {})}
    return Scenario(
        name="test",
        duration=round(seconds * SECOND),
        backends=(BackendGroup(**group),),
        clients=(ClientGroup(**callers),),
        policies={"p": Policy(**(policy or {}))},
        faults=faults,
        **{"warmup": 100 * MS, "drain": 5 * SECOND, **more},
    )


def play(*faults: Fault, trace: int = 0, replication: int = 0, **more: Any) -> RunRecord:
    """Run such a world."""
    return World(scenario(*faults, **more), "p", replication, trace=trace).run()


def beliefs(record: RunRecord, place: int = 0) -> list[tuple[float, str]]:
    """Return what client 0 took a backend for, in milliseconds."""
    return [(round(at / MS, 3), state) for at, state in record.lanes[place].belief]


def truths(record: RunRecord, place: int = 0) -> list[tuple[float, str]]:
    """Return what a backend was, in milliseconds."""
    return [(round(at / MS, 3), state) for at, state in record.lanes[place].truth]


def errors(record: RunRecord) -> dict[str, int]:
    """Return the calls that failed, by status."""
    return {name: sum(bins) for name, bins in record.bins.errors.items()}
