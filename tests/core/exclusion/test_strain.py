"""Whether those that are left can do the work: many late calls, or slow ones, say that they cannot."""

from __future__ import annotations

from dataclasses import dataclass, field

from healthlb.core.exclusion.strain import Strain
from healthlb.core.load import CallLimiter, Subchannel, Verdict
from healthlb.core.messages import SECOND, Endpoint

LOOK = SECOND // 10


@dataclass
class Fleet:
    """Subchannels whose calls a test makes, and what looks at them ten times a second."""

    size: int
    now: int = 1_000 * SECOND
    share: float = 0.0
    limiter: CallLimiter = field(default_factory=lambda: CallLimiter(None, None, None))

    def __post_init__(self) -> None:
        self.subs = [Subchannel(number, 1, Endpoint(f"{number}:1")) for number in range(1, self.size + 1)]
        self.strain = Strain(SECOND // 10, self.limiter)
        self.strain.begin(self.subs, self.now)

    def second(self, calls: int, lates: int = 0, in_flight: int = 1, of: int | None = None, hung: int = 0) -> bool:
        """Let a second pass in which so many calls of each of the first `of` end, some of them late.

        The others answer in time, with one call in flight. Besides there are those that hang. Return whether there is
        strain.
        """
        for place, sub in enumerate(self.subs):
            sub.load.in_flight = in_flight if of is None or place < of else 1
        share = self.find(hung)
        for place, sub in enumerate(self.subs):
            is_one = of is None or place < of
            for number in range(calls):
                sub.load.start()
                if is_one and number < lates:
                    sub.load.fail(Verdict.LATE)
                else:
                    sub.load.succeed(self.now)
        for _ in range(10):
            self.now += LOOK
            self.strain.look(self.subs, self.now, share)
        return self.strain.is_on

    def find(self, hung: int) -> float:
        """Let so many be found that hang, and return the part of the calls that they had."""
        share = hung / (hung + self.size)
        if share != self.share:
            self.share = share
            for _ in range(2):
                self.strain.look(self.subs, self.now, share)
        return share

    def refused(self, hung: int, lates: int, in_flight: int = 1) -> float:
        """Let a second pass in which so many of 20 calls are late, and return which percentage is refused then."""
        self.second(20, lates, in_flight, hung=hung)
        return round(100 * self.strain.refused, 1)


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
    assert not fleet.limiter.is_strained

    fleet.strain.begin(fleet.subs, fleet.now)
    assert fleet.second(20, 20)
    assert [fleet.second(20) for _ in range(6)] == [True] * 4 + [False] * 2


def test_calls_that_a_hedge_has_superseded_are_not_late() -> None:
    fleet = Fleet(3)
    for sub in fleet.subs:
        for _ in range(50):
            sub.load.start()
            sub.load.supersede()
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


# --- while some hang, a part of the calls is refused ----------------------------------------------


def test_all_that_the_hung_ones_had_is_refused_where_more_of_the_others_calls_are_late() -> None:
    assert Fleet(3).refused(hung=1, lates=5) == 0
    assert Fleet(3).refused(hung=1, lates=6) == 25
    assert Fleet(3).refused(hung=3, lates=10) == 0
    assert Fleet(3).refused(hung=3, lates=11) == 50


def test_where_fewer_are_late_those_are_refused_once_that_is_no_chance() -> None:
    fleet = Fleet(3)

    assert fleet.refused(hung=3, lates=4) == 0
    assert fleet.refused(hung=3, lates=6) == 30
    assert fleet.refused(hung=3, lates=8) == 40


def test_late_calls_in_long_lines_are_no_chance() -> None:
    fleet = Fleet(3)
    fleet.second(20)

    assert fleet.refused(hung=3, lates=4, in_flight=5) == 20


def test_calls_that_are_very_slow_are_no_chance_where_the_lines_have_grown() -> None:
    for in_flight, refused in ((8, 0), (9, 28.6), (12, 35.5)):
        fleet = Fleet(3)
        fleet.second(20)  # 0.05 s each
        fleet.find(3)

        assert fleet.refused(hung=3, lates=0, in_flight=in_flight) == refused


def test_slow_calls_are_none_when_they_are_so_for_long() -> None:
    fleet = Fleet(3)
    fleet.second(20)

    assert fleet.refused(hung=3, lates=0, in_flight=5) == 0
    assert fleet.refused(hung=3, lates=0, in_flight=7) == 9.1


def test_who_hangs_after_the_comparison_was_no_part_of_it() -> None:
    fleet = Fleet(3)

    assert fleet.refused(hung=0, lates=20) == 0
    assert [fleet.refused(hung=1, lates=0) for _ in range(4)] == [0] * 4
    assert fleet.refused(hung=1, lates=6) == 25
    assert fleet.refused(hung=2, lates=0) == 15
    assert fleet.refused(hung=0, lates=0) == 0
    assert fleet.refused(hung=1, lates=0) == 0


def test_less_is_refused_with_each_second_in_time_and_strain_lasts_as_long() -> None:
    fleet = Fleet(3)

    assert [fleet.refused(hung=1, lates=20) for _ in range(2)] == [25] * 2
    assert [fleet.refused(hung=1, lates=2) for _ in range(4)] == [18.8, 12.5, 6.2, 0]
    assert fleet.strain.is_on
    assert not fleet.second(20, hung=1)


def test_what_the_others_are_known_to_do_comes_back_soon_and_more_slowly() -> None:
    fleet = Fleet(3)
    for lates in (4, 6):
        fleet.refused(hung=3, lates=lates)
    assert fleet.refused(hung=3, lates=11) == 50

    assert [fleet.refused(hung=3, lates=0) for _ in range(4)] == [37.5, 28.3, 26.7, 25]
    assert fleet.strain.is_on


def test_one_that_is_late_while_others_are_not_keeps_calls_refused() -> None:
    fleet = Fleet(3)
    fleet.refused(hung=1, lates=20)

    fleet.second(20, 20, of=1, hung=1)
    assert fleet.strain.refused == 0.25


def test_without_calls_less_is_refused_until_it_is_none() -> None:
    fleet = Fleet(3)
    fleet.second(20, 20, in_flight=0, hung=1)
    for sub in fleet.subs:
        sub.load.in_flight = 0
    began_at = fleet.now
    while (at := fleet.strain.look(fleet.subs, fleet.now, 0.25)) is not None:
        fleet.now = at

    assert fleet.strain.refused == 0
    assert fleet.now < began_at + 30 * SECOND


def test_a_few_late_calls_are_enough_to_see_where_some_hang() -> None:
    assert not Fleet(3).second(4, 4)
    assert not Fleet(3).second(3, 3, hung=1)
    assert Fleet(3).second(4, 4, hung=1)


def test_what_is_usual_is_what_calls_took_until_somebody_was_found_to_hang() -> None:
    fleet = Fleet(3)
    for sub in fleet.subs:
        sub.load.in_flight = 1
    for _ in range(3):
        for sub in fleet.subs:
            for _ in range(6):
                sub.load.start()
                sub.load.succeed(fleet.now)
        fleet.now += LOOK
        fleet.strain.look(fleet.subs, fleet.now)
    fleet.find(3)

    assert fleet.refused(hung=3, lates=0, in_flight=9) == 28.6
