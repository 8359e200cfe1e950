"""Laws of queues: one server, many, and how the core's own pickers deal calls to them.

Each claim is one line of a table that anyone can check against a textbook.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from healthlb.simulation.checks import theory
from healthlb.simulation.scenario.laws import Bimodal, Deterministic, Exponential, Law, Lognormal, Uniform
from healthlb.simulation.validation.claim import Claim
from healthlb.simulation.validation.fleet import MEAN, Fleet

SERVICES: dict[str, Law] = {
    "deterministic": Deterministic(MEAN),
    "uniform": Uniform(0, 2 * MEAN),
    "exponential": Exponential(MEAN),
    "lognormal, cv2 3": Lognormal.with_cv2(MEAN, 3.0),
    "bimodal": Bimodal(MEAN // 2, 11 * MEAN // 2, 0.1),
}
# A histogram's percentile may be 1 % off.
_HISTOGRAM = 0.01
_LATE = 3.0

Get = Callable[[Fleet], float]


def mean(fleet: Fleet) -> float:
    """Return the mean time."""
    return fleet.mean


def p99(fleet: Fleet) -> float:
    """Return the 99th percentile."""
    return fleet.quantile(0.99)


def refused(fleet: Fleet) -> float:
    """Return the share of calls refused."""
    return fleet.refused_share


def seen(fleet: Fleet) -> float:
    """Return how many others a call meets."""
    return fleet.seen_mean


def late(fleet: Fleet) -> float:
    """Return the share of questions that wait for a slot for longer than three mean services."""
    return sum(wait > _LATE for wait in fleet.waits) / len(fleet.waits)


def little(fleet: Fleet) -> float:
    """Return L / (lambda W)."""
    return fleet.littles_ratio


def measure(get: Get, rho: float, calls: int, seed: int, **options: object) -> float:
    """Run one fleet, and return what is asked of it."""
    return get(Fleet(seed, rho, calls, **options).run())  # type: ignore[arg-type]


class _Table:
    """Collects claims that share their number of calls and their precision."""

    def __init__(self, quick: bool) -> None:
        self.rows: list[Claim] = []
        self._quick = quick

    def add(self, law: str, expected: float, get: Get, rho: float, /, *, case: str = "", calls: int = 100_000,
            precision: float = 0.02, tolerance: float = 0.02, bias: float = 0.0, source: str = "",
            **options: object) -> None:  # fmt: skip
        """Add a row; quickly, it has a fifth of the calls and a quarter of the precision."""
        if self._quick:
            calls, precision = calls // 5, 4 * precision
        run = partial(_measure, get, rho, calls, options)
        name = ", ".join(part for part in (f"rho {rho:g}", case, "" if get is mean else get.__name__) if part)
        self.rows.append(
            Claim(law=law, case=name, expected=expected, measure=run, precision=precision, tolerance=tolerance,
                  bias=bias, source=source)
        )  # fmt: skip


def _measure(get: Get, rho: float, calls: int, options: dict[str, object], seed: int) -> float:
    return measure(get, rho, calls, seed, **options)


def claims(quick: bool = False) -> tuple[Claim, ...]:
    """Return the laws of queues."""
    table = _Table(quick)
    _one_server(table)
    _many_slots(table)
    _any_service(table)
    _pickers(table)
    return tuple(table.rows)


def _one_server(table: _Table) -> None:
    for rho in (0.5, 0.8):
        table.add("M/M/1", theory.mm1_mean(rho), mean, rho, precision=0.03 if rho > 0.5 else 0.02)
        table.add("M/M/1", theory.mm1_percentile(rho, 0.99), p99, rho, precision=0.04, bias=_HISTOGRAM, tolerance=0.04)
    table.add("M/M/1 LIFO", theory.mm1_mean(0.5), mean, 0.5, discipline="lifo")
    table.add("PASTA", 0.7 / 0.3, seen, 0.7, precision=0.03, source="Wolff, 1982")
    table.add("Little", 1.0, little, 0.8, calls=100_000, precision=0.005, tolerance=0.005, source="Little, 1961")
    table.add("M/M/1/K", theory.mm1k_loss(0.9, 5), refused, 0.9, case="room for 5", queue=4, precision=0.03)


def _many_slots(table: _Table) -> None:
    for slots, rho in ((4, 0.8), (16, 0.9)):
        table.add("M/M/c", theory.mmc_mean(slots, rho), mean, rho, case=f"{slots} slots", slots=slots, precision=0.03,
                  source="Erlang C")  # fmt: skip
    for slots, rho in ((1, 0.7), (4, 0.8)):
        expected = theory.waits_longer(slots, rho, _LATE)
        table.add("Checks in the pool", expected, late, rho, case=f"{slots} slots", slots=slots, ask_every=2.0,
                  precision=0.05, tolerance=0.05, source="C(c, a) exp(-(c - a) t)")  # fmt: skip
    for name in ("exponential", "lognormal, cv2 3"):
        table.add("M/G/c/c", theory.erlang_b(5, 4.0), refused, 0.8, case=f"5 slots, {name}", slots=5, queue=0,
                  law=SERVICES[name], source="Erlang B")  # fmt: skip


def _any_service(table: _Table) -> None:
    for name, law in SERVICES.items():
        cv2 = law.mean_square / law.mean**2 - 1
        table.add("M/G/1 FIFO", theory.mg1_fifo_mean(0.5, cv2), mean, 0.5, case=name, law=law, precision=0.03,
                  source="Pollaczek, Khinchine")  # fmt: skip
    for name, law in SERVICES.items():
        table.add("M/G/1 PS", theory.mg1_ps_mean(0.6), mean, 0.6, case=name, law=law, discipline="ps", calls=80_000,
                  precision=0.03, source="Kleinrock")  # fmt: skip


def _pickers(table: _Table) -> None:
    table.add("random", theory.supermarket(0.7, 1), mean, 0.7, case="20 backends", backends=20, picker="random",
              precision=0.03)  # fmt: skip
    table.add("E_k/M/1", theory.em1_mean(5, 0.8), mean, 0.8, case="round_robin, 5 backends", backends=5,
              precision=0.03)  # fmt: skip
    # From a warm-up of 20 % on, a hundred backends have heard the clock often enough.
    table.add("D/M/1", theory.dm1_mean(0.8), mean, 0.8, case="round_robin, 100 backends", backends=100, bias=0.01,
              precision=0.03)  # fmt: skip
    for rho in (0.7, 0.9):
        table.add("supermarket d=2", theory.supermarket(rho), mean, rho, case="least_request, 100 backends",
                  backends=100, picker="least_request", bias=0.01, source="Mitzenmacher; Vvedenskaya")  # fmt: skip
