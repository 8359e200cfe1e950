"""What `healthlb.presets.resilient` promises: single backends come to harm, and no idempotent call is lost.

One rule: the backends say how often they have executed anything; extra calls are counted there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from healthlb import presets
from tests.backends import Backend
from tests.backends.clients import eventually
from tests.backends.proxy import ChaosProxy, Mode
from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.load import Load
from tests.parity.tally import Tally

RATE = 200
_ID = "resilient"
_REFERENCE = "reference"


class Stage:
    """Three backends; faults of the network come about in a proxy before the first."""

    def __init__(self, backends: list[Backend], proxy: ChaosProxy, fault: str) -> None:
        self.backends = backends
        self.proxy = proxy
        self.harmed = backends[0]
        first = proxy.address if fault in _NETWORK else backends[0].address
        self.targets = [first, *addresses(backends[1:])]

    def executions(self, id: str) -> int:
        """How many calls all of them have begun."""
        return sum(backend.executed_ids().get(id, 0) for backend in self.backends)

    def share(self, load: Load, id: str, before: int) -> float:
        """Return how many percent more calls were executed than made."""
        calls = len(load.outcomes)
        return round(100 * (self.executions(id) - before - calls) / calls, 1)


@contextmanager
def killed(stage: Stage) -> Iterator[None]:
    stage.harmed.kill()
    yield
    stage.harmed.restart()


@contextmanager
def stopped(stage: Stage) -> Iterator[None]:
    stage.harmed.stop(grace=1.0)
    yield
    stage.harmed.restart()


@contextmanager
def frozen(stage: Stage) -> Iterator[None]:
    stage.harmed.pause()
    yield
    stage.harmed.resume()


@contextmanager
def failing(stage: Stage) -> Iterator[None]:
    stage.harmed.behave(fail="INTERNAL")
    yield
    stage.harmed.behave()


@contextmanager
def slow(stage: Stage) -> Iterator[None]:
    stage.harmed.behave(sleep=3.0)
    yield
    stage.harmed.behave()


@contextmanager
def flapping(stage: Stage) -> Iterator[None]:
    for status in ("NOT_SERVING", "SERVING") * 15:
        stage.harmed.set(status, "svc")
        time.sleep(0.04)
    yield


def proxied(mode: Mode) -> Callable[[Stage], object]:
    """Return a fault of the network."""

    @contextmanager
    def cut(stage: Stage) -> Iterator[None]:
        stage.proxy.set_mode(mode)
        yield
        stage.proxy.set_mode("pass")

    return cut


FAULTS: dict[str, Callable[[Stage], object]] = {
    "kill -9": killed,
    "graceful stop": stopped,
    "SIGSTOP": frozen,
    "blackhole": proxied("blackhole"),
    "RST": proxied("reset"),
    "refused": proxied("refuse"),
    "every call fails": failing,
    "slow": slow,
    "flapping health": flapping,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_idempotent_call_is_lost(face: Face, fleet: Fleet, tally: Tally, fault: str) -> None:
    backends = fleet.lend(3)
    with ChaosProxy(backends[0].address) as proxy:
        stage = Stage(backends, proxy, fault)
        befores = {id: stage.executions(id) for id in (_ID, _REFERENCE)}
        client, spared = (
            face.ready(targets, **presets.resilient(idempotent=True)) for targets in (stage.targets, stage.targets[1:])
        )
        with (
            Load(client, RATE, timeout=2.0, id=_ID) as load,
            Load(spared, RATE / 4, timeout=2.0, id=_REFERENCE) as beside,
        ):
            load.wait_for(RATE)
            begun_at = time.monotonic()
            with FAULTS[fault](stage):  # type: ignore[attr-defined]
                load.wait_for(2 * RATE)
            load.wait_until(lambda outcome: outcome.backend == "b0") if fault not in _EJECTING else load.wait_for(RATE)
        calls = len(load.outcomes)
        # Of those that were stuck, some reach the backend only now.
        eventually(lambda: backends[0].stats().in_flight == 0)
        share, share_beside = (stage.share(one, id, befores[id]) for one, id in ((load, _ID), (beside, _REFERENCE)))
        slowest = max(outcome.ended_at - outcome.began_at for outcome in load.outcomes if outcome.began_at > begun_at)
    lost = len(load.failed())
    figures = {"calls": calls, "lost": lost, "more, %": share, "more beside, %": share_beside}
    tally.note(f"{fault}, {face.name}", {**figures, "slowest, s": round(slowest, 2)})

    assert load.failures() == {}
    # On a busy machine healthy backends are late as well: a client that has only those, at the same time, shows how often.
    assert share <= 5.0 + share_beside


_NETWORK = ("blackhole", "RST", "refused")
# Their backend may be ejected still when it is well again.
_EJECTING = ("every call fails", "slow", "SIGSTOP", "blackhole")


def test_what_is_not_idempotent_is_executed_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), **presets.resilient(hedging_delay=0.01))
    backends[0].behave(sleep=0.2)
    before = sum(backend.executed_ids().get("once", 0) for backend in backends)
    with Load(client, 50, timeout=2.0, id="once") as load:
        load.wait_for(50)
    executions = sum(backend.executed_ids()["once"] for backend in backends) - before

    assert executions == len(load.outcomes)
    assert load.failures() == {}
