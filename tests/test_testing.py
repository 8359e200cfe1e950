"""`healthlb.testing` finds what is wrong with a picker, and nothing in those that come with healthlb."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb import testing
from healthlb.pickers import CallInfo, Endpoint, Subchannel, picker_names

SPREADING = ("least_request", "peak_ewma", "random", "round_robin", "weighted_round_robin")
EVEN = ("least_request", "peak_ewma", "random", "round_robin", "weighted_round_robin")
WEIGHING = ("least_request", "weighted_round_robin")


@pytest.mark.parametrize("name", picker_names())
def test_the_shipped_ones_are_pure(name: str) -> None:
    testing.check_purity(name)
    testing.check_purity(name, subs=testing.make_subchannels(1))


@pytest.mark.parametrize("name", SPREADING)
def test_the_shipped_ones_survive_rebuilds(name: str) -> None:
    testing.check_survives_rebuild(name)


@pytest.mark.parametrize("name", EVEN)
def test_the_shipped_ones_are_even(name: str) -> None:
    testing.check_distribution(name)
    testing.check_distribution(name, subs=testing.make_subchannels(1))


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_are_kept(name: str) -> None:
    testing.check_distribution(name, subs=testing.make_subchannels(weights=[1.0, 2.0, 5.0]))


@given(st.sampled_from(picker_names()), testing.subchannels(), testing.calls())
def test_any_call_over_any_fleet_is_picked_for(name: str, subs: list[Subchannel], call: CallInfo) -> None:
    chosen = testing.open_factory(name, subs).build(subs).pick(call)

    assert (chosen in subs) if subs else chosen is None


class First:
    """Wrong in one way or another."""

    def build(self, ready: Sequence[Subchannel]) -> Any:
        self.ready = list(ready)
        return self

    def pick(self, call: CallInfo) -> Any:
        left = [sub for sub in self.ready if sub.id not in call.exclude] or self.ready
        return left[0] if left else None


class Clearing(First):
    def build(self, ready: Any) -> Any:
        super().build(ready)
        ready.clear()
        return self


class Keeping(First):
    def build(self, ready: Any) -> Any:
        self.ready = ready
        return self


class Stubborn(First):
    def pick(self, call: CallInfo) -> Any:
        return self.ready[0] if self.ready else None


class Unseeded(First):
    def pick(self, call: CallInfo) -> Any:
        return random.SystemRandom().choice(self.ready)


class Counting(First):
    def pick(self, call: CallInfo) -> Any:
        chosen = super().pick(call)
        if chosen is not None:
            chosen.load.in_flight += 1
        return chosen


class GivingUp(First):
    def pick(self, call: CallInfo) -> Any:
        return next((sub for sub in self.ready if sub.id not in call.exclude), None)


class Starting(First):
    def build(self, ready: Sequence[Subchannel]) -> Any:
        self.count = -1
        return super().build(ready)

    def pick(self, call: CallInfo) -> Any:
        self.count += 1
        return self.ready[self.count % len(self.ready)]


@pytest.mark.parametrize(
    ("check", "picker", "message"),
    [
        (testing.check_purity, Clearing, "build changed the list"),
        (testing.check_purity, Keeping, "build kept the list"),
        (testing.check_purity, Stubborn, "again, which .* had tried"),
        (testing.check_purity, Unseeded, "equal seeds pick differently"),
        (testing.check_purity, Counting, "pick changed a subchannel"),
        (testing.check_purity, GivingUp, "all were tried: pick any"),
        (testing.check_distribution, First, r"picked \{1: 10000\}, expected about"),
        (testing.check_survives_rebuild, Starting, "shares differ too much"),
    ],
)
def test_what_is_wrong_is_found(check: Callable[[Any], None], picker: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(picker)


def test_shares_may_be_given() -> None:
    testing.check_distribution(First, {1: 1.0})
    with pytest.raises(AssertionError, match=r"picked \[1\], which should get nothing"):
        testing.check_distribution(First, {2: 1.0})


def test_subchannels_may_have_any_endpoint() -> None:
    endpoints = [Endpoint("a:1", locality="eu-1a"), Endpoint("b:1", weight=3.0, attributes={"canary": True})]
    subs = testing.make_subchannels(endpoints=endpoints)

    assert [(sub.id, sub.endpoint, sub.weight) for sub in subs] == [(1, endpoints[0], 1.0), (2, endpoints[1], 3.0)]
    testing.check_distribution("weighted_round_robin", subs=subs)


def test_never_picked_is_found() -> None:
    class Last(First):
        def pick(self, call: CallInfo) -> Any:
            return max(self.ready, key=lambda sub: sub.id)

    with pytest.raises(AssertionError, match="never picked"):
        testing.check_survives_rebuild(Last)
