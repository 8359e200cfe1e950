"""The order of virtual time."""

from healthlb.simulation.engine.engine import Engine


def test_the_order_is_by_time_and_then_by_request() -> None:
    engine = Engine()
    seen: list[tuple[int, str]] = []

    def see(what: str) -> None:
        seen.append((engine.now, what))

    engine.at(5, see, "c")
    engine.after(3, see, "a")
    engine.after(3, see, "b")
    engine.at(3, see, "b2")
    engine.run(10)

    assert seen == [(3, "a"), (3, "b"), (3, "b2"), (5, "c")]
    assert engine.now == 10
    assert engine.events == 4


def test_what_is_asked_for_the_past_is_done_now() -> None:
    engine = Engine()
    seen: list[int] = []
    engine.run(7)
    engine.at(3, lambda: seen.append(engine.now))
    engine.run(7)

    assert seen == [7]


def test_what_comes_later_waits() -> None:
    engine = Engine()
    seen: list[int] = []
    engine.after(5, seen.append, 1)
    engine.run(4)
    assert seen == []
    engine.run(5)
    assert seen == [1]


def test_what_is_to_be_first_is_done_before_all_else_at_its_time() -> None:
    engine = Engine()
    seen: list[str] = []
    engine.at(5, seen.append, "other")
    engine.first(5, lambda: seen.append("first"))
    engine.run(5)

    assert seen == ["first", "other"]
