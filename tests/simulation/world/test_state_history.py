"""What backends were, and what clients took them for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from healthlb.config import FlapDamping, HealthCheck, Subset
from healthlb.config.outliers import Outliers
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.snapshot import SubchannelView
from healthlb.simulation.scenario.scenario import SECOND, Fault
from healthlb.simulation.world.record import BELIEFS, TRUTHS
from healthlb.simulation.world.state_history import belief_of
from tests.simulation.build import MS, beliefs, play, truths

VIEW = SubchannelView(1, Endpoint("b0"), ConnectivityState.TRANSIENT_FAILURE, None, "", 0, (), (0, 0, 0))


@pytest.mark.parametrize(
    ("view", "is_on_probe", "belief"),
    [
        (replace(VIEW, state=ConnectivityState.READY), False, "READY"),
        (VIEW, False, "TRANSIENT_FAILURE"),
        (replace(VIEW, state=ConnectivityState.CONNECTING), False, "CONNECTING"),
        (replace(VIEW, is_ejected=True), False, "ejected"),
        (replace(VIEW, is_ejected=True), True, "probe"),
        (replace(VIEW, is_damped=True), False, "damped"),
    ],
)
def test_a_belief_is_what_is_published(view: SubchannelView, is_on_probe: bool, belief: str) -> None:
    assert belief_of(view, is_on_probe) == belief


def test_all_that_can_be_is_named() -> None:
    record = play(
        Fault(kind="error", target="b0", start=8 * SECOND, until=9 * SECOND),  # while all others are well
        Fault(kind="health", target="b1", period=SECOND, until=5 * SECOND),
        Fault(kind="crash", target="b2", start=SECOND, until=2 * SECOND),
        Fault(kind="pause", target="b3", start=SECOND, until=2 * SECOND),
        Fault(kind="slow", target="b2", factor=0.5, start=3 * SECOND, until=4 * SECOND),
        Fault(kind="blackhole", target="b3", start=3 * SECOND, until=4 * SECOND),
        Fault(kind="resolver", addresses=("b0", "b1"), start=5 * SECOND, until=6 * SECOND),
        policy={
            "health": HealthCheck(damping=FlapDamping()),
            "outliers": Outliers(base_ejection_time=1.0, max_ejection_percent=80),
        },
        seconds=12.0,
        warmup=0,
    )
    known_truths = {truth for truth, _ in record.confusion}
    known_beliefs = {belief for _, belief in record.confusion}

    assert known_truths == set(TRUTHS)
    assert known_beliefs == set(BELIEFS)


def test_the_matrix_is_all_pairs_from_the_warm_up_to_the_last_arrivals() -> None:
    crash = Fault(kind="crash", target="b0", period=SECOND)
    record = play(crash, clients={"count": 3}, seconds=5.0, drain=SECOND, warmup=500 * MS)

    assert sum(record.confusion.values()) == 3 * 4 * 4500 * MS
    assert all(sum(spans.values()) == 3 * 4500 * MS for spans in record.confusion_of.values())


def test_a_lane_begins_at_the_beginning_and_each_step_is_another_state() -> None:
    record = play(Fault(kind="health", target="*", period=SECOND), seconds=5.0)

    for place in range(4):
        for steps in (truths(record, place), beliefs(record, place)):
            assert steps[0][0] == 0
            assert all(before[0] < after[0] for before, after in pairwise(steps))
            assert all(before[1] != after[1] for before, after in pairwise(steps))


def test_what_a_subset_leaves_out_is_absent_to_the_client_alone() -> None:
    record = play(policy={"subset": Subset(size=1, seed=3)}, seconds=1.0)
    lanes = [(truths(record, place), beliefs(record, place)[-1][1]) for place in range(4)]

    assert [truth for truth, _ in lanes] == [[(0, "up")]] * 4
    assert sorted(belief for _, belief in lanes) == ["READY", "absent", "absent", "absent"]
