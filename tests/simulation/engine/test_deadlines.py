"""Deadlines that are mostly over before they come."""

from __future__ import annotations

from healthlb.simulation.engine.deadlines import Deadlines
from healthlb.simulation.engine.engine import Engine


def test_those_left_are_called_in_their_time() -> None:
    engine = Engine()
    seen: list[tuple[int, str]] = []
    deadlines: Deadlines[str] = Deadlines(engine, lambda subject: seen.append((engine.now, subject)))
    deadlines.add("a", 10)
    deadlines.add("b", 12)
    deadlines.add("c", 12)
    del deadlines.live["a"]
    engine.run(11)
    deadlines.add("d", 15)
    engine.run(20)

    assert seen == [(12, "b"), (12, "c"), (15, "d")]
    assert not deadlines.live


def test_what_is_over_costs_the_engine_nothing() -> None:
    engine = Engine()
    deadlines: Deadlines[int] = Deadlines(engine, lambda subject: None)
    for number in range(1000):
        deadlines.add(number, 5000 + number)
        del deadlines.live[number]
    engine.run(10_000)

    assert engine.events == 1
    deadlines.add(1, 20_000)
    assert deadlines.is_armed


def test_one_that_ends_another_keeps_it_from_being_called() -> None:
    engine = Engine()
    seen: list[str] = []
    deadlines: Deadlines[str]

    def end(subject: str) -> None:
        seen.append(subject)
        deadlines.live.pop("b", None)

    deadlines = Deadlines(engine, end)
    deadlines.add("a", 5)
    deadlines.add("b", 5)
    engine.run(9)

    assert seen == ["a"]
