"""What calls write while the control side works on it, under a switch interval of a microsecond."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from healthlb.config import RetryBudget
from healthlb.config.outliers import Outliers
from healthlb.config.overload import Overload
from healthlb.control.grpc_transport import _closing, connections_closed
from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.core.balancer import Balancer
from healthlb.core.call.budget import make_budget
from healthlb.core.call.overload import Admission
from healthlb.core.load import Verdict
from healthlb.core.messages import (
    CallFailed,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    HealthReported,
    PrepareData,
    Resolved,
    StartWatch,
    Tick,
)
from healthlb.core.pickers import CallEnd, CallInfo, make_factory, picker_names
from healthlb.core.pickers.orca import LoadReport
from healthlb.core.snapshot import Snapshot
from tests.core.configs import config_of
from tests.core.fleets import fleet

READY = ConnectivityState.READY
SECONDS = 0.5
CALLERS = 3


@pytest.fixture(autouse=True)
def threads_take_turns() -> Iterator[None]:
    """Have threads interrupt each other as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def stress(control: Callable[[], object], call: Callable[[random.Random], object]) -> None:
    """Run `control` on this thread while others run `call`; raise what any of them raises."""
    is_over = threading.Event()
    raised: list[BaseException] = []

    def keep_calling(number: int) -> None:
        rng = random.Random(number)
        try:
            while not is_over.is_set():
                call(rng)
        except BaseException as error:
            raised.append(error)

    callers = [threading.Thread(target=keep_calling, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at and not raised:
            control()
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
    assert raised == []


@pytest.mark.parametrize("name", picker_names())
def test_pickers_are_built_while_calls_end(name: str) -> None:
    subs = fleet(weights=[1.0 + number % 3 for number in range(40)])
    factory = make_factory(name, random.Random(1))
    hear = getattr(factory, "call_ended", lambda sub, end: None)
    builds = itertools.count()
    clock = itertools.count(1_000_000_000, 50_000_000)
    pickers = [factory.build(subs)]

    def control() -> None:
        turn = next(builds) % len(subs)
        pickers[0] = factory.build([*subs[turn:], *subs[: turn // 2]])

    def call(rng: random.Random) -> None:
        exclude = frozenset(rng.sample(range(1, len(subs) + 1), rng.randrange(3)))
        sub = pickers[0].pick(CallInfo("/a.B/C", exclude=exclude))
        assert sub is not None
        if sub.load.start():
            sub.load.succeed(1) if rng.random() < 0.5 else sub.load.fail(Verdict.FAILURE)
        report = LoadReport(qps=rng.uniform(1.0, 9.0), cpu_utilization=0.5)
        hear(rng.choice(subs), CallEnd(rng.choice((Code.OK, Code.UNAVAILABLE)), next(clock), 0.01, report))

    stress(control, call)


def test_the_balancer_reads_what_calls_count() -> None:
    admission = Admission(Overload(max_waiting=5, max_in_flight=50, max_in_flight_per_subchannel=10))
    outliers = Outliers(latency_factor=3.0, interval=1.0)
    balancer = Balancer("svc", config_of(outliers=outliers), 1, admission=admission)
    clock = itertools.count(1_000_000_000, 20_000_000)
    endpoints = tuple(Endpoint(f"10.0.0.{number}:1") for number in range(1, 9))
    pending: list[object] = [Resolved(endpoints)]
    generation = itertools.count(1)

    def control() -> None:
        for event in (pending.pop() if pending else Tick(),):
            for effect in balancer.handle(event, next(clock)):  # type: ignore[arg-type]
                match effect:
                    case StartWatch(sub, watch):
                        pending.append(HealthReported(sub, watch, 1))
                    case PrepareData(sub):
                        pending.append(DataReady(sub, next(generation)))
        snapshot = balancer.snapshot
        if not pending:
            pending.extend(CallFailed(sub.id, sub.generation, Code.UNAVAILABLE) for sub in snapshot.ready)
            pending.extend(ConnectivityChanged(number, READY) for number in range(1, 9))
        assert all(sum(load.picks for load in view.loads) >= 0 for view in snapshot.views)

    def call(rng: random.Random) -> None:
        snapshot = balancer._builder.snapshot
        slot = admission.limiter.wait()
        if slot is not None:
            slot.leave()
        if snapshot.ready and (sub := rng.choice(snapshot.ready)).load.start():
            sub.load.succeed(next(clock)) if rng.random() < 0.5 else sub.load.fail(Verdict.LATE)

    stress(control, call)
    assert any(load.picks for view in balancer.snapshot.views for load in view.loads)
    assert admission.limiter.waiting == admission.limiter.in_flight == 0


def test_the_budget_is_read_while_calls_pay() -> None:
    budget = make_budget(RetryBudget(ttl=0.001))
    clock = itertools.count(1_000_000_000, 10_000)

    def call(rng: random.Random) -> None:
        budget.call_started(next(clock))
        budget.withdraw(next(clock))

    stress(lambda: budget.left(next(clock)), call)


def test_the_board_is_published_while_calls_come_and_go() -> None:
    holder = SnapshotHolder(Snapshot(0, READY))
    generations = itertools.count(1)
    called = itertools.count()

    def call(rng: random.Random) -> None:
        number = holder.when_changed(holder.snapshot.generation, lambda: next(called))
        holder.wait(holder.snapshot.generation, time.monotonic() + 0.0005)
        if rng.random() < 0.5:
            holder.forget(number)

    stress(lambda: holder.publish(Snapshot(next(generations), READY)), call)
    assert next(called) > 0


def test_connections_are_closed_on_several_loops() -> None:
    loop = asyncio.new_event_loop()

    def call(rng: random.Random) -> None:
        for _ in range(20):
            mine = loop.create_future()
            _closing.add(mine)  # type: ignore[arg-type]
            _closing.discard(mine)  # type: ignore[arg-type]

    async def closed() -> None:
        for _ in range(50):
            await connections_closed(asyncio.get_running_loop())

    stress(lambda: asyncio.run(closed()), call)
    loop.close()
