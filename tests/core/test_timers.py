from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from healthlb.core.timers import Timers

keys = st.integers(0, 5)
times = st.integers(0, 20)


class TimersMachine(RuleBasedStateMachine):
    """Against a list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[int] = Timers()
        self.model: list[tuple[int, int]] = []  # (at, key) in the order they were set

    @rule(key=keys, at=times)
    def set(self, key: int, at: int) -> None:
        self.timers.set(key, at)
        self.cancel_in_model(key)
        self.model.append((at, key))

    @rule(key=keys)
    def cancel(self, key: int) -> None:
        self.timers.cancel(key)
        self.cancel_in_model(key)

    def cancel_in_model(self, key: int) -> None:
        self.model = [entry for entry in self.model if entry[1] != key]

    @rule(now=times)
    def pop_due(self, now: int) -> None:
        due = min((entry for entry in self.model if entry[0] <= now), key=lambda entry: entry[0], default=None)
        if due is not None:
            self.model.remove(due)

        assert self.timers.pop_due(now) == (None if due is None else due[1])

    @rule(key=keys, at=times)
    def set_often(self, key: int, at: int) -> None:
        for moved in range(200):
            self.timers.set(key, at + moved)
        self.set(key, at)

    @invariant()
    def agrees(self) -> None:
        assert self.timers.deadline == min((at for at, _ in self.model), default=None)
        assert len(self.timers) == len(self.model)
        assert [key for key in range(6) if self.timers.is_set(key)] == sorted(key for _, key in self.model)


TestTimersMachine = TimersMachine.TestCase
TestTimersMachine.settings = settings(max_examples=100, stateful_step_count=50)


def test_timers_that_are_moved_leave_nothing_behind() -> None:
    timers: Timers[str] = Timers()
    for at in range(10_000):
        timers.set("moved", 10_000 - at)

    assert len(timers._heap) < 100
    assert timers.deadline == 1


def test_ties_fire_in_the_order_they_were_set() -> None:
    timers: Timers[str] = Timers()
    for key in ("b", "a", "c"):
        timers.set(key, 5)
    timers.set("b", 5)

    assert [timers.pop_due(4), *(timers.pop_due(5) for _ in range(4))] == [None, "a", "c", "b", None]
