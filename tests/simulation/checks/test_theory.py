"""Closed forms against figures that are known otherwise: tables, limits, and sums done by brute force."""

import math
import random

import pytest

from healthlb.simulation.checks import theory


def test_erlangs_tables() -> None:
    # Standard tables: 10 lines offered 5 erlang block 1.84 %; 2 servers at a = 1 make a third wait.
    assert theory.erlang_b(10, 5) == pytest.approx(0.018385, rel=1e-4)
    assert theory.erlang_c(2, 1) == pytest.approx(1 / 3)
    assert theory.erlang_c(1, 0.7) == pytest.approx(0.7)
    assert theory.erlang_c(3, 3) == 1


def test_one_slot_is_the_simplest_case_of_all_of_them() -> None:
    for rho in (0.1, 0.5, 0.9):
        mean = 1 / (1 - rho)
        assert theory.mm1_mean(rho) == mean == theory.mg1_ps_mean(rho) == theory.supermarket(rho, 1)
        assert theory.mmc_mean(1, rho) == pytest.approx(mean)
        assert theory.mg1_fifo_mean(rho, 1) == pytest.approx(mean)
        assert theory.em1_mean(1, rho) == pytest.approx(mean)
        assert theory.mm1_percentile(rho, 1 - math.exp(-1)) == pytest.approx(mean)


def test_steady_work_waits_half_as_long() -> None:
    assert theory.mg1_fifo_mean(0.8, 0) - 1 == pytest.approx((theory.mm1_mean(0.8) - 1) / 2)


def test_dealing_in_turn_lies_between_poisson_and_a_clock() -> None:
    assert theory.dm1_mean(0.9) == pytest.approx(5.1787, abs=1e-3)
    assert theory.em1_mean(10_000, 0.9) == pytest.approx(theory.dm1_mean(0.9), rel=1e-3)
    assert theory.dm1_mean(0.9) < theory.em1_mean(10, 0.9) < theory.mm1_mean(0.9)


def test_two_choices_as_published() -> None:
    assert theory.supermarket(0.7) == pytest.approx(1.6145, abs=1e-4)
    assert theory.supermarket(0.9) == pytest.approx(2.6141, abs=1e-4)
    assert theory.supermarket(0.99) == pytest.approx(5.4320, abs=1e-3)
    assert theory.supermarket(0.9, 3) < theory.supermarket(0.9)


def test_a_small_room_refuses() -> None:
    assert theory.mm1k_loss(0.5, 1) == pytest.approx(theory.erlang_b(1, 0.5))
    assert theory.mm1k_loss(1, 4) == pytest.approx(theory.mm1k_loss(1 + 1e-9, 4), rel=1e-6)
    assert theory.mm1k_loss(2, 50) == pytest.approx(0.5)


def test_little() -> None:
    assert theory.littles_law(100, 0.01) == pytest.approx(1)


def test_what_a_crash_and_a_stop_cost() -> None:
    assert theory.crash_loss(120, 0.0193, 0.001) == pytest.approx(2.556)
    assert theory.drain_loss(200, 0.01, 0.001, 0) == pytest.approx(2.4)
    assert theory.drain_loss(200, 0.01, 0.001, 0.002) == pytest.approx(2)
    assert theory.drain_loss(200, 0.01, 0.001, 0.012) == pytest.approx(2 / math.e)
    assert theory.blackhole_timeouts(1_000, 10, 11, 1) == 1_000
    assert theory.blackhole_timeouts(1_000, 10, 1, 2) == 0
    assert theory.surviving_load(3) == pytest.approx(2 / 3)
    assert theory.reported_share(0.5, 1.0, 0.001) == pytest.approx(0.498)
    assert theory.ejection_share(10, 1, 9) == pytest.approx(0.01)


def test_what_success_rates_do_not_show() -> None:
    assert theory.blind_spot(1.9) == pytest.approx(0.21692, abs=1e-5)
    # Of any fleet the two forms agree, and so does the arithmetic of a sweep.
    for hosts in range(2, 41):
        for bad in range(1, hosts):
            rates = [0.2] * bad + [0.9] * (hosts - bad)
            mean = sum(rates) / hosts
            deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / hosts)
            seen = theory.is_seen_by_success_rate(bad, hosts, 1.9)
            assert seen == (bad / hosts < theory.blind_spot(1.9)) == (mean - 1.9 * deviation > 0.2)
    assert (theory.most_ejected(10, 10), theory.most_ejected(5, 100)) == (2, 5)


def test_when_an_overload_feeds_itself() -> None:
    assert not theory.is_metastable(0.45, 1)
    assert theory.is_metastable(0.55, 1)
    assert theory.recovery_time(0.55, 1, 3, 0.1, 0.5) == math.inf
    assert theory.recovery_time(0.6, 0, 3, 0.1, 0.5) == pytest.approx(2.5)
    assert theory.recovery_time(0.1, 0, 3, 0.1, 0.5) == 0
    assert theory.sooner_by(0.5, 0, 0.5) == 0
    assert theory.sooner_by(0.25, 2, 0.5) == pytest.approx(1.5)


def test_what_budgets_allow() -> None:
    assert theory.most_retries(10, 0.1, 200) == 25
    assert theory.throttle_drains(1 / 10, 0.1)
    assert not theory.throttle_drains(1 / 20, 0.1)


def test_hedging() -> None:
    def tail(time: float) -> float:
        return math.exp(-time)

    assert theory.hedged_tail(tail, 2, 1) == pytest.approx(math.exp(-1))
    assert theory.hedged_tail(tail, 2, 5) == pytest.approx(math.exp(-8))


def test_damping_as_the_rfc_reckons() -> None:
    assert theory.damping_peak(1_000, 0.5, 1) == pytest.approx(3_414.2, abs=0.1)
    assert theory.damping_release(theory.damping_peak(1_000, 0.5, 1), 750, 1) == pytest.approx(2.1865, abs=1e-3)
    assert theory.damping_suppresses(1_000, 0.99, 1, 2_000)
    assert not theory.damping_suppresses(1_000, 1.01, 1, 2_000)
    assert theory.damping_suppresses(3_000, 100, 1, 2_000)


def test_fleets_of_fast_and_slow() -> None:
    assert theory.round_robin_capacity([1.0] * 4 + [0.1] * 6) == pytest.approx(1.0)
    assert theory.two_choices_capacity(6, 10, 0.1) == pytest.approx(1.8)


def test_random_subsets_are_uneven() -> None:
    rng = random.Random(3)
    for clients, size in ((100, 5), (100, 25)):
        most = []
        for _ in range(60):
            counts = [0] * 100
            for _ in range(clients):
                for backend in rng.sample(range(100), size):
                    counts[backend] += 1
            most.append(max(counts) / size)
        assert theory.subset_max_to_mean(clients, 100, size) == pytest.approx(sum(most) / len(most), rel=0.06)
    assert theory.subset_max_to_mean(10, 4, 4) == 1


def test_how_uneven_chance_is() -> None:
    assert theory.noise_band(200, 10) == pytest.approx(1.1517, abs=1e-3)
    assert theory.noise_band(0, 10) == 1


def test_hedges_between_none_and_two_at_once() -> None:
    assert theory.hedged_mean(1, 0) == pytest.approx(0.5)  # the shorter of two
    assert theory.hedged_mean(1, 50) == pytest.approx(1)
    assert theory.hedged_quantile(1, 0, 0.99) == pytest.approx(math.log(100) / 2)
    assert theory.hedged_quantile(1, 50, 0.99) == pytest.approx(math.log(100))
    rng = random.Random(1)
    times = sorted(min(rng.expovariate(1), 1.5 + rng.expovariate(1)) for _ in range(200_000))
    assert theory.hedged_mean(1, 1.5) == pytest.approx(sum(times) / len(times), rel=0.01)
    assert theory.hedged_quantile(1, 1.5, 0.99) == pytest.approx(times[198_000], rel=0.02)


def test_two_attempts_on_different_backends() -> None:
    assert theory.both_late([0.3] * 4) == pytest.approx(0.09)
    assert theory.both_late([1.0, 0.0]) == 0
    late = [0.1, 0.2, 0.7]
    pairs = [late[a] * late[b] for a in range(3) for b in range(3) if a != b]
    assert theory.both_late(late) == pytest.approx(sum(pairs) / 6)
