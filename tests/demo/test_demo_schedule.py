from __future__ import annotations

import itertools

import pytest

from healthlb.demo.schedule import HANG_FROM, Fault, FaultKind, plan

RUNS = list(itertools.product(range(5), (5.0, 20.0, 40.0, 90.0), (2, 20)))


def test_the_same_arguments_give_the_same_schedule() -> None:
    assert plan(7, 20.0, 3) == plan(7, 20.0, 3)


def test_another_seed_gives_another_schedule() -> None:
    assert plan(7, 20.0, 3) != plan(8, 20.0, 3)


@pytest.mark.parametrize(("seed", "duration", "backends"), RUNS)
def test_one_backend_is_bad_at_a_time_and_all_are_well_at_the_end(seed: int, duration: float, backends: int) -> None:
    faults = plan(seed, duration, backends)

    assert faults[0].begins_at >= 0.5
    assert all(fault.begins_at < fault.ends_at for fault in faults)
    assert all(before.ends_at + 0.75 <= after.begins_at for before, after in itertools.pairwise(faults))
    assert faults[-1].ends_at <= duration - 0.75
    assert all(0 <= fault.backend < backends for fault in faults)


@pytest.mark.parametrize(("seed", "duration", "backends"), RUNS)
def test_a_restarted_process_has_time_to_come_back(seed: int, duration: float, backends: int) -> None:
    faults = plan(seed, duration, backends)
    following = [fault.begins_at for fault in faults[1:]] + [duration]
    rests = [
        after - fault.ends_at for fault, after in zip(faults, following, strict=True) if fault.kind is FaultKind.KILL
    ]

    assert min(rests) >= 1.5 - 1e-9


@pytest.mark.parametrize(("seed", "duration", "backends"), RUNS)
def test_every_run_has_each_kind_of_fault(seed: int, duration: float, backends: int) -> None:
    kinds = {fault.kind for fault in plan(seed, duration, backends)}

    assert kinds == ({*FaultKind} if duration >= HANG_FROM else {FaultKind.NOT_SERVING, FaultKind.KILL})


@pytest.mark.parametrize(("seed", "duration", "backends"), RUNS)
def test_no_backend_is_hit_twice_in_a_row(seed: int, duration: float, backends: int) -> None:
    faults = plan(seed, duration, backends)

    assert all(before.backend != after.backend for before, after in itertools.pairwise(faults))


def test_a_hang_lasts_longer_than_the_heartbeat_takes_to_notice() -> None:
    hangs = [fault for fault in plan(1, 60.0, 3) if fault.kind is FaultKind.HANG]

    assert hangs
    assert all(fault.ends_at - fault.begins_at >= 15.0 for fault in hangs)


def test_faults_are_values() -> None:
    fault = Fault(FaultKind.KILL, 0, 1.0, 2.0)

    assert {fault: 1}[Fault(FaultKind.KILL, 0, 1.0, 2.0)] == 1
