"""How calls arrive."""

from __future__ import annotations

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.scenario.laws import Deterministic
from healthlb.simulation.scenario.scenario import SECOND, Fault, Load
from healthlb.simulation.world.world import World
from tests.simulation.build import MS, TEN, play, scenario


def arrivals(load: Load, seconds: float = 2.0, **clients: object) -> tuple[int, ...]:
    """Return calls by tenths of a second."""
    record = play(clients={"load": load, **clients}, backends={"service": TEN}, seconds=seconds, drain=SECOND)
    return record.bins.arrivals[: round(seconds * 10)]


def test_poisson_arrivals_come_at_their_rate_and_unevenly() -> None:
    bins = arrivals(Load(rate=1000), seconds=20)
    mean = sum(bins) / len(bins)
    variance = sum((count - mean) ** 2 for count in bins) / len(bins)

    assert mean == pytest.approx(100, rel=0.05)
    assert variance == pytest.approx(100, rel=0.4)


def test_steady_arrivals_do_not_drift() -> None:
    assert arrivals(Load(kind="steady", rate=300), seconds=3.0) == (29, *(30,) * 29)


def test_a_load_may_be_a_share_of_what_all_backends_can_take() -> None:
    # Four backends with 20 slots of 10 ms are 8,000 calls a second.
    record = play(clients={"count": 4, "load": Load(rho=0.25)}, backends={"service": TEN}, seconds=5.0)

    assert record.metrics["lam"] == 2000
    assert record.metrics["rho"] == 0.25
    assert record.metrics["requests"] == pytest.approx(2000 * 4.9, rel=0.05)


def test_bursts_come_together() -> None:
    assert arrivals(Load(kind="burst", size=7, period=SECOND // 2)) == (7, 0, 0, 0, 0) * 4


def test_recorded_arrivals_come_as_they_were() -> None:
    record = play(
        clients={"load": Load(kind="trace", times=(50 * MS, 150 * MS, 150 * MS, 999 * MS, 3 * SECOND))}, seconds=2.0
    )

    assert record.bins.arrivals[:10] == (1, 2, 0, 0, 0, 0, 0, 0, 0, 1)
    assert sum(record.bins.arrivals) == 4


def test_users_of_a_closed_loop_wait_for_their_calls() -> None:
    # Three users, each 10 ms of work, 2 ms of wire and 88 ms of thought: ten calls a second each.
    load = Load(kind="closed", users=3, think=Deterministic(88 * MS))
    record = play(
        clients={"load": load}, backends={"count": 1, "service": TEN, "slots": 9}, seconds=10.0, warmup=SECOND
    )

    assert record.metrics["lam"] == pytest.approx(30, rel=0.01)


def test_users_whose_calls_fail_at_once_do_not_stop_the_time() -> None:
    load = Load(kind="closed", users=2)
    record = play(Fault(kind="crash", target="*"), clients={"load": load}, seconds=1.0)

    assert 1000 < record.metrics["errors"] < 3000


def test_clients_may_begin_one_after_another() -> None:
    world = World(scenario(clients={"count": 20, "start": SECOND}, seconds=3.0, warmup=0), "p")
    record = world.run()

    # All at once would be 80 in the first tenth of a second.
    assert record.metrics["connects_peak"] < 40
    assert sum(record.bins.connects[:10]) == 80
    assert sum(record.bins.arrivals[:3]) < sum(record.bins.arrivals[20:23]) / 2


def test_what_arrives_while_a_client_stands_still_comes_together_afterwards() -> None:
    stall = Fault(kind="stall", start=SECOND, until=2 * SECOND)
    record = play(stall, clients={"load": Load(kind="steady", rate=100)}, backends={"service": TEN}, seconds=3.0)

    assert record.bins.arrivals[10:20] == (0,) * 10
    assert record.bins.arrivals[20] == 110


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"load\.kind must be one of poisson"):
        play(clients={"load": Load(kind="tidal")})
