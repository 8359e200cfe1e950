"""Pickers of the user's, whatever they raise and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.pickers import ANY_CALL, CallInfo
from healthlb.core.pickers.checked import CheckedPicker, FailedPick, FailedPicker
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.publication import Publisher
from healthlb.core.snapshot import NOTHING, Snapshot
from healthlb.core.user_code import Guard, name_of, shown, words
from tests.core.fleets import fleet

READY = ConnectivityState.READY
ONE, TWO, THREE = fleet(3)


class Picker:
    """Does as it is told."""

    def __init__(self, answer: Callable[[CallInfo], Any]) -> None:
        self.pick = answer


class Notes(Guard):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException | None]] = []

    def tell(self, text: str, error: BaseException | None = None) -> None:
        super().tell(text, error)
        self.told.append((text, error))


def checked(
    answer: Callable[[CallInfo], Any], ready: Sequence[Subchannel], *, is_stale: bool = False
) -> tuple[CheckedPicker, Notes]:
    notes = Notes()
    spare = RoundRobin().build(ready)
    return CheckedPicker(Picker(answer), ready, spare, name="Mine", guard=notes, is_stale=is_stale), notes


def raises(error: BaseException) -> Callable[[CallInfo], Any]:
    def answer(call: CallInfo) -> Any:
        raise error

    return answer


def reason(found: object) -> str:
    assert isinstance(found, FailedPick)
    assert not found.load.start()
    return found.reason


def test_what_is_ready_is_picked() -> None:
    picker, notes = checked(lambda call: TWO, (ONE, TWO))

    assert [picker.pick(ANY_CALL) for _ in range(3)] == [TWO] * 3
    assert notes.told == []


def test_none_is_nothing_to_pick() -> None:
    assert checked(lambda call: None, (ONE, TWO))[0].pick(ANY_CALL) is None


@pytest.mark.parametrize("error", [LookupError("broken"), SystemExit(3), GeneratorExit()])
def test_what_a_picker_raises_ends_the_call(error: BaseException) -> None:
    picker, notes = checked(raises(error), (ONE,))
    found = [reason(picker.pick(ANY_CALL)) for _ in range(3)]

    assert found == [f"the picker Mine raised {words(error)}"] * 3
    assert notes.told == [(found[0], error)]


def test_an_interrupt_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        checked(raises(KeyboardInterrupt()), (ONE,))[0].pick(ANY_CALL)


@pytest.mark.parametrize(
    ("garbage", "told"),
    [("10.0.0.1:1", "'10.0.0.1:1' (str)"), (7, "7 (int)"), ([ONE], "(list)"), (ONE.endpoint, "(Endpoint)")],
)
def test_garbage_is_named(garbage: object, told: str) -> None:
    picker, notes = checked(lambda call: garbage, (ONE,))
    text = reason(picker.pick(ANY_CALL))

    assert text.startswith("the picker Mine returned ")
    assert told in text
    assert text.endswith("a picker returns one of the subchannels that build was given, or None")
    assert notes.told == [(text, None)]


def test_a_coroutine_is_garbage_that_is_closed() -> None:
    async def pick() -> None:
        """Never run."""

    assert "(coroutine)" in reason(checked(lambda call: pick(), (ONE,))[0].pick(ANY_CALL))


def test_c19_what_is_gone_is_excluded_and_the_pick_repeated() -> None:
    asked: list[CallInfo] = []

    def answer(call: CallInfo) -> Subchannel:
        asked.append(call)
        return next(sub for sub in (ONE, TWO, THREE) if sub.id not in call.exclude)

    picker, notes = checked(answer, (TWO, THREE), is_stale=True)

    assert picker.pick(ANY_CALL) is TWO
    assert picker.pick(CallInfo(exclude=frozenset({TWO.id}))) is THREE
    assert [set(call.exclude) for call in asked] == [set(), {1}, {2}, {1, 2}]
    assert notes.told == []


@pytest.mark.parametrize("is_stale", [False, True])
def test_c19_a_picker_that_knows_only_what_is_gone_leaves_the_rest_in_turn(is_stale: bool) -> None:
    picker, notes = checked(lambda call: ONE, (TWO, THREE), is_stale=is_stale)

    assert [picker.pick(ANY_CALL) for _ in range(4)] == [TWO, THREE, TWO, THREE]
    assert len(notes.told) == (not is_stale)  # else it was told of when it could not be built


def test_c19_a_picker_that_has_nothing_leaves_the_rest_in_turn_where_it_is_stale() -> None:
    picker, _ = checked(lambda call: None, (TWO, THREE), is_stale=True)

    assert [picker.pick(ANY_CALL) for _ in range(4)] == [TWO, THREE, TWO, THREE]


def test_a_picker_that_raises_at_the_second_look() -> None:
    def answer(call: CallInfo) -> Subchannel:
        if call.exclude:
            raise LookupError("nothing left")
        return ONE

    assert reason(checked(answer, (TWO,))[0].pick(ANY_CALL)).endswith("raised LookupError: nothing left")


def test_a_fault_stays_one() -> None:
    inner, _ = checked(raises(ValueError("x")), (ONE,))
    outer, notes = checked(inner.pick, (TWO,), is_stale=True)

    assert reason(outer.pick(ANY_CALL)).endswith("raised ValueError: x")
    assert notes.told == []


# --- factories --------------------------------------------------------------------------------------------


class Factory:
    """Builds what it is told to."""

    def __init__(self, build: Callable[[Sequence[Subchannel]], Any]) -> None:
        self.build = build


def published(factory: Any, *readies: tuple[Subchannel, ...]) -> tuple[Publisher, Notes]:
    notes = Notes()
    publisher = Publisher(factory, Snapshot(0, READY), notes)
    for number, ready in enumerate(readies, 1):
        publisher.publish(Snapshot(number, READY, ready))
    return publisher, notes


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda ready: 1 / 0, "the picker Factory could not be built: ZeroDivisionError: division by zero"),
        (raises(SystemExit(3)), "the picker Factory could not be built: SystemExit: 3"),
        (lambda ready: "x", "the picker Factory could not be built: TypeError: build returned 'x' (str), not a picker"),
    ],
)
def test_u1_where_none_was_ever_built_calls_say_why(build: Any, told: str) -> None:
    publisher, notes = published(Factory(build), (ONE, TWO), (ONE,))
    text = reason(publisher.published.picker.pick(ANY_CALL))

    assert text.startswith(told)
    assert isinstance(publisher.published.picker, FailedPicker)
    assert [text for text, _ in notes.told] == [text]  # once, though it was tried again
    publisher.publish(Snapshot(3, READY, ()))
    assert publisher.published.picker is NOTHING


def test_c19_a_build_that_fails_after_a_removal_parks_no_call() -> None:
    def build(ready: Sequence[Subchannel]) -> Any:
        if ONE not in ready:
            raise ValueError("broken")
        return Picker(lambda call: ONE)

    publisher, notes = published(Factory(build), (ONE, TWO, THREE), (TWO, THREE), (THREE, TWO))
    picker = publisher.published.picker

    assert {picker.pick(ANY_CALL) for _ in range(4)} == {TWO, THREE}
    assert [error is None for _, error in notes.told] == [False, True]
    publisher.publish(Snapshot(4, READY, (ONE,)))
    assert publisher.published.picker.pick(ANY_CALL) is ONE
    publisher.publish(Snapshot(5, READY, (TWO,)))
    assert len(notes.told) == 4  # it had worked in between


def test_a_build_that_failed_can_be_tried_again() -> None:
    errors: list[Exception] = [ValueError("broken"), ValueError("broken")]

    def build(ready: Sequence[Subchannel]) -> Any:
        if errors:
            raise errors.pop()
        return Picker(lambda call: ONE)

    publisher, _ = published(Factory(build), (ONE,))

    assert publisher.retry()
    assert isinstance(publisher.published.picker, FailedPicker)
    assert publisher.retry()
    assert publisher.published.picker.pick(ANY_CALL) is ONE
    assert not publisher.retry()


def test_an_interrupt_in_build_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        published(Factory(raises(KeyboardInterrupt())), (ONE,))


def test_pickers_of_ours_are_not_checked() -> None:
    assert not isinstance(published(RoundRobin(), (ONE,))[0].published.picker, CheckedPicker)


# --- words ------------------------------------------------------------------------------------------------


class Rude:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise SystemExit(1)


def test_user_code_is_named() -> None:
    assert [name_of(code) for code in (test_user_code_is_named, Rude, Rude(), len, lambda: 0)] == [
        "test_user_code_is_named", "Rude", "Rude", "len", "<lambda>",
    ]  # fmt: skip


def test_exceptions_and_values_are_one_line() -> None:
    assert [words(error) for error in (KeyError("x"), ValueError(), OSError("a\nb"))] == [
        "KeyError: 'x'", "ValueError", "OSError: a\\nb",
    ]  # fmt: skip
    assert shown("a\n") == "'a\\n' (str)"
    assert shown(Rude()).endswith("(Rude)")


def test_endpoints_are_equal_where_their_values_cannot_be_compared() -> None:
    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    one = Endpoint("a:1", attributes={"x": Array()})

    assert one == Endpoint("a:1", attributes=one.attributes)
    assert one != Endpoint("a:1", attributes={"x": Array()})
    assert Endpoint("a:1", attributes={"x": 1}) == Endpoint("a:1", attributes={"x": 1})
    assert Endpoint("a:1") != Endpoint("a:1", weight=2.0)
    assert Endpoint("a:1") != "a:1"
