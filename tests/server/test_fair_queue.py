"""Who may hold a sender."""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.server.fair_queue import USUAL, FairQueue


@dataclass(eq=False)
class Job:
    """Work of a client."""

    client: str

    def run(self) -> None:
        raise AssertionError

    def cut_off(self) -> None:
        raise AssertionError


def make(clients: str, limit: int = 9, client_limit: int = 9) -> FairQueue:
    queue = FairQueue(limit, client_limit)
    for client in clients:
        queue.put(Job(client))
    return queue


def take(queue: FairQueue, count: int, *, is_slow: bool = True) -> str:
    """Take work; slow work does not keep others from being taken."""
    taken = ""
    for _ in range(count):
        work = queue.take()
        taken += "-" if work is None else work.client
        if work is not None and is_slow:
            queue.slow()
    return taken


def test_clients_take_turns() -> None:
    queue = make("aaaabc")

    assert take(queue, 7) == "abcaaa-"
    assert (len(queue), queue.held) == (0, 6)


def test_neither_the_queue_nor_a_client_may_hold_more_than_its_share() -> None:
    queue = make("aaabbb", 3, 2)

    assert take(queue, 4) == "aba-"
    assert (queue.is_held_up("a"), queue.takeable) == (True, 0)
    queue.give_back(Job("b"), is_slow=True)
    assert (queue.is_held_up("a"), queue.is_held_up("b")) == (True, False)
    assert take(queue, 2) == "b-"


def test_a_client_at_its_share_waits_for_itself_alone() -> None:
    queue = make("aaaaa", 9, 2)

    assert take(queue, 3) == "aa-"
    queue.put(Job("b"))
    assert take(queue, 1) == "b"
    assert (queue.is_held_up("a"), queue.is_held_up("b")) == (True, False)
    queue.give_back(Job("a"), is_slow=True)
    assert take(queue, 1) == "a"


def test_few_work_at_a_time_while_work_is_done() -> None:
    queue = make("a" * 9)

    assert take(queue, USUAL + 1, is_slow=False) == "a" * USUAL + "-"
    queue.look()
    queue.give_back(Job("a"))
    queue.look()
    assert take(queue, 2, is_slow=False) == "a-"


def test_more_work_with_each_look_while_nothing_is_done() -> None:
    queue = make("a" * 9)
    take(queue, USUAL, is_slow=False)
    queue.look()
    assert queue.takeable == 0
    queue.look()
    assert queue.takeable == USUAL
    queue.look()
    assert queue.takeable == 6
    queue.give_back(Job("a"))
    assert (queue.stuck_for, queue.takeable) == (0, 1)


def test_work_that_was_cut_off_is_not_done() -> None:
    queue = make("aaa")
    take(queue, 2)
    queue.look()
    queue.give_back(Job("a"), is_done=False, is_slow=True)

    assert queue.stuck_for == 1
