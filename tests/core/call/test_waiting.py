"""A call's wait for a subchannel."""

from __future__ import annotations

from healthlb.config.overload import Overload
from healthlb.core.call.overload import MAX_WAIT, MAX_WAITING, Admission
from healthlb.core.call.waiting import Wait, begin_wait
from healthlb.core.messages import SECOND, Code, ConnectivityState, Fail
from healthlb.core.snapshot import Snapshot

SNAPSHOT = Snapshot(1, ConnectivityState.CONNECTING)


class Pool:
    def __init__(self, overload: Overload | None) -> None:
        self.admission = Admission(overload)
        self.refused: list[str] = []

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        self.refused.append(cap)
        return self.admission.refusal(cap, snapshot)


def test_a_wait_ends_with_the_calls_deadline() -> None:
    wait = begin_wait(Pool(None), SECOND, 5 * SECOND, SNAPSHOT)

    assert isinstance(wait, Wait)
    assert wait.ends_at == 5 * SECOND
    assert wait.ran_out(SNAPSHOT) == Fail(Code.DEADLINE_EXCEEDED, f"Deadline Exceeded: {SNAPSHOT.describe()}")


def test_a_call_without_deadline_waits_for_ever() -> None:
    wait = begin_wait(Pool(None), SECOND, None, SNAPSHOT)

    assert isinstance(wait, Wait)
    assert wait.ends_at is None


def test_a_cap_ends_a_wait_that_the_deadline_would_not() -> None:
    pool = Pool(Overload(max_wait=2.0))
    waits = [begin_wait(pool, SECOND, deadline, SNAPSHOT) for deadline in (2 * SECOND, 9 * SECOND, None)]
    short, long, endless = (wait for wait in waits if isinstance(wait, Wait))

    assert [short.ends_at, long.ends_at, endless.ends_at] == [2 * SECOND, 3 * SECOND, 3 * SECOND]
    assert short.ran_out(SNAPSHOT).code is Code.DEADLINE_EXCEEDED
    assert long.ran_out(SNAPSHOT).code is Code.RESOURCE_EXHAUSTED
    assert pool.refused == [MAX_WAIT]


def test_only_so_many_wait_at_a_time() -> None:
    pool = Pool(Overload(max_waiting=1))
    first = begin_wait(pool, 0, None, SNAPSHOT)
    assert isinstance(first, Wait)
    second = begin_wait(pool, 0, None, SNAPSHOT)
    first.end()

    assert second == pool.admission.refusal(MAX_WAITING, SNAPSHOT)
    assert isinstance(begin_wait(pool, 0, None, SNAPSHOT), Wait)
