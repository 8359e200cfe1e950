"""Links and connections, without a core that listens."""

from __future__ import annotations

from typing import Any

import pytest

from healthlb.core.messages import Code, ConnectivityState, Endpoint
from healthlb.simulation.scenario.scenario import SECOND
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.link import Attempt
from healthlb.simulation.world.server import Server
from healthlb.simulation.world.world import Around, World
from tests.simulation.build import MS, TEN, scenario

IDLE, CONNECTING, READY, FAILURE = (
    ConnectivityState.IDLE,
    ConnectivityState.CONNECTING,
    ConnectivityState.READY,
    ConnectivityState.TRANSIENT_FAILURE,
)


class Caller:
    """Notes what becomes of its attempts."""

    id = "c9"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.heard: list[tuple[float, str]] = []

    def _hear(self, what: str) -> None:
        self.heard.append((self._lab.now, what))

    def replied(self, attempt: Attempt, code: Code) -> None:
        self._end(attempt, code.name)

    def attempt_lost(self, attempt: Attempt) -> None:
        self._end(attempt, "lost")

    def attempt_refused(self, attempt: Attempt) -> None:
        self._end(attempt, "refused")

    def attempt_closed(self, attempt: Attempt) -> None:
        self._end(attempt, "closed")

    def _end(self, attempt: Attempt, what: str) -> None:
        if not attempt.is_over:
            attempt.is_over = True
            self._hear(what)
            if attempt.link is not None:
                attempt.link.leave(attempt)


class Lab:
    """A world in which nobody calls, and one connection to look at."""

    def __init__(self, **backends: Any) -> None:
        # The world's own client begins when all is over.
        self.world = World(
            scenario(backends={"service": TEN, "count": 1, **backends}, clients={"start": 10_000 * SECOND}, rate=0.0,
                     seconds=9_999.0),
            "p",
        )  # fmt: skip
        self.client = self.world.clients[0]
        self.server: Server = self.world.servers[0]
        self.path = self.world.path(self.client, self.server)
        self.around = Around(self.world, self.client)
        self.states: list[tuple[float, ConnectivityState]] = []
        self.connection = self.around.connect(Endpoint("b0"), self.changed)
        self.caller = Caller(self)

    @property
    def now(self) -> float:
        return self.world.engine.now / MS

    def changed(self, connection: Connection) -> None:
        self.states.append((self.now, connection.state))
        if connection.state is IDLE:
            connection.connect()

    def run(self, milliseconds: float) -> None:
        self.world.engine.run(round(milliseconds * MS))

    def connect(self) -> None:
        self.connection.connect()
        self.run(self.now + 3)
        assert self.connection.state is READY

    def attempt(self) -> Attempt:
        attempt = Attempt(10 * MS, self.server.finish)
        attempt.client = self.caller  # type: ignore[assignment]
        attempt.connection = self.connection
        attempt.is_over = False
        attempt.link = link = self.connection.link
        if link is None:
            self.connection.queue[attempt] = None
        else:
            link.send(attempt)
        return attempt


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_connection_takes_one_way_there_and_back(lab: Lab) -> None:
    lab.connection.connect()
    lab.connection.connect()
    lab.run(5)

    assert lab.states == [(0, CONNECTING), (2, READY)]
    assert len(lab.server.links) == 1


def test_a_refused_one_comes_back_after_a_backoff_that_counts_from_the_attempt(lab: Lab) -> None:
    lab.server.crash("rst")
    lab.connection.connect()
    lab.run(150)
    assert lab.states == [(0, CONNECTING), (2, FAILURE)]
    assert lab.connection.failure == "failed to connect to b0: Connection refused"
    lab.server.restart("rst")
    lab.run(300)

    at, state = lab.states[-1]
    assert state is READY
    assert 160 + 2 <= at <= 240 + 2


def test_what_fails_stays_failed_until_it_is_ready(lab: Lab) -> None:
    lab.server.crash("rst")
    lab.connection.connect()
    lab.run(10_000)

    assert [state for _, state in lab.states] == [CONNECTING, FAILURE]
    # 0.2 s, times 1.6 each time, at most a second; a fifth more or less.
    assert 10 <= sum(lab.world.tally.connects) <= 16


def test_silence_is_asked_again_as_tcp_does_and_given_up_after_twenty_seconds(lab: Lab) -> None:
    lab.path.cut()
    lab.connection.connect()
    lab.run(2_000)
    lab.path.heal()
    lab.run(4_000)
    assert lab.states == [(0, CONNECTING), (3_002, READY)]

    other = lab.around.connect(Endpoint("b0"), lab.changed)
    lab.path.cut()
    other.connect()
    lab.run(23_999)
    assert other.state is CONNECTING
    lab.run(24_001)
    assert other.state is FAILURE


def test_an_answer_that_comes_too_late_is_told_so(lab: Lab) -> None:
    lab.connection.connect()
    lab.run(1)
    lab.connection.release()
    lab.run(10)

    assert lab.states == [(0, CONNECTING)]
    assert lab.server.links == {}


def test_calls_wait_for_a_connection_that_is_on_its_way(lab: Lab) -> None:
    lab.connection.connect()
    lab.attempt()
    lab.run(20)

    assert lab.caller.heard == [(14, "OK")]


def test_calls_that_wait_are_refused_with_it(lab: Lab) -> None:
    lab.server.crash("rst")
    lab.connection.connect()
    lab.attempt()
    lab.run(20)

    assert lab.caller.heard == [(2, "refused")]


@pytest.mark.parametrize("is_up", [True, False])
def test_who_closes_a_connection_cancels_what_is_on_it(lab: Lab, is_up: bool) -> None:
    if is_up:
        lab.connect()
    else:
        lab.connection.connect()
    lab.attempt()
    lab.run(lab.now + 1)
    lab.connection.release()
    lab.run(lab.now + 10)

    assert [what for _, what in lab.caller.heard] == ["closed"]
    assert lab.server.links == {}
    assert lab.connection.is_closed
    lab.connection.connect()
    assert lab.connection.link is None


def test_a_second_user_keeps_it(lab: Lab) -> None:
    lab.connect()
    lab.connection.hold()
    lab.connection.release()

    assert not lab.connection.is_closed
    lab.connection.release()
    assert lab.connection.is_closed


def test_a_link_that_is_left_serves_those_on_it(lab: Lab) -> None:
    lab.connect()
    lab.attempt()
    old = lab.connection.link
    lab.run(5)
    lab.server.go_away(lab.server.links)
    lab.run(10)

    assert lab.connection.link not in (None, old)
    assert list(lab.connection.attempts()) != []
    lab.run(20)
    assert lab.caller.heard == [(15, "OK")]
    assert len(lab.server.links) == 1


def test_who_closes_a_connection_closes_the_link_it_has_left(lab: Lab) -> None:
    lab.connect()
    lab.attempt()
    lab.server.go_away(lab.server.links)
    lab.run(8)
    lab.connection.release()
    lab.run(20)

    assert [what for _, what in lab.caller.heard] == ["closed"]
    assert lab.server.links == {}


def test_a_link_that_is_left_may_be_lost_as_well(lab: Lab) -> None:
    lab.connect()
    lab.attempt()
    lab.server.go_away(lab.server.links)
    lab.run(8)
    lab.server.crash("rst")
    lab.run(20)

    assert lab.caller.heard == [(9, "lost")]


def test_a_word_to_a_host_that_has_forgotten_is_answered_with_a_reset(lab: Lab) -> None:
    lab.connect()
    lab.server.crash("blackhole")
    lab.attempt()
    lab.run(100)
    assert lab.caller.heard == []
    lab.server.restart("blackhole")
    lab.attempt()
    lab.run(200)

    assert lab.caller.heard == [(102, "lost"), (102, "lost")]
    assert lab.connection.state is READY


def test_attempts_beyond_the_limit_wait_at_the_client(lab: Lab) -> None:
    lab = Lab(max_streams=1)
    lab.connect()
    first, second, third = (lab.attempt() for _ in range(3))
    second.is_over = True
    lab.run(100)

    assert first.is_over
    assert third.is_over
    assert [what for _, what in lab.caller.heard] == ["OK", "OK"]
    assert lab.caller.heard[1][0] - lab.caller.heard[0][0] == 12


def test_an_attempt_that_is_given_up_frees_the_server(lab: Lab) -> None:
    lab.connect()
    attempt = lab.attempt()
    lab.run(8)
    attempt.is_over = True
    assert attempt.link is not None
    attempt.link.cancel(attempt)
    attempt.link.cancel(attempt)
    lab.run(30)

    assert lab.caller.heard == []
    assert lab.server.backend.wasted_ns == 10 * MS


def test_streams_end_with_their_link_and_say_no_more(lab: Lab) -> None:
    lab.connect()
    said: list[object] = []
    stream = lab.connection.watch("", said.append, lambda code, details: said.append(code))
    assert stream is not None
    lab.run(6)
    lab.server.crash("rst")
    lab.run(10)
    stream.cancel()
    stream.deliver(1)
    stream.end(Code.OK)

    assert said == [1, Code.UNAVAILABLE]


def test_without_a_link_nothing_is_asked(lab: Lab) -> None:
    said: list[object] = []

    assert lab.connection.watch("", said.append, lambda code, details: said.append(code)) is None
    assert lab.connection.check("", lambda code, details: said.append(code)) is None
    assert said == [Code.UNAVAILABLE, Code.UNAVAILABLE]


def test_a_check_is_answered_whatever_the_health(lab: Lab) -> None:
    lab.connect()
    said: list[object] = []
    lab.server.fall_ill(2)
    lab.connection.check("", lambda code, details: said.append(code))
    lab.run(10)
    lab.server.mislead("absent", Code.UNAVAILABLE)
    lab.connection.check("", lambda code, details: said.append(code))
    lab.run(20)

    assert said == [Code.OK, Code.UNIMPLEMENTED]


def test_a_paused_server_answers_afterwards(lab: Lab) -> None:
    lab.connect()
    said: list[object] = []
    lab.server.pause()
    lab.connection.watch("", said.append, lambda code, details: said.append(code))
    lab.server.go_away(lab.server.links)
    lab.run(100)
    assert said == []
    lab.server.resume()
    lab.run(110)

    assert said == [1]


# --- the way -------------------------------------------------------------------------------------------


def test_jitter_never_changes_the_order() -> None:
    lab = Lab(jitter=5 * MS)
    seen: list[tuple[float, int]] = []
    for number in range(50):
        lab.path.up(lambda number=number: seen.append((lab.now - number, number)))
        lab.run(number + 1)
    lab.run(100)

    assert [number for _, number in seen] == list(range(50))
    assert all(1 <= took <= 6 for took, _ in seen)
    assert len({took for took, _ in seen}) > 10


def test_what_is_held_by_a_cut_comes_when_tcp_sends_again_and_before_what_follows(lab: Lab) -> None:
    seen: list[tuple[float, str]] = []

    def say(what: str) -> None:
        seen.append((lab.now, what))

    lab.path.cut()
    lab.path.cut()
    lab.path.up(say, "held")
    lab.run(500)
    lab.path.heal()
    lab.run(700)
    assert seen == []
    lab.path.heal()
    lab.path.up(say, "later")
    lab.run(3_000)
    lab.path.up(say, "plain")
    lab.run(4_000)

    # Sent again after 200 ms, 600 ms and 1.4 s.
    assert seen == [(1_401, "held"), (1_401, "later"), (3_001, "plain")]
    assert lab.path.is_plain
