"""Whether those that are left can do the work: many late calls, or slow ones, say that they cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

from healthlb.core.exclusion.strain import Strain
from healthlb.core.load import Crowd, Subchannel, Verdict
from healthlb.core.messages import SECOND, Endpoint

LOOK = SECOND // 10


@dataclass
class Fleet:
    """Subchannels whose calls a test makes, and what looks at them ten times a second."""

    size: int
    now: int = 1_000 * SECOND
    crowd: Crowd = field(default_factory=lambda: Crowd(None, None, None))

    def __post_init__(self) -> None:
        self.subs = [Subchannel(number, 1, Endpoint(f"{number}:1")) for number in range(1, self.size + 1)]
        self.strain = Strain(SECOND // 10, self.crowd)
        self.strain.begin(self.subs, self.now)

    def second(self, calls: int, lates: int = 0, in_flight: int = 1, of: int | None = None, hung: int = 0) -> bool:
        """Let a second pass in which so many calls of each of the first `of` end, some of them late.

        The others answer in time, with one call in flight. Besides there are those that hang. Return whether there is
        strain.
        """
        for place, sub in enumerate(self.subs):
            is_one = of is None or place < of
            sub.load.in_flight = in_flight if is_one else 1
            for number in range(calls):
                sub.load.start()
                if is_one and number < lates:
                    sub.load.fail(Verdict.LATE)
                else:
                    sub.load.succeed(self.now)
        for _ in range(10):
            self.now += LOOK
            self.strain.look(self.subs, self.now, hung / (hung + self.size))
        return self.strain.is_on

    def refused(self, hung: int, lates: int) -> int:
        """Let a second pass in which so many of 20 calls are late, and return of how many the share is refused then."""
        self.second(20, lates, hung=hung)
        return round(self.size * self.strain.refused / (1 - self.strain.refused))


def test_a_fleet_that_answers_in_time_is_not_strained() -> None:
    fleet = Fleet(3)

    assert [fleet.second(20, 2) for _ in range(20)] == [False] * 20


def test_a_fleet_of_which_most_are_late_is_strained() -> None:
    assert Fleet(3).second(20, 3)
    assert Fleet(3).second(20, 3, of=2)
    assert not Fleet(3).second(20, 20, of=1)
    assert not Fleet(4).second(20, 20, of=2)


def test_a_fleet_that_is_four_times_as_slow_as_at_best_is_strained() -> None:
    fleet = Fleet(3)

    assert not fleet.second(20)  # 0.05 s each
    assert not fleet.second(20, in_flight=4)
    assert fleet.second(20, in_flight=5)


def test_what_is_below_the_floor_is_fast_enough() -> None:
    fleet = Fleet(3)

    assert not fleet.second(200)  # 5 ms each
    assert not fleet.second(200, in_flight=20)
    assert fleet.second(200, in_flight=21)


def test_one_slow_backend_says_nothing_of_the_others() -> None:
    fleet = Fleet(4)
    fleet.second(20)

    assert not fleet.second(20, in_flight=500, of=2)
    assert fleet.second(20, in_flight=500, of=3)


def test_what_is_usual_changes_in_the_course_of_time() -> None:
    fleet = Fleet(3)
    fleet.second(20)

    assert [fleet.second(20, in_flight=4) for _ in range(120)] == [False] * 120
    assert not fleet.second(20, in_flight=15)


def test_a_window_has_enough_calls_or_five_seconds() -> None:
    fleet = Fleet(3)

    assert [fleet.second(3, 3) for _ in range(5)] == [False] * 4 + [True]


def test_strain_is_kept_for_five_seconds_and_twice_as_long_the_next_time() -> None:
    fleet = Fleet(3)

    assert fleet.second(20, 20)
    assert [fleet.second(20) for _ in range(6)] == [True] * 4 + [False] * 2
    assert fleet.second(20, 20)
    assert [fleet.second(20) for _ in range(11)] == [True] * 9 + [False] * 2
    # It is the same strain while it lasts.
    assert [fleet.second(20, 20) for _ in range(60)] == [True] * 60
    assert [fleet.second(20) for _ in range(21)] == [True] * 19 + [False] * 2


def test_it_is_kept_for_less_than_three_minutes() -> None:
    fleet = Fleet(3)
    for _ in range(8):
        fleet.second(20, 20)
        lasted = 0
        while fleet.second(20):
            lasted += 1

    assert lasted == 5 * 32 - 1


def test_once_all_is_well_the_next_strain_is_a_first_one() -> None:
    fleet = Fleet(3)
    fleet.second(20, 20)
    fleet.strain.end()
    assert not fleet.crowd.is_strained

    fleet.strain.begin(fleet.subs, fleet.now)
    assert fleet.second(20, 20)
    assert [fleet.second(20) for _ in range(6)] == [True] * 4 + [False] * 2


def test_calls_that_a_hedge_has_beaten_are_not_late() -> None:
    fleet = Fleet(3)
    for sub in fleet.subs:
        for _ in range(50):
            sub.load.start()
            sub.load.beat()
            sub.load.abandon()

    assert not fleet.second(20)


def test_nobody_to_look_at_is_no_strain() -> None:
    fleet = Fleet(3)
    fleet.subs = []

    assert [fleet.second(0) for _ in range(6)] == [False] * 6


def test_strain_is_looked_at_until_it_is_over_though_there_are_no_calls() -> None:
    fleet = Fleet(3)
    assert fleet.second(20, 20, in_flight=0)
    ends_at = fleet.now + 5 * SECOND
    while (at := fleet.strain.look(fleet.subs, fleet.now)) is not None:
        fleet.now = at

    assert not fleet.strain.is_on
    assert ends_at <= fleet.now < ends_at + 4 * SECOND


def test_a_connection_that_comes_in_late_counts_from_then_on() -> None:
    fleet = Fleet(2)
    fresh = Subchannel(3, 1, Endpoint("3:1"))
    for _ in range(60):
        fresh.load.start()
        fresh.load.fail(Verdict.LATE)
    fleet.subs.append(fresh)

    assert not fleet.second(0, in_flight=0)
    assert [fleet.second(20) for _ in range(3)] == [False] * 3


def test_a_look_that_comes_late_tells_of_the_clients_own_standstill() -> None:
    fleet = Fleet(3)
    fleet.second(20)
    for sub in fleet.subs:
        for _ in range(60):
            sub.load.start()
            sub.load.fail(Verdict.LATE)
    fleet.now += SECOND

    assert [fleet.second(20) for _ in range(6)] == [False] * 6


def test_thousands_are_looked_at_less_often() -> None:
    fleet = Fleet(1)
    many = [Subchannel(number, 1, Endpoint(f"{number}:1")) for number in range(5_000)]

    assert fleet.strain.begin(many, 0) == SECOND


def test_without_calls_the_looks_end_and_a_pause_is_no_time_of_calls() -> None:
    fleet = Fleet(1)
    load = fleet.subs[0].load
    looks = []
    for _ in range(5):
        at = fleet.strain.look(fleet.subs, fleet.now)
        assert at is not None
        looks.append((at - fleet.now) / LOOK)
        fleet.now = at

    assert looks == [2, 4, 8, 16, 20]
    assert fleet.strain.look(fleet.subs, fleet.now) is None
    fleet.now += 2 * SECOND
    load.in_flight = 50
    assert fleet.strain.look(fleet.subs, fleet.now) == fleet.now + LOOK
    assert [fleet.second(1_000, in_flight=50) for _ in range(2)] == [False, False]


# --- of how many that hang the share is refused ----------------------------------------------------


def test_the_share_of_who_hangs_is_refused_where_more_of_the_others_calls_are_late() -> None:
    assert Fleet(3).refused(hung=1, lates=5) == 0
    assert Fleet(3).refused(hung=1, lates=6) == 1
    assert Fleet(3).refused(hung=3, lates=10) == 0
    assert Fleet(3).refused(hung=3, lates=11) == 3


def test_who_hangs_after_the_comparison_was_no_part_of_it() -> None:
    fleet = Fleet(3)

    assert fleet.refused(hung=0, lates=20) == 0
    assert [fleet.refused(hung=1, lates=0) for _ in range(4)] == [0] * 4
    assert fleet.refused(hung=1, lates=6) == 1
    assert fleet.refused(hung=2, lates=8) == 1
    assert fleet.refused(hung=2, lates=9) == 2
    assert fleet.refused(hung=1, lates=0) == 1
    assert fleet.refused(hung=2, lates=0) == 1
    assert fleet.refused(hung=0, lates=0) == 0
    assert fleet.refused(hung=1, lates=0) == 0


def test_it_is_tried_anew_after_ten_seconds_or_when_the_strain_is_over() -> None:
    fleet = Fleet(3)

    assert [fleet.refused(hung=1, lates=20) for _ in range(2)] == [1] * 2
    assert [fleet.refused(hung=1, lates=0) for _ in range(5)] == [1] * 4 + [0]
    for _ in range(3):
        fleet.second(20)
    fleet.second(20, 20)
    while fleet.second(20):
        pass
    assert fleet.refused(hung=1, lates=20) == 1
    assert [fleet.refused(hung=1, lates=3) for _ in range(11)] == [1] * 9 + [0] * 2
    assert fleet.strain.is_on
