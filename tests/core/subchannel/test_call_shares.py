"""Which part of the calls a subchannel had before it fell silent, by what the pickers gave it of late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Endpoint
from healthlb.core.subchannel.heartbeats import CallShares


class Fleet:
    """Machines whose calls a test counts in."""

    def __init__(self, size: int) -> None:
        self.machines: dict[int, Any] = {
            number: SimpleNamespace(id=number, handle=connection(number), is_silent=False, call_share=0.0)
            for number in range(1, size + 1)
        }
        self.shares = CallShares()
        self.now = 1_000 * SECOND

    def calls(self, *counts: int) -> None:
        for machine, count in zip(self.machines.values(), counts, strict=True):
            for _ in range(count):
                machine.handle.load.start()

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.shares.look(self.machines, self.now)
            self.now += SECOND

    def part(self, sub: int) -> float:
        return round(self.shares.part(self.machines[sub], self.machines.values()), 3)

    def silence(self, sub: int) -> None:
        self.machines[sub].call_share = self.part(sub)
        self.machines[sub].is_silent = True
        self.machines[sub].handle = None


def connection(number: int) -> Subchannel:
    return Subchannel(number, 1, Endpoint(f"{number}:1"))


def test_it_is_what_the_pickers_gave_it_and_not_one_of_so_many() -> None:
    fleet = Fleet(4)
    fleet.calls(100, 100, 1, 0)

    assert [fleet.part(sub) for sub in (1, 3, 4)] == [0.498, 0.005, 0.0]


def test_the_parts_of_those_that_fall_silent_one_after_another_are_those_of_all_calls() -> None:
    fleet = Fleet(4)
    fleet.calls(10, 10, 10, 10)
    for sub in (1, 2, 3):
        fleet.silence(sub)

    assert [machine.call_share for machine in fleet.machines.values()] == [0.25, 0.25, 0.25, 0.0]


def test_only_the_last_five_to_ten_seconds_count() -> None:
    fleet = Fleet(2)
    fleet.look(1)
    fleet.calls(1_000, 0)
    fleet.look(5)
    fleet.calls(0, 10)
    assert fleet.part(1) == 0.99
    fleet.look(5)
    fleet.calls(0, 10)

    assert (fleet.part(1), fleet.part(2)) == (0.0, 1.0)


def test_a_new_connection_has_had_no_calls_before() -> None:
    fleet = Fleet(2)
    fleet.calls(10, 10)
    fleet.look(6)
    fleet.machines[1].handle = connection(1)
    fleet.calls(10, 30)
    assert fleet.part(1) == 0.25
    fleet.look(6)

    assert fleet.part(1) == 0.25


def test_without_calls_or_a_connection_it_is_none() -> None:
    fleet = Fleet(2)
    assert fleet.part(1) == 0.0
    fleet.calls(1, 1)
    fleet.machines[1].handle = None
    fleet.look(1)

    assert fleet.part(1) == 0.0
