from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from healthlb.core.load import Load, Subchannel, Verdict
from healthlb.core.messages import Endpoint


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def run_in_threads(count: int, work: Callable[[int], None]) -> None:
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def counts(load: Load) -> tuple[int, int, int, int]:
    return load.in_flight, load.picks, load.successes, load.failures


def test_counts_of_calls() -> None:
    load = Load()
    assert [load.start() for _ in range(4)] == [True] * 4
    load.succeed(now=7)
    load.fail()
    load.abandon()

    assert (*counts(load), load.last_success_at) == (1, 4, 1, 1, 7)


def test_counts_are_exact_under_many_threads() -> None:
    load = Load()

    def work(number: int) -> None:
        for turn in range(3_000):
            assert load.start()
            if turn % 3 == 0:
                load.succeed(turn)
            elif turn % 3 == 1:
                load.fail()
            else:
                load.abandon()

    run_in_threads(8, work)

    assert counts(load) == (0, 24_000, 8_000, 8_000)


def test_a_lost_connection_is_one_failure_however_many_calls_were_on_it() -> None:
    load = Load()
    for _ in range(6):
        assert load.start()
    load.lose(began_at=10, now=50)
    load.lose(began_at=10, now=51)
    load.lose(began_at=49, now=60)

    assert (*counts(load), load.backend_failures, load.consecutive_failures()) == (3, 6, 0, 3, 3, (1, 0))
    assert load.judged == load.backend_failures, "what was lost is no answer, as that of a probe would be"

    load.lose(began_at=55, now=70)  # On the connection after it.
    load.fail(Verdict.FAILURE)

    assert load.consecutive_failures() == (3, 0)

    load.succeed(80)

    assert (load.consecutive_failures(), load.in_flight) == ((0, 0), 0)


def test_an_idle_connection_is_retired_at_once() -> None:
    load = Load()
    calls = []
    load.retire(lambda: calls.append("idle"))

    assert (calls, load.is_retired, load.start(), counts(load)) == (["idle"], True, False, (0, 0, 0, 0))


@pytest.mark.parametrize("end", [lambda load: load.succeed(1), Load.fail, Load.abandon, lambda load: load.lose(1, 2)])
def test_a_busy_connection_is_idle_with_its_last_call(end: Callable[[Load], None]) -> None:
    load = Load()
    calls = []
    load.start()
    load.start()
    load.retire(lambda: calls.append("idle"))
    end(load)
    assert calls == []
    end(load)

    assert (calls, load.start(), load.in_flight) == (["idle"], False, 0)


def test_idle_is_told_exactly_once_whoever_wins_the_race() -> None:
    for _ in range(100):
        load = Load()
        told: list[int] = []
        started = [0] * 4

        def work(number: int, load: Load = load, told: list[int] = told, started: list[int] = started) -> None:
            if number == 4:
                load.retire(lambda: told.append(load.in_flight))
                return
            while load.start():
                started[number] += 1
                (load.fail if number % 2 else load.abandon)()

        run_in_threads(5, work)

        assert told == [0]
        assert counts(load) == (0, sum(started), 0, started[1] + started[3])


def test_a_subchannel_reads_well() -> None:
    sub = Subchannel(3, 1, Endpoint("10.0.0.7:50051", weight=2.0))
    sub.load.start()

    assert (repr(sub), sub.address, sub.weight) == ("<Subchannel 3 10.0.0.7:50051, 1 in flight>", "10.0.0.7:50051", 2.0)


@pytest.mark.parametrize("name", ["endpoint", "share", "weight", "address"])
def test_pickers_cannot_change_what_they_were_given(name: str) -> None:
    sub = Subchannel(3, 1, Endpoint("10.0.0.7:50051", weight=2.0), share=0.5)

    with pytest.raises(AttributeError):
        setattr(sub, name, getattr(sub, name))

    assert (sub.endpoint.weight, sub.share, sub.weight) == (2.0, 0.5, 1.0)
