"""What goes wrong, when, and what clients come to believe of it."""

from __future__ import annotations

from typing import Any

import pytest

from healthlb.config import Failover, HealthCheck, Heartbeat
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.scenario import SECOND, Fault
from healthlb.simulation.world.faults import select, windows
from tests.simulation.build import MS, TEN, beliefs, errors, play, truths

PLAIN: dict[str, Any] = {"outliers": None}
QUICK = {"health": HealthCheck(heartbeat=Heartbeat(interval=1.0, timeout=0.5)), "outliers": None}
NAMES = ("b0", "b1", "b2", "c0")
ZONES = ("a", "b", "a", "")


# --- whom and when -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "numbers"),
    [("*", [0, 1, 2, 3]), ("b*", [0, 1, 2]), ("b[01]", [0, 1]), ("b1, c0", [1, 3]), ("zone:a", [0, 2]), ("50%", [0, 1]),
     ("0%", [])],
)  # fmt: skip
def test_a_target_is_a_glob_a_zone_or_a_share(target: str, numbers: list[int]) -> None:
    assert select(target, NAMES, ZONES) == numbers


@pytest.mark.parametrize("target", ["d*", "zone:z", "120%", "x%"])
def test_a_target_that_means_nothing_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="target must"):
        select(target, NAMES, ZONES)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="x", start=5), [(5, None)]),
        (Fault(kind="x", start=5, until=8), [(5, 8)]),
        (Fault(kind="x", start=500), []),
        (Fault(kind="x", start=10, until=40, period=10, duty=0.6), [(16, 20), (26, 30), (36, 40)]),
        (Fault(kind="x", start=10, until=38, period=10, duty=0.6), [(16, 20), (26, 30), (36, 38)]),
        (Fault(kind="x", start=10, until=30, period=10, duty=0.6, phase=8), [(10, 12), (18, 22), (28, 30)]),
        (Fault(kind="x", start=10, until=30, period=10, duty=0.0), [(10, 30)]),
        (Fault(kind="x", start=10, until=30, period=10, duty=1.0), []),
        (Fault(kind="x", start=90, period=10, duty=0.5), [(95, 100)]),
    ],
)
def test_a_period_begins_with_its_good_share(fault: Fault, expected: list[tuple[int, int | None]]) -> None:
    assert list(windows(fault, 0, fault.phase or 0, 100)) == expected


def test_each_target_may_be_later_than_the_one_before() -> None:
    roll = Fault(kind="drain", target="*", start=SECOND, until=2 * SECOND, drain=100 * MS, stagger=3 * SECOND)
    record = play(roll, policy=PLAIN, seconds=14)

    assert [truths(record, place)[1] for place in range(4)] == [
        (1000, "not_serving"),
        (4000, "not_serving"),
        (7000, "not_serving"),
        (10000, "not_serving"),
    ]
    assert truths(record)[2:] == [(1100, "crashed"), (2000, "up")]
    assert errors(record) == {}


def test_a_random_phase_is_one_for_each_target() -> None:
    flap = Fault(kind="health", target="*", period=SECOND, phase=None)
    first = {truths(play(flap, policy=PLAIN, seconds=2.0), place)[1][0] for place in range(4)}

    assert len(first) == 4


def test_faults_may_overlap_and_the_worst_shows() -> None:
    record = play(
        Fault(kind="health", target="b0", start=SECOND, until=4 * SECOND),
        Fault(kind="health", target="b0", start=2 * SECOND, until=5 * SECOND, mode="UNKNOWN"),
        Fault(kind="pause", target="b0", start=3 * SECOND, until=6 * SECOND),
        policy=PLAIN,
    )

    assert truths(record) == [(0, "up"), (1000, "not_serving"), (3000, "hung"), (6000, "up")]
    assert beliefs(record)[-2:] == [(1001, "TRANSIENT_FAILURE"), (6001, "READY")]


# --- connections -----------------------------------------------------------------------------------------


def test_a_reset_is_known_after_the_wire() -> None:
    crash = Fault(kind="crash", target="b0", start=SECOND, until=2 * SECOND)
    record = play(crash, policy=PLAIN, seconds=4.0)
    told = beliefs(record)

    # At once again, refused after the way there and back, then by the backoff until it is up.
    assert told[:4] == [(0, "CONNECTING"), (4, "READY"), (1001, "CONNECTING"), (1003, "TRANSIENT_FAILURE")]
    assert told[4][1] == "READY"
    assert 2000 <= told[4][0] <= 2000 + 1000 * 1.2 + 4


def test_silence_is_known_by_heartbeats_alone() -> None:
    hole = Fault(kind="blackhole", target="b0", start=2 * SECOND, until=7 * SECOND)
    rescued, record = (
        play(
            hole,
            policy={**QUICK, "failover": Failover(rescue=rescue)},
            clients={"deadline": None},
            seconds=9.0,
            drain=20 * SECOND,
        )
        for rescue in (True, False)
    )
    found = [at for at, state in beliefs(record) if state == "TRANSIENT_FAILURE"]

    assert 2000 < found[0] <= 2000 + 1000 + 500
    assert rescued.latency.most < 2 * SECOND
    assert truths(record) == [(0, "up"), (2000, "cut_off"), (7000, "up")]
    # The connections survive: what was sent into the hole arrives, late.
    assert errors(record) == {}
    assert record.latency.most > 4 * SECOND


def test_a_host_that_is_gone_takes_its_calls_with_it() -> None:
    gone = Fault(kind="crash", mode="blackhole", target="b0", start=2 * SECOND, until=4 * SECOND)
    record = play(gone, policy=QUICK, seconds=9.0)

    assert set(errors(record)) == {"DEADLINE_EXCEEDED"}
    assert beliefs(record)[-1][1] == "READY"
    assert beliefs(record)[-1][0] > 4000


def test_a_half_open_connection_never_answers_again() -> None:
    lost = Fault(kind="crash", mode="half-open", target="b0", start=2 * SECOND, until=2 * SECOND + 1)
    record = play(lost, policy={**QUICK, "service": None}, seconds=9.0)
    watched = play(lost, policy=QUICK, seconds=9.0)

    # Without health checking nothing tells; with it, the heartbeat does, and a fresh connection is fine.
    assert beliefs(record) == [(0, "CONNECTING"), (2, "READY")]
    assert [state for _, state in beliefs(watched)] == ["CONNECTING", "READY", "TRANSIENT_FAILURE", "READY"]
    assert sum(errors(watched).values()) < sum(errors(record).values()) / 2


def test_a_process_that_stands_still_goes_on_where_it_was() -> None:
    pause = Fault(kind="pause", target="b0", start=2 * SECOND, until=2500 * MS)
    record = play(pause, policy=PLAIN, clients={"deadline": None}, backends={"service": TEN}, seconds=4.0)

    assert errors(record) == {}
    assert 490 * MS < record.latency.most < 700 * MS


def test_a_partition_is_one_clients_trouble() -> None:
    cut = Fault(kind="partition", target="b0", clients="c1", start=2 * SECOND, until=6 * SECOND)
    record = play(cut, policy=QUICK, clients={"count": 2}, seconds=9.0)

    assert truths(record) == [(0, "up")]
    assert beliefs(record) == [(0, "CONNECTING"), (4, "READY")]
    assert record.confusion_of["b0"]["cut_off", "TRANSIENT_FAILURE"] > 2 * SECOND
    assert record.confusion_of["b1"].keys() == {("up", "READY")}


def test_a_goaway_costs_no_call() -> None:
    leave = Fault(kind="goaway", target="*", period=SECOND, duty=0.5)
    record = play(leave, policy={"failover": None, **PLAIN}, seconds=9.0)

    assert record.metrics["errors"] == 0
    assert record.metrics["connects"] == 4 * 9


def test_connections_age() -> None:
    record = play(backends={"max_age": 2 * SECOND}, policy={"failover": None, **PLAIN}, seconds=15.0)

    assert record.metrics["errors"] == 0
    # Each lives for two seconds, by a tenth more or less.
    assert 4 * 6 <= record.metrics["connects"] <= 4 * 8


# --- health ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "believed"),
    [
        ("", "TRANSIENT_FAILURE"),
        ("NOT_SERVING", "TRANSIENT_FAILURE"),
        ("SERVICE_UNKNOWN", "TRANSIENT_FAILURE"),
        ("unknown", "TRANSIENT_FAILURE"),
        ("ending", "TRANSIENT_FAILURE"),
        ("lying", "READY"),
        ("absent", "READY"),
        ("stuck", "READY"),
    ],
)
def test_what_a_health_service_says_is_believed(mode: str, believed: str) -> None:
    ill = Fault(kind="health", target="b0", mode=mode, start=SECOND, until=5 * SECOND)
    record = play(ill, policy=PLAIN, seconds=4.5)
    # A SERVING stands for two seconds after the end of its Watch.
    at = [state for time, state in beliefs(record) if time <= 4900][-1]

    assert at == believed
    assert record.metrics["errors"] == 0


@pytest.mark.parametrize(
    ("health", "believed"),
    [("honest", "TRANSIENT_FAILURE"), ("lying", "READY"), ("absent", "READY")],
)
def test_a_lie_hides_what_is_true(health: str, believed: str) -> None:
    ill = Fault(kind="health", target="b0", start=SECOND)
    record = play(ill, backends={"health": health}, policy=PLAIN, seconds=2.0)

    assert truths(record)[-1] == (1000, "not_serving")
    assert beliefs(record)[-1][1] == believed


def test_a_stuck_health_service_is_given_up_in_time() -> None:
    stuck = {"health": HealthCheck(first_response_timeout=1.0, heartbeat=None), "outliers": None}
    record = play(backends={"health": "stuck"}, policy=stuck, seconds=5.0)

    assert beliefs(record)[1] == (1002, "TRANSIENT_FAILURE")


def test_a_stream_that_says_one_word_and_ends_is_not_opened_without_end() -> None:
    record = play(backends={"health": "closing"}, policy=PLAIN, seconds=10.0)

    assert record.metrics["watch_starts"] < 4 * 20


def test_a_watch_may_lag() -> None:
    ill = Fault(kind="health", target="b0", start=SECOND, until=2 * SECOND)
    record = play(ill, backends={"watch_lag": 300 * MS}, policy=PLAIN, seconds=4.0)

    assert beliefs(record)[-2:] == [(1301, "TRANSIENT_FAILURE"), (2301, "READY")]


# --- calls -----------------------------------------------------------------------------------------------


def test_errors_have_their_rate_code_and_latency() -> None:
    broken = Fault(kind="error", target="*", rate=0.25, code="INTERNAL", latency=50 * MS)
    record = play(broken, policy={"failover": None, **PLAIN}, rate=1000, seconds=10.0)

    assert record.metrics["error_ratio"] == pytest.approx(0.25, abs=0.02)
    assert set(errors(record)) == {"INTERNAL"}
    assert truths(record) == [(0, "failing")]


def test_a_slow_backend_takes_as_many_times_longer() -> None:
    slow = Fault(kind="slow", target="*", factor=0.1)
    record = play(slow, backends={"service": TEN, "slots": 99}, policy=PLAIN, seconds=2.0)

    assert record.metrics["p50"] == pytest.approx(0.102, rel=0.02)
    assert truths(record) == [(0, "slow")]


def test_a_cold_backend_warms_up() -> None:
    cold = Fault(kind="cold", target="*", factor=0.1, start=SECOND, until=3 * SECOND)
    record = play(cold, backends={"service": TEN, "slots": 99}, policy=PLAIN, seconds=5.0)
    means = [one.mean / MS for one in record.bins.latency[:5]]

    assert means[0] == pytest.approx(12, rel=0.01)
    assert means[1] > 2 * means[2] > 2 * means[4]


def test_streams_on_a_connection_are_limited_at_the_client() -> None:
    # Two at a time through each of four connections: 800 a second at most, whatever the slots.
    record = play(
        backends={"service": TEN, "max_streams": 2},
        clients={"deadline": None},
        policy=PLAIN,
        rate=2000,
        seconds=2.0,
        warmup=SECOND,
    )

    assert record.bins.ok[15] == pytest.approx(67, abs=3)


# --- the resolver ------------------------------------------------------------------------------------------


def test_addresses_come_and_go() -> None:
    record = play(
        Fault(kind="resolver", addresses=("b3", "b1"), start=SECOND, until=3 * SECOND), policy=PLAIN, seconds=5.0
    )

    assert truths(record) == [(0, "up"), (1000, "absent"), (3000, "up")]
    # Who joins a channel that serves is asked 20 ms after it has connected.
    assert beliefs(record)[2:] == [(1000, "absent"), (3000, "CONNECTING"), (3024, "READY")]
    assert beliefs(record, 1) == [(0, "CONNECTING"), (pytest.approx(4.032), "READY")]
    assert record.bins.picks["b0"][11:30] == (0,) * 19
    assert errors(record) == {}


@pytest.mark.parametrize("bad", [{"addresses": ()}, {"error": "NXDOMAIN"}])
def test_an_answer_of_no_use_keeps_the_last_good_list(bad: dict[str, Any]) -> None:
    record = play(Fault(kind="resolver", start=SECOND, until=3 * SECOND, **bad), policy=PLAIN, seconds=5.0)

    assert truths(record) == [(0, "up")]
    assert beliefs(record) == [(0, "CONNECTING"), (4, "READY")]
    assert any(type(fact).__name__ == "ResolutionFailure" for fact in record.facts)


def test_a_list_may_be_short_from_the_beginning() -> None:
    record = play(addresses=("b1",), policy=PLAIN, seconds=1.0)

    assert truths(record) == [(0, "absent")]
    assert [sum(picks) > 0 for picks in record.bins.picks.values()] == [False, True, False, False]


# --- stalls --------------------------------------------------------------------------------------------------


def test_a_client_that_stands_still_takes_nobody_out() -> None:
    stall = Fault(kind="stall", start=3 * SECOND, until=5 * SECOND)
    record = play(stall, rate=50, policy=QUICK, seconds=9.0)

    assert errors(record) == {}
    assert record.metrics["ejections"] == 0


# --- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(kind="flood"), "fault kind must be one of crash"),
        (Fault(kind="crash", target="zz"), "target must name one of b0"),
        (Fault(kind="crash", mode="loud"), "mode of crash must be rst"),
        (Fault(kind="health", mode="loud"), "mode of health must be one of"),
        (Fault(kind="error", code="BROKEN"), "code must be the name of a status"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: Fault, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        play(fault)


def test_a_resolver_that_names_a_stranger_is_refused() -> None:
    with pytest.raises(ConfigError, match="names of backends, not 'b9'"):
        play(addresses=("b9",))
