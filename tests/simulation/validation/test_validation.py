"""Laws hold in the simulator, and where one is broken it is said not to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from healthlb.core.load import Load
from healthlb.simulation.checks import theory
from healthlb.simulation.scenario.laws import Deterministic, Exponential
from healthlb.simulation.validation import Claim, attempt_laws, claims, examine, worlds
from healthlb.simulation.validation import queues as laws
from healthlb.simulation.validation.fleet import MEAN, Fleet
from healthlb.simulation.world.work import WorkSource

QUICK = claims(quick=True)
# One of each kind; all of them take `healthlb simulate validate --quick`.
HERE = ("M/M/1", "Little", "M/G/c/c", "M/G/1 FIFO", "M/G/1 PS", "supermarket d=2", "D/M/1", "crash loss", "drain loss",
        "recovery from a dip", "attempts that time out", "hedging")  # fmt: skip
RULES = ("A50 blind spot", "A6 throttle's edge", "A6 throttle's bound", "retry budget's bound", "two choices, static",
         "random subsets' churn", "random subsets' spread", "metastability's edge", "flap damping's edge",
         "flap damping")  # fmt: skip


def first(law: str) -> Claim:
    return next(claim for claim in QUICK if claim.law == law)


@pytest.mark.parametrize("law", HERE)
def test_a_law_holds(law: str) -> None:
    """With half of the replications of `--quick`, and so of half the precision."""
    claim = first(law)

    assert examine(replace(claim, replications=4, most=4, precision=4 * claim.precision)).reason == ""


@pytest.mark.parametrize("claim", [claim for claim in QUICK if claim.law in RULES], ids=lambda c: f"{c.law}: {c.case}")
def test_the_core_keeps_its_rules(claim: Claim) -> None:
    assert examine(claim).reason == ""


def test_no_two_claims_are_the_same() -> None:
    names = [(claim.law, claim.case) for claim in QUICK]

    assert len(set(names)) == len(names)
    assert {claim.law for claim in QUICK} >= {*HERE, *RULES}
    assert [(c.law, c.case, c.expected) for c in QUICK] == [(c.law, c.case, c.expected) for c in claims()]


# --- and they can fail -------------------------------------------------------------------------------


def broken(expected: float, rho: float, get: laws.Get = laws.mean, **options: object) -> str:
    run = partial(_run, get, rho, options)
    return examine(
        Claim(law="x", case="y", expected=expected, measure=run, replications=4, most=4, precision=0.3)
    ).reason


def _run(get: laws.Get, rho: float, options: dict[str, object], seed: int) -> float:
    return laws.measure(get, rho, 8_000, seed, **options)


@pytest.mark.parametrize(
    ("expected", "rho", "options"),
    [
        # Work that is not what it is said to be, one slot too many, another discipline.
        (theory.mm1_mean(0.5), 0.5, {"law": Deterministic(MEAN)}),
        (theory.mm1_mean(0.5), 0.57, {}),
        (theory.mmc_mean(4, 0.8), 0.8, {"slots": 3}),
        (theory.mg1_ps_mean(0.6), 0.6, {"law": Deterministic(MEAN)}),
        (theory.mg1_fifo_mean(0.5, 0), 0.5, {"law": Deterministic(MEAN), "discipline": "ps"}),
        # The picker is another one than is claimed.
        (theory.supermarket(0.7), 0.7, {"backends": 20, "picker": "random"}),
        (theory.supermarket(0.7, 1), 0.7, {"backends": 20, "picker": "round_robin"}),
        (theory.dm1_mean(0.8), 0.8, {"backends": 20, "picker": "least_request"}),
    ],
)  # fmt: skip
def test_a_broken_system_is_noticed(expected: float, rho: float, options: dict[str, object]) -> None:
    assert broken(expected, rho, **options) != ""


@pytest.mark.parametrize(
    ("law", "measure"),
    [
        # Other wires, a longer warning, less load, and the other side of the edge.
        ("crash loss", partial(worlds._lost_by_crashes, 10, 10)),
        ("drain loss", partial(worlds._lost_by_drains, 10, 15)),
        ("recovery from a dip", partial(worlds._recovery, 0.2, 1)),
        ("metastability's edge", partial(worlds._in_the_end, 0.45, 1, False)),
        ("flap damping", lambda seed: worlds._released_after(seed) * 1.01),
    ],
)
def test_a_broken_world_is_noticed(law: str, measure: Callable[[int], float]) -> None:
    claim = first(law)
    replications = min(4, claim.replications)

    assert examine(replace(claim, measure=measure, replications=replications, most=4, precision=9)).reason != ""


def test_damping_after_too_few_flaps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "_FLAPS", 6)

    # Six flaps are too few for a steady state: the formula is not about them.
    assert examine(first("flap damping")).reason != ""


def test_a_hedge_that_comes_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt_laws, "_HEDGE_AT", 0.04)

    assert examine(replace(first("hedging"), replications=2, most=2, precision=9)).reason != ""


@pytest.mark.parametrize("case", ["three on equal", "two, half of ten", "mean, in means", "p99, in means"])
def test_attempts_that_share_their_luck_are_noticed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry or a hedge must not be as much work as the attempt before it."""
    monkeypatch.setattr(WorkSource, "again", lambda self, client: None)
    claim = next(claim for claim in QUICK if case in claim.case)

    assert examine(replace(claim, replications=4, most=4, precision=9)).reason != ""


def test_work_that_belongs_to_a_call_is_kept_by_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    again = WorkSource.again

    def anew(self: WorkSource, client: str) -> object:
        self._own = None
        return again(self, client)

    monkeypatch.setattr(WorkSource, "again", anew)
    claim = next(claim for claim in QUICK if "belongs to the call" in claim.case)

    assert examine(replace(claim, replications=4, most=4, precision=9)).reason != ""


def test_refusals_that_are_not_erlangs_are_noticed() -> None:
    assert broken(theory.erlang_b(5, 4.0), 0.8, laws.refused, slots=5, queue=1) != ""


def test_a_call_that_is_counted_out_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak in the core's count of calls in flight: two choices see less than there is."""
    succeed = Load.succeed

    def twice(load: Load, now: int) -> None:
        succeed(load, now)
        load.in_flight = max(0, load.in_flight - 1)

    monkeypatch.setattr(Load, "succeed", twice)

    assert broken(theory.supermarket(0.9), 0.9, backends=20, picker="least_request") != ""


def test_a_number_in_flight_that_is_wrong_breaks_littles_law() -> None:
    def measure(seed: int) -> float:
        fleet = Fleet(seed, 0.5, 5_000).run()
        fleet.area = round(fleet.area * 1.03)
        return fleet.littles_ratio

    assert examine(replace(first("Little"), measure=measure)).reason != ""


def test_a_mean_that_is_not_precise_says_nothing() -> None:
    noisy = Claim(law="x", case="y", expected=1, measure=lambda seed: 0.5 + seed % 2, most=12, precision=0.1)

    assert examine(noisy).reason == "not precise enough: more than 10.0%"
    assert examine(replace(noisy, measure=lambda seed: 1.1)).reason == "+inf standard errors off"
    assert examine(replace(noisy, measure=lambda seed: 1.1, bias=0.2)).reason == "10.0% off, more than 2.0%"
    assert examine(replace(noisy, measure=lambda seed: 1.0)).reason == ""


def test_a_bound_is_kept_by_all_or_it_is_not() -> None:
    bound = Claim(law="x", case="y", expected=7, relation="<=", measure=lambda seed: seed)

    assert examine(bound).reason == "above the bound"
    assert examine(replace(bound, replications=7)).holds


def test_the_beginning_is_not_counted_and_the_end_is_waited_for() -> None:
    fleet = Fleet(1, 0.5, 1_000, law=Exponential(MEAN)).run()

    assert fleet.counted == fleet.times.count == 800
    assert all(backend.in_service == 0 for backend in fleet.backends)
