"""Flap damping against the closed forms of RFC 2439's arithmetic: periodic flaps, peaks and ends."""

from __future__ import annotations

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from healthlb.config import FlapDamping, HealthCheck
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    HealthReported,
    Release,
    Report,
    Resolved,
    Suppression,
    Tick,
)
from tests.core.configs import config_of

NOT_SERVING, SERVING = 2, 1

policies = st.builds(
    lambda half_life, half_lives, suppress, reuse: FlapDamping(
        half_life=half_life, max_suppress=half_life * half_lives, suppress=suppress, reuse=reuse
    ),
    st.floats(1.0, 60.0),
    st.floats(6.0, 20.0),
    st.floats(1100.0, 4000.0),
    st.floats(100.0, 1000.0),
)


class Fleet:
    """A channel of two, the first of which flaps."""

    def __init__(self, policy: FlapDamping) -> None:
        self.balancer = Balancer("svc", config_of(HealthCheck(damping=policy, heartbeat=None)), seed=1)
        self.now = 1_000 * SECOND
        self.facts: list[Suppression | Release] = []
        self.tell(Resolved((Endpoint("a"), Endpoint("b"))))
        for sub in (1, 2):
            self.tell(ConnectivityChanged(sub, ConnectivityState.READY))
            self.tell(DataReady(sub, sub))
            self.tell(HealthReported(sub, 1, SERVING))

    def tell(self, event: object) -> None:
        effects = self.balancer.handle(event, self.now)  # type: ignore[arg-type]
        told = [effect.fact for effect in effects if isinstance(effect, Report)]
        self.facts += [fact for fact in told if isinstance(fact, Suppression | Release)]

    def run_to(self, end: int) -> None:
        while (deadline := self.balancer.deadline) is not None and deadline <= end:
            self.now = deadline
            self.tell(Tick())
        self.now = end

    def flap(self) -> None:
        self.tell(HealthReported(1, 1, NOT_SERVING))
        self.tell(HealthReported(1, 1, SERVING))

    @property
    def is_damped(self) -> bool:
        return self.balancer.snapshot.views[0].is_damped


@given(policies, st.floats(0.05, 4.0))
def test_periodic_flaps_are_suppressed_if_and_only_if_they_come_fast_enough(policy: FlapDamping, ratio: float) -> None:
    period = ratio * policy.half_life
    bound = -policy.half_life * math.log2(1 - policy.penalty / policy.suppress)
    assume(abs(period - bound) > 0.02 * bound)  # near it, it takes for ever
    fleet = Fleet(policy)
    begun_at = fleet.now

    for number in range(80):
        fleet.run_to(begun_at + round(number * period * SECOND))
        fleet.flap()
        if fleet.facts:
            break

    assert bool(fleet.facts) is (period < bound)


@given(policies, st.floats(0.05, 1.0))
def test_it_ends_when_the_peak_has_fallen_to_reuse(policy: FlapDamping, ratio: float) -> None:
    fleet = Fleet(policy)
    begun_at = fleet.now
    figure = 0.0
    decay = 2.0**-ratio
    for number in range(24):  # with more, not every status would be followed at once
        fleet.run_to(begun_at + round(number * ratio * policy.half_life * SECOND))
        fleet.flap()
        figure = min(policy.ceiling, figure * decay + policy.penalty)
    assume(fleet.is_damped and figure > policy.suppress)
    quiet_at = fleet.now
    seconds = policy.half_life * math.log2(figure / policy.reuse)
    assert seconds <= policy.max_suppress * (1 + 1e-9)

    fleet.run_to(quiet_at + round(seconds * SECOND * (1 - 1e-6)) - 1_000)
    assert fleet.is_damped
    fleet.run_to(quiet_at + round(seconds * SECOND * (1 + 1e-6)) + 1_000)
    assert not fleet.is_damped
    assert fleet.balancer.snapshot.ready[0].address == "a"


def test_a_period_of_half_a_half_life_peaks_at_3414_and_is_out_for_2_19_half_lives() -> None:
    policy = FlapDamping(half_life=10.0, max_suppress=60.0)
    fleet = Fleet(policy)
    begun_at = fleet.now

    for number in range(100):
        fleet.run_to(begun_at + number * 5 * SECOND)
        fleet.flap()
    quiet_at = fleet.now
    fleet.run_to(quiet_at + 1_000 * SECOND)

    release = fleet.facts[-1]
    assert isinstance(release, Release)
    assert round(policy.penalty / (1 - 2**-0.5)) == 3414
    assert math.isclose((release.at - quiet_at) / SECOND, 10 * math.log2(3414.2136 / 750), rel_tol=1e-6)
    assert math.isclose((release.at - quiet_at) / SECOND, 21.9, abs_tol=0.05)


@given(policies, st.floats(0.0, 1000.0))
def test_an_isolated_flap_never_suppresses(policy: FlapDamping, quiet: float) -> None:
    fleet = Fleet(policy)
    fleet.run_to(fleet.now + round(quiet * SECOND))

    fleet.flap()

    assert fleet.facts == []
    assert [handle.address for handle in fleet.balancer.snapshot.ready] == ["a", "b"]
