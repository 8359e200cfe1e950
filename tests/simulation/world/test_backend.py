"""A server as a queue: who is worked on when, and that everything that was taken ends once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb.core.states import Code
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.world.backend import Backend, Job

FULL, GONE, OK = Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.OK


class Bench:
    """A backend, and what has come of the jobs that it was given, by their names."""

    def __init__(self, **options: object) -> None:
        self.engine = Engine()
        self.backend = Backend(self.engine, **options)  # type: ignore[arg-type]
        self.ended: list[tuple[int, str, Code]] = []
        self.jobs: dict[str, Job] = {}

    def submit(self, name: str, work: int) -> None:
        self.jobs[name] = Job(work, lambda job, code: self.ended.append((self.engine.now, name, code)))
        self.backend.submit(self.jobs[name])

    def at(self, time: int, act: Callable[..., object], *arguments: object) -> None:
        self.engine.at(time, act, *arguments)

    def run(self, *arrivals: tuple[int, str, int], until: int = 10_000) -> list[tuple[int, str]]:
        for time, name, work in arrivals:
            self.at(time, self.submit, name, work)
        self.engine.run(until)
        return [(time, name) for time, name, _ in self.ended]


def test_a_fifo_serves_in_the_order_of_arrival_in_as_many_slots_as_it_has() -> None:
    bench = Bench(slots=2)

    assert bench.run((0, "a", 10), (1, "b", 4), (2, "c", 4), (2, "d", 4)) == [(5, "b"), (9, "c"), (10, "a"), (13, "d")]
    assert bench.backend.busy_ns == 22


def test_a_lifo_serves_the_newest() -> None:
    assert Bench(discipline="lifo").run((0, "a", 10), (1, "b", 1), (2, "c", 1)) == [(10, "a"), (11, "c"), (12, "b")]


def test_shared_work_takes_as_long_as_others_let_it() -> None:
    bench = Bench(discipline="ps")

    # Alone to 10, then halves: b is done after 20 of them, and a has 80 left at 30.
    assert bench.run((0, "a", 100), (10, "b", 10)) == [(30, "b"), (110, "a")]
    assert bench.backend.busy_ns == 110


def test_nobody_is_faster_than_alone_where_slots_are_shared() -> None:
    assert Bench(discipline="ps", slots=2).run((0, "a", 10), (0, "b", 10), (0, "c", 10)) == [
        (15, "a"),
        (15, "b"),
        (15, "c"),
    ]


def test_without_a_limit_nobody_waits() -> None:
    assert Bench(discipline="inf").run((0, "a", 10), (0, "b", 10), (1, "c", 2)) == [(3, "c"), (10, "a"), (10, "b")]


def test_a_full_queue_refuses() -> None:
    bench = Bench(queue=1)
    bench.run((0, "a", 10), (0, "b", 10), (1, "c", 10), (11, "d", 10))

    assert bench.ended == [(1, "c", FULL), (10, "a", OK), (20, "b", OK), (30, "d", OK)]


def test_no_queue_at_all_is_a_loss_system() -> None:
    assert [code for _, _, code in _ended(Bench(queue=0), (0, "a", 10), (0, "b", 10))] == [FULL, OK]


def test_too_many_streams_are_refused_as_http2_does() -> None:
    bench = Bench(discipline="ps", slots=4, max_streams=2)

    assert _ended(bench, (0, "a", 5), (0, "b", 5), (0, "c", 5)) == [(0, "c", GONE), (5, "a", OK), (5, "b", OK)]


def _ended(bench: Bench, *arrivals: tuple[int, str, int]) -> list[tuple[int, str, Code]]:
    bench.run(*arrivals)
    return bench.ended


@pytest.mark.parametrize("discipline", ["fifo", "lifo", "ps", "inf"])
def test_a_change_of_speed_stretches_what_is_left(discipline: str) -> None:
    bench = Bench(discipline=discipline)
    bench.at(10, bench.backend.set_speed, 0.1)
    bench.at(110, bench.backend.set_speed, 2.0)

    # 10 at full speed, 10 more by 110, and the last 80 in 40.
    assert bench.run((0, "a", 100), (1_000, "b", 100)) == [(150, "a"), (1_050, "b")]


@pytest.mark.parametrize("discipline", ["fifo", "lifo", "ps", "inf"])
def test_a_pause_stops_the_world(discipline: str) -> None:
    bench = Bench(discipline=discipline, slots=2)
    bench.at(10, bench.backend.pause)
    bench.at(12, bench.backend.pause)
    bench.at(50, bench.backend.resume)

    assert bench.run((0, "a", 100), (20, "b", 5)) == [(55, "b"), (140, "a")]
    assert bench.backend.busy_ns == 105


def test_during_a_pause_nothing_is_answered_either() -> None:
    bench = Bench(queue=0)
    bench.backend.set_error(1.0, Code.INTERNAL, 5)
    bench.at(3, bench.backend.pause)
    bench.at(4, bench.backend.set_error, 0.0)
    bench.at(50, bench.backend.resume)
    bench.run((0, "fails", 1), (10, "a", 20), (11, "full", 20))

    # What was to be answered at 5 is answered in its turn among what has arrived.
    assert bench.ended == [(50, "fails", Code.INTERNAL), (50, "full", FULL), (70, "a", OK)]


def test_errors_take_their_time_and_no_slot() -> None:
    numbers = iter([0.1, 0.9, 0.2])
    bench = Bench(random=numbers.__next__)
    bench.at(1, bench.backend.set_error, 0.5, Code.INTERNAL, 7)
    bench.at(30, bench.backend.set_error, 0.0)
    bench.run((0, "a", 10), (2, "b", 10), (3, "c", 10), (4, "d", 10), (40, "e", 10))

    assert bench.ended == [
        (9, "b", Code.INTERNAL),
        (10, "a", OK),
        (11, "d", Code.INTERNAL),
        (20, "c", OK),
        (50, "e", OK),
    ]


@pytest.mark.parametrize("discipline", ["fifo", "lifo", "ps"])
def test_a_crash_loses_what_was_there_and_a_restart_begins_anew(discipline: str) -> None:
    bench = Bench(discipline=discipline)
    lost: list[Job] = []
    bench.at(5, lambda: lost.extend(bench.backend.crash()))
    bench.at(9, bench.backend.restart)
    bench.run((0, "a", 10), (1, "b", 10), (6, "c", 10), (20, "d", 10))

    assert bench.ended == [(6, "c", GONE), (30, "d", OK)]
    assert {name for name, job in bench.jobs.items() if job in lost} == {"a", "b"}
    assert (bench.backend.in_service, bench.backend.queued) == (0, 0)


def test_a_crash_in_a_pause_loses_what_was_held_but_nothing_that_was_cancelled() -> None:
    bench = Bench()
    lost: list[Job] = []
    bench.backend.set_error(1.0, Code.INTERNAL, 100)
    bench.run((0, "fails", 1), until=1)
    bench.backend.set_error(0.0)
    bench.run((1, "a", 10), (1, "b", 10), until=1)
    bench.backend.pause()
    bench.run((2, "held", 10), (2, "taken back", 10), until=2)
    bench.backend.cancel(bench.jobs["a"])
    bench.backend.cancel(bench.jobs["taken back"])
    lost = bench.backend.crash()
    bench.backend.resume()
    bench.run()

    assert [name for job in lost for name in bench.jobs if bench.jobs[name] is job] == ["b", "fails", "held"]
    assert bench.ended == []


@pytest.mark.parametrize(
    ("options", "ends", "busy", "wasted"),
    [
        # b waits and is cancelled at 3, a runs and is cancelled at 4.
        ({}, [(30, "c")], 30, 20),
        ({"drop_cancelled": True}, [(20, "c")], 20, 10),
        ({"drop_cancelled": True, "stop_cancelled": True}, [(14, "c")], 14, 4),
        ({"discipline": "ps"}, [(30, "c")], 30, 20),
        ({"discipline": "ps", "stop_cancelled": True}, [(14, "c")], 14, 3),
        ({"discipline": "inf", "stop_cancelled": True}, [(12, "c")], 17, 7),
    ],
)
def test_cancelled_work_is_done_for_nobody_or_dropped(
    options: dict[str, object], ends: object, busy: int, wasted: int
) -> None:
    bench = Bench(**options)
    bench.at(3, lambda: bench.backend.cancel(bench.jobs["b"]))
    bench.at(4, lambda: bench.backend.cancel(bench.jobs["a"]))
    bench.at(5, lambda: bench.backend.cancel(bench.jobs["a"]))

    assert bench.run((0, "a", 10), (0, "b", 10), (2, "c", 10)) == ends
    assert (bench.backend.busy_ns, bench.backend.wasted_ns) == (busy, wasted)


def test_a_cancelled_failure_is_not_answered() -> None:
    bench = Bench()
    bench.backend.set_error(1.0, latency=5)
    bench.at(3, lambda: bench.backend.cancel(bench.jobs["a"]))

    assert bench.run((0, "a", 10)) == []


def test_a_cold_start_warms_up_in_steps() -> None:
    bench = Bench(cold=2_000, cold_speed=0.5)
    bench.backend.crash()
    bench.at(0, bench.backend.restart)
    bench.run((0, "a", 10), (1_050, "b", 1_000), (5_000, "c", 10))

    (first, _, _), (second, _, _), (third, _, _) = bench.ended
    # At 1,050 it is at 3/4; integrated by steps, 1,000 is done a little before 2,200.
    assert first == 20
    assert 2_150 < second < 2_200
    assert third == 5_010


def test_a_crash_ends_the_warming_up() -> None:
    bench = Bench()
    bench.backend.warm_up(0.1, 1_000)
    bench.at(500, bench.backend.crash)
    bench.at(600, bench.backend.restart)

    assert bench.run((700, "a", 100)) == [(800, "a")]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"slots": 0}, "slots must be a number at least 1, not 0"),
        ({"queue": -1}, "queue must be a number at least 0, not -1"),
        ({"max_streams": 0}, "max_streams must be a number at least 1, not 0"),
        ({"discipline": "random"}, "discipline must be one of fifo, lifo, ps, inf, not 'random'"),
        ({"cold_speed": 0}, "cold_speed must be a number above 0 and at most 1, not 0"),
    ],
)
def test_a_backend_that_cannot_be_is_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Bench(**options)

    assert str(caught.value) == text


def test_a_backend_says_how_it_is() -> None:
    bench = Bench()
    bench.run((0, "a", 10), (0, "b", 10), until=1)
    busy = repr(bench.backend)
    bench.backend.pause()
    paused = repr(bench.backend)
    bench.backend.crash()

    assert (busy, paused, repr(bench.backend)) == (
        "<Backend b0 1 in service, 1 queued>", "<Backend b0 paused, 1 queued>", "<Backend b0 down, 0 queued>",
    )  # fmt: skip


# --- laws that hold for any of them ----------------------------------------------------------------

ARRIVALS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), min_size=1, max_size=25)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from(["slow", "fast", "pause", "resume", "crash", "restart", "cancel", "fail", "mend"]),
        st.integers(0, 24),
    ),
    max_size=15,
)
OPTIONS = st.fixed_dictionaries({
    "discipline": st.sampled_from(["fifo", "lifo", "ps", "inf"]), "slots": st.integers(1, 3),
    "queue": st.sampled_from([None, 0, 2]), "max_streams": st.sampled_from([None, 3]),
    "drop_cancelled": st.booleans(), "stop_cancelled": st.booleans(), "cold": st.sampled_from([0, 100]),
})  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(OPTIONS, ARRIVALS, CHANGES)
def test_everything_ends_once(
    options: dict[str, object], arrivals: list[tuple[int, int]], changes: list[tuple[int, str, int]]
) -> None:
    bench = Bench(random=random.Random(1).random, **options)
    backend = bench.backend
    lost: list[Job] = []
    cancelled: list[Job] = []

    def change(what: str, number: int) -> None:
        match what:
            case "cancel" if f"{number}" in bench.jobs:
                cancelled.append(bench.jobs[f"{number}"])
                backend.cancel(cancelled[-1])
            case "crash":
                lost.extend(backend.crash())
            case "pause" | "resume" | "restart":
                getattr(backend, what)()
            case "slow" | "fast":
                backend.set_speed(0.3 if what == "slow" else 1.7)
            case "fail" | "mend":
                backend.set_error(0.5 if what == "fail" else 0.0, latency=9)

    for time, what, number in changes:
        bench.at(time, change, what, number)
    bench.at(500, backend.resume)
    bench.run(*((time, f"{number}", work) for number, (time, work) in enumerate(arrivals)), until=50_000)

    names = [name for _, name, _ in bench.ended]
    assert len(set(names)) == len(names)
    gone = {job for name in names for job in [bench.jobs[name]]}
    assert not gone & set(lost)
    # Who was cancelled may have ended before, or was lost before; nobody else is missing.
    assert gone | set(lost) | set(cancelled) == set(bench.jobs.values())
    assert (backend.in_service, backend.queued) == (0, 0)
    assert 0 <= backend.wasted_ns <= backend.busy_ns + len(names)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["fifo", "lifo", "ps"]), st.integers(1, 3), ARRIVALS)
def test_work_is_conserved(discipline: str, slots: int, arrivals: list[tuple[int, int]]) -> None:
    """All disciplines of one slot are busy at the same times; of more, each does all the work and no more."""
    bench = Bench(discipline=discipline, slots=slots)
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    bench.run(*((time, f"{number}", work) for number, (time, work) in enumerate(arrivals)), until=50_000)
    work = sum(work for _, work in arrivals)

    # A shared job ends at a whole nanosecond, so each may take up to one longer.
    assert work <= bench.backend.busy_ns + 1e-3
    assert bench.backend.busy_ns <= work + len(arrivals) * slots
    if slots == 1:
        free_at = 0
        for time, need in arrivals:
            free_at = max(free_at, time) + need
        assert free_at <= max(time for time, _, _ in bench.ended) <= free_at + len(arrivals)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3), ARRIVALS)
def test_a_fifo_starts_in_order(slots: int, arrivals: list[tuple[int, int]]) -> None:
    """Against the recursion of Kiefer and Wolfowitz: each takes the slot that is free first."""
    bench = Bench(slots=slots)
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    bench.run(*((time, f"{number}", work) for number, (time, work) in enumerate(arrivals)))
    free_at = [0] * slots
    expected = {}
    for number, (time, work) in enumerate(arrivals):
        free_at.sort()
        free_at[0] = max(free_at[0], time) + work
        expected[f"{number}"] = free_at[0]

    assert {name: time for time, name, _ in bench.ended} == expected
