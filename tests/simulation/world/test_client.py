"""What becomes of simulated calls: attempts, hedges, timeouts, refusals."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from healthlb.config import Backoff, Failover, HealthCheck
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code
from healthlb.core.pickers import CallEnd, Picker
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.simulation.scenario.laws import Deterministic
from healthlb.simulation.scenario.scenario import SECOND, Fault, Load
from healthlb.simulation.world.world import World
from tests.simulation.build import MS, TEN, errors, play, scenario

STEADY = {"load": Load(kind="steady", rate=100)}
# From the second second on, and nobody asks it for a sign of life.
HUNG = Fault(kind="pause", target="b0", start=SECOND)
DEAF = HealthCheck(heartbeat=None)


class Listening(RoundRobin):
    """Hears of every attempt."""

    needs_latency = True
    heard: list[CallEnd]

    def __init__(self) -> None:
        super().__init__()
        self.heard = []

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        self.heard.append(end)


def test_an_attempt_that_takes_too_long_is_cut_off_and_made_again_elsewhere() -> None:
    failover = Failover(attempt_timeout=0.05, max_attempts=2, budget=None)
    policy = {"failover": failover, "health": DEAF, "outliers": None}
    record = play(HUNG, clients=STEADY, backends={"service": TEN}, policy=policy)

    assert errors(record) == {}
    # An attempt takes its turn too: every third call begins at the one that hangs.
    assert record.metrics["retries"] == pytest.approx(900 / 3, abs=2)
    assert record.latency.most == pytest.approx(62 * MS, rel=0.01)


def test_the_calls_deadline_is_no_timeout_of_an_attempt() -> None:
    failover = Failover(attempt_timeout=0.5, max_attempts=2, codes=())
    policy = {"failover": failover, "health": DEAF, "outliers": None}
    record = play(HUNG, clients=STEADY, policy=policy)

    assert set(errors(record)) == {"DEADLINE_EXCEEDED"}
    assert record.metrics["retries"] == 0


def test_attempts_may_wait_in_between() -> None:
    broken = Fault(kind="error", target="b0")
    failover = Failover(backoff=Backoff(initial=0.1, jitter=0.0), max_attempts=2, budget=None)
    record = play(broken, clients=STEADY, backends={"service": TEN}, policy={"failover": failover, "outliers": None})

    assert errors(record) == {}
    assert record.latency.most == pytest.approx(114 * MS, rel=0.01)


def test_a_hedge_wins_against_one_that_hangs_and_that_one_is_told_of() -> None:
    factories: list[Listening] = []

    def make() -> Listening:
        factories.append(Listening())
        return factories[-1]

    failover = Failover(hedging_delay=0.03, max_attempts=2, budget=None)
    policy = {"failover": failover, "health": DEAF, "picker": make, "outliers": None}
    record = play(HUNG, clients=STEADY, backends={"service": TEN}, policy=policy)
    ends = factories[0].heard

    assert errors(record) == {}
    assert record.metrics["hedges"] == pytest.approx(900 / 3, abs=2)
    assert record.latency.most == pytest.approx(42 * MS, rel=0.01)
    # By virtual time, and each attempt once.
    assert len(ends) == sum(record.bins.attempts)
    assert {end.code for end in ends} == {Code.OK, Code.CANCELLED}
    assert {round(end.seconds or 0, 4) for end in ends if end.code is Code.CANCELLED} == {0.042}


def test_a_hedge_without_another_backend_is_not_sent() -> None:
    hung = Fault(kind="pause", target="*", until=SECOND)
    failover = Failover(hedging_delay=0.03, max_attempts=2)
    record = play(hung, clients={**STEADY, "deadline": None}, backends={"count": 1}, policy={"failover": failover})

    assert record.metrics["hedges"] == 0
    assert errors(record) == {}


@pytest.mark.parametrize("failover", [Failover(), Failover(strict=True)])
def test_a_call_to_a_connection_that_is_down_never_left(failover: Failover) -> None:
    # While the client stands still its connection goes down; its core has not heard when the calls go on.
    record = play(
        Fault(kind="stall", start=SECOND, until=2 * SECOND),
        Fault(kind="crash", target="b0", start=1500 * MS),
        clients={**STEADY, "idempotent": False},
        policy={"failover": failover, "outliers": None},
        seconds=3.0,
    )

    if failover.strict:
        assert errors(record)["UNAVAILABLE"] > 10
    else:
        assert record.metrics["unsent"] > 10
        assert sum(errors(record).values()) <= 2


def test_calls_on_an_address_that_is_gone_run_to_their_ends() -> None:
    gone = Fault(kind="resolver", addresses=("b1",), start=SECOND)
    record = play(
        gone,
        backends={"service": Deterministic(60 * SECOND), "slots": 1000},
        clients={**STEADY, "deadline": None},
        policy={"outliers": None},
        seconds=2.0,
        drain=100 * SECOND,
    )

    assert errors(record) == {}
    assert record.metrics["ok"] == record.metrics["requests"]
    assert sum(record.bins.picks["b0"][10:]) <= 1
    assert sum(record.bins.picks["b0"]) == pytest.approx(25, abs=2)


def test_a_pick_whose_connection_is_closed_already_is_made_again() -> None:
    world = World(scenario(clients=STEADY, policy={"outliers": None}, seconds=1.0), "p")
    world.engine.run(500 * MS)
    client = world.clients[0]
    ready = client.subchannels.holder.snapshot.ready
    client.subchannels.connection(ready[0]).release()  # type: ignore[union-attr]
    client.subchannels.connection(ready[0]).release()  # type: ignore[union-attr]
    record = world.run()

    assert record.metrics["errors"] == 0
    assert record.metrics["in_flight"] == 0


def test_a_factory_that_fails_ends_the_run() -> None:
    class Broken:
        def build(self, ready: Sequence[Subchannel]) -> Picker:
            raise RuntimeError("no picker")

    with pytest.raises(RuntimeError, match="no picker"):
        World(scenario(policy={"picker": Broken}), "p").run()


def test_a_stall_keeps_what_comes_for_later() -> None:
    stall = Fault(kind="stall", start=SECOND, until=2 * SECOND)
    failover = Failover(attempt_timeout=0.3, hedging_delay=0.2, max_attempts=3)
    record = play(
        stall,
        Fault(kind="pause", target="b0", start=900 * MS, until=2500 * MS),
        Fault(kind="crash", target="b1", start=1200 * MS, until=1300 * MS),
        clients=STEADY,
        policy={"failover": failover},
        seconds=4.0,
    )
    ended = [sum(one) for one in zip(record.bins.ok, *record.bins.errors.values(), strict=True)]

    assert ended[10:20] == [0] * 10
    assert ended[20] > 50
    assert record.metrics["requests"] == record.metrics["ok"] + record.metrics["errors"]
