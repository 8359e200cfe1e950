"""What a picker factory may have beside `build`, and what is wrong with one that cannot work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from healthlb.core.load import Subchannel
from healthlb.core.pickers import CallInfo, PickerFactory, make_factory, picker_names
from healthlb.core.pickers.contract import check_factory, flag, hook
from healthlb.errors import ConfigError
from tests.core.fleets import fleet

DEFAULTS = {"needs_call": True, "needs_latency": False, "needs_reports": False, "reads_weight": True}


class First:
    """The least that works, for a class that derives from nothing."""

    def build(self, ready: Sequence[Subchannel]) -> First:
        self.ready = tuple(ready)
        return self

    def pick(self, call: CallInfo) -> Subchannel | None:
        return self.ready[0] if self.ready else None


class Derived(First, PickerFactory):
    pass


class Everything(Derived):
    needs_call = False
    needs_latency = True
    needs_reports = True
    reads_weight = False

    def seed(self, rng: random.Random) -> None:
        self.rng = rng

    def endpoints(self, endpoints: Sequence[Any]) -> None:
        pass

    def call_ended(self, sub: Subchannel, end: Any) -> None:
        pass


@pytest.mark.parametrize("kind", [First, Derived])
def test_what_a_factory_does_not_say_is_as_in_the_base_class(kind: type[First]) -> None:
    made = make_factory(kind, random.Random(1))

    assert {name: flag(made, name) for name in DEFAULTS} == DEFAULTS
    assert [hook(made, name) for name in ("seed", "endpoints", "call_ended")] == [None] * 3


def test_what_a_factory_says_is_heard() -> None:
    rng = random.Random(1)
    made = make_factory(Everything, rng)

    assert {name: flag(made, name) for name in DEFAULTS} == {name: not value for name, value in DEFAULTS.items()}
    assert [hook(made, name) for name in ("seed", "endpoints", "call_ended")] == [
        made.seed,
        made.endpoints,
        made.call_ended,
    ]
    assert made.rng is rng


def test_a_method_may_be_given_to_the_object_alone() -> None:
    made = First()
    made.call_ended = print

    check_factory(made)

    assert hook(made, "call_ended") is print


def test_the_base_class_alone_builds_nothing() -> None:
    base = PickerFactory()

    assert (base.seed(random.Random(1)), base.endpoints(()), base.call_ended(fleet(1)[0], None)) == (None, None, None)
    with pytest.raises(NotImplementedError, match="PickerFactory has no build"):
        base.build(())


@pytest.mark.parametrize("name", picker_names())
def test_the_shipped_ones_keep_the_contract(name: str) -> None:
    check_factory(make_factory(name, random.Random(1)))


def made_with(**members: Any) -> Callable[[], Any]:
    return type("Mine", (First,), members)


def of_the_base(**members: Any) -> Callable[[], Any]:
    return type("Mine", (PickerFactory,), members)


async def told_later(*arguments: object) -> None:
    """Nobody would await it."""


def with_own_flag() -> Any:
    made = First()
    made.need_call = False
    return made


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (made_with(need_call=False), "the picker factory Mine has 'need_call': did you mean 'needs_call'?"),
        (made_with(needs_latencies=True), "did you mean 'needs_latency'?"),
        (made_with(call_end=lambda self, sub, end: None), "has 'call_end': did you mean 'call_ended'?"),
        (made_with(callEnded=lambda self, sub, end: None), "has 'callEnded': did you mean 'call_ended'?"),
        (made_with(endpoint=lambda self, endpoints: None), "has 'endpoint': did you mean 'endpoints'?"),
        (of_the_base(biuld=lambda self, ready: None), "not <.*Mine.*>; did you mean 'biuld' to be its 'build'?"),
        (of_the_base(), r"picker must return a PickerFactory \(an object with build\), not <.*Mine"),
        (of_the_base(build=7), r"picker must return a PickerFactory \(an object with build\), not <.*Mine"),
        (with_own_flag, "the picker factory First has 'need_call': did you mean 'needs_call'?"),
        (made_with(reads_weight="no"), "the picker factory Mine must have reads_weight = True or False, not 'no'"),
        (made_with(build=lambda self: None), r"the picker factory Mine must have a method build\(ready\)"),
        (made_with(seed=lambda self: None), r"must have a method seed\(rng\)"),
        (made_with(call_ended=lambda self, sub: None), r"must have a method call_ended\(sub, end\)"),
        (made_with(build=told_later), "build of the picker factory Mine must be no coroutine function"),
        (made_with(call_ended=told_later), "call_ended of the picker factory Mine must be no coroutine function"),
        (made_with(endpoints=()), r"must have a method endpoints\(endpoints\)"),
    ],
)
def test_a_factory_that_cannot_work_is_an_error_at_once(source: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_factory(source, random.Random(1))


@pytest.mark.parametrize(
    "source",
    [
        made_with(endpoint=lambda self: None, endpoints=lambda self, endpoints: None),  # a helper beside the real one
        made_with(_need_call=False, rebuild=lambda self: None, seeded=False, ends=0),
        made_with(seed=lambda self, *arguments: None, call_ended=lambda *arguments, **named: None),
        made_with(seed=random.seed, call_ended=None),
        made_with(endpoints=dict),  # of a class that does not say what it takes
    ],
)
def test_what_merely_looks_odd_is_let_pass(source: Callable[[], Any]) -> None:
    check_factory(source())
