from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from healthlb.config import Backoff, HealthCheck, Heartbeat
from healthlb.control.transport import CheckAnswer
from healthlb.core.messages import (
    Code,
    ConnectivityChanged,
    ConnectivityState,
    Endpoint,
    HeartbeatLoss,
    Overflow,
    Removal,
    ResolutionFailure,
)
from healthlb.core.pickers import ANY_CALL
from healthlb.core.pickers.checked import FailedPick
from tests.control.scripted import (
    CONNECTING,
    FAILURE,
    IDLE,
    READY,
    RETURN,
    SHUTDOWN,
    STEADY,
    ScriptedConnection,
    ScriptedResolver,
    Switch,
    World,
    endpoints,
    is_ordered,
)
from tests.control.virtual_loop import run, settle

BEATING = HealthCheck(
    backoff=Backoff(jitter=0.0),
    reconnect=Backoff(initial=60.0, maximum=60.0, jitter=0.0),
    heartbeat=Heartbeat(interval=10.0, timeout=3.0),
)


async def serve(world: World, *addresses: str) -> None:
    """Connect these, and have them say SERVING."""
    for address in addresses:
        world.of(address).become(READY)
    await settle()
    for address in addresses:
        world.of(address).watches[-1].say(1)
    await settle()


async def opened(*addresses: str, **options: Any) -> World:
    world = World(ScriptedResolver(endpoints(*addresses)), **options)
    await settle()
    return world


async def close(world: World) -> None:
    """Close, and see that nothing is left."""
    world.driver.close()
    await settle()

    assert (world.live, world.open_data) == ([], {})
    assert [watch for connection in world.connections for watch in connection.open_watches] == []
    assert world.snapshot.state is SHUTDOWN
    assert world.snapshot.picker.pick(ANY_CALL) is None
    assert all(is_ordered(batch) for batch in world.batches())


def pick(world: World) -> str | None:
    sub = world.snapshot.picker.pick(ANY_CALL)
    return None if sub is None else sub.address


# --- the way to READY and back ---------------------------------------------------------------------


def test_from_address_to_pick() -> None:
    async def main() -> None:
        world = await opened("a:1", "b:1")
        assert world.states == {"a:1": "CONNECTING", "b:1": "CONNECTING"}
        await serve(world, "a:1")

        assert world.states == {"a:1": "READY", "b:1": "CONNECTING"}
        assert world.of("a:1").watches[0].service == "svc"
        assert pick(world) == "a:1"
        await close(world)

    run(main())


def test_calls_that_fail_and_drain() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        old = world.snapshot.ready[0]
        assert old.load.start()
        await asyncio.sleep(0.3)
        world.forget(old.id)  # its connection for calls broke
        for _ in range(3):
            world.driver.call_failed(old.id, old.generation, Code.UNAVAILABLE, is_refused=True)
        await settle()

        assert [sub.generation for sub in world.snapshot.ready] == [2]
        assert set(world.open_data) == {(1, 1), (1, 2)}
        assert not old.load.start()

        old.load.fail()
        await settle()

        assert set(world.open_data) == {(1, 2)}
        await close(world)

    run(main())


def test_equal_failures_count_once() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        before = len(world.log)
        for _ in range(1_000):
            world.driver.call_failed(1, 1, Code.INTERNAL)
            world.driver.call_failed(1, 1, Code.ABORTED)
        await settle()

        assert [entry for entry, _ in world.log[before:]] == ["handle", "handle"]
        await close(world)

    run(main())


def test_refused_calls_are_told_of_together() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        before = len(world.log)
        for _ in range(1_000):
            world.driver.calls_refused("max_waiting")
            world.driver.call_failed(1, 1, Code.INTERNAL)
        await settle()

        assert [entry for entry, _ in world.log[before:]] == ["handle", "handle", "report"]
        assert [(fact.cap, fact.calls) for fact in world.facts if isinstance(fact, Overflow)] == [
            ("max_waiting", 1_000)
        ]
        await close(world)

    run(main())


def test_a_data_plane_that_fails_is_asked_again() -> None:
    async def main() -> None:
        world = await opened("a:1")
        world.data_answer = "it could not connect"
        await serve(world, "a:1")
        assert world.reasons == {"a:1": "no connection for calls: it could not connect"}

        world.data_answer = ""
        await asyncio.sleep(0.3)

        assert world.states == {"a:1": "READY"}
        await close(world)

    run(main())


# --- connections and Watches -----------------------------------------------------------------------


def test_a_connection_that_is_left_and_back_gets_a_new_watch_and_the_old_one_ends() -> None:
    """P4: an old Watch would hold up the old server's graceful stop, and a place in MAX_CONCURRENT_STREAMS."""

    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        connection = world.of("a:1")
        connection.become(IDLE, CONNECTING, READY)
        await settle()

        assert world.states == {"a:1": "CONNECTING"}
        assert [watch.is_open for watch in connection.watches] == [False, True]

        connection.watches[0].say(1)
        await settle()
        assert world.states == {"a:1": "CONNECTING"}

        connection.watches[1].say(1)
        await settle()
        assert world.states == {"a:1": "READY"}
        await close(world)

    run(main())


def test_h20_a_watch_that_ends_with_its_connection_is_no_health_failure() -> None:
    """P4."""

    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        connection = world.of("a:1")
        # The stream's end is heard first; the state is asked for.
        connection._state = IDLE
        connection.watches[0].end(Code.UNAVAILABLE, "max connection age")
        await settle()

        assert (world.states, world.reasons) == ({"a:1": "CONNECTING"}, {"a:1": "connection lost"})
        await close(world)

    run(main())


def test_a_watch_that_ends_on_a_ready_connection_is_retried() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        connection = world.of("a:1")
        connection.watches[0].end(Code.UNAVAILABLE, "bye")
        await settle()
        assert world.reasons == {"a:1": "SERVING, and watched again: health watch ended with UNAVAILABLE: bye"}

        await asyncio.sleep(0.11)

        assert [watch.is_open for watch in connection.watches] == [False, True]
        await close(world)

    run(main())


def test_why_a_connection_fails_is_asked() -> None:
    async def main() -> None:
        world = await opened("a:1")
        world.of("a:1").become(FAILURE)
        await settle()

        assert (world.states, world.reasons) == ({"a:1": "TRANSIENT_FAILURE"}, {"a:1": "connection refused"})
        await close(world)

    run(main())


def test_a_reason_that_comes_too_late_is_dropped() -> None:
    class Slow(ScriptedConnection):
        async def check(self, service: str, timeout: float) -> CheckAnswer:
            await asyncio.sleep(0.5)
            return CheckAnswer(Code.UNAVAILABLE, "connection refused")

    async def main() -> None:
        world = await opened("a:1")
        connection = world.of("a:1")
        connection.__class__ = Slow
        connection.become(FAILURE)
        await settle()
        connection.become(READY)
        await asyncio.sleep(0.6)

        assert {snapshot.state for snapshot in world.published} == {CONNECTING}
        assert len(connection.open_watches) == 1
        connection.watches[0].say(1)
        await settle()
        assert world.states == {"a:1": "READY"}
        await close(world)

    run(main())


def test_a_stuck_connection_is_raced_and_loses() -> None:
    async def main() -> None:
        world = await opened("a:1")
        stuck = world.of("a:1")
        await asyncio.sleep(1.01)
        rival = world.of("a:1")
        assert world.live == [stuck, rival]

        await asyncio.sleep(1.01)
        assert [connection.is_live for connection in world.connections] == [True, False, True]

        await serve(world, "a:1")

        assert world.states == {"a:1": "READY"}
        assert world.live == [world.connections[2]]
        await close(world)

    run(main())


def test_a_stuck_connection_that_comes_up_after_all_wins() -> None:
    async def main() -> None:
        world = await opened("a:1")
        stuck = world.of("a:1")
        await asyncio.sleep(1.01)
        stuck.become(READY)
        await settle()
        stuck.watches[0].say(1)
        await settle()

        assert (world.states, world.live) == ({"a:1": "READY"}, [stuck])
        await close(world)

    run(main())


def test_both_may_come_up_at_once() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await asyncio.sleep(1.01)
        stuck, rival = world.live
        rival.become(READY)
        stuck.become(READY)
        await settle()

        assert len(world.live) == 1
        assert len(world.live[0].open_watches) == 1
        world.live[0].watches[0].say(1)
        await settle()
        assert world.states == {"a:1": "READY"}
        await close(world)

    run(main())


def test_a_hung_backend_gets_fresh_connections_and_its_calls_go_on() -> None:
    async def main() -> None:
        world = await opened("a:1", "b:1", policy=BEATING)
        await serve(world, "a:1", "b:1")
        hung, old = world.of("a:1"), world.snapshot.ready[0]
        assert old.load.start()
        world.driver.call_failed(1, old.generation, Code.DEADLINE_EXCEEDED)
        await asyncio.sleep(3.0)
        await settle()

        assert world.states == {"a:1": "TRANSIENT_FAILURE", "b:1": "READY"}
        assert (hung.is_live, hung.open_watches) == (False, [])
        assert [type(fact) for fact in world.facts if isinstance(fact, HeartbeatLoss)] == [HeartbeatLoss]
        assert (1, old.generation) in world.open_data

        await serve(world, "a:1")
        assert world.states == {"a:1": "READY", "b:1": "READY"}
        assert world.snapshot.ready[0].generation != old.generation
        old.load.abandon()
        await settle()

        assert (1, old.generation) not in world.open_data
        await close(world)

    run(main())


def test_an_answered_check_is_a_sign_of_life() -> None:
    async def main() -> None:
        world = await opened("a:1", "b:1", policy=BEATING)
        await serve(world, "a:1", "b:1")
        world.driver.call_failed(1, 1, Code.DEADLINE_EXCEEDED)
        await settle()
        world.of("a:1").checks[0].set_result((Code.UNIMPLEMENTED, "no such service"))
        await asyncio.sleep(3.5)

        assert world.states["a:1"] == "READY"
        await close(world)

    run(main())


# --- one publication, in order ----------------------------------------------------------------------


def test_a_mass_flip_is_one_publication_and_one_picker() -> None:
    async def main() -> None:
        addresses = [f"host-{number}:1" for number in range(1_000)]
        factory = Switch()
        world = await opened(*addresses, factory=factory)
        served = 0
        while fresh := world.connections[served:]:  # a hundred at a time
            await serve(world, *(connection.address for connection in fresh))
            served += len(fresh)
            await asyncio.sleep(0.1)  # as long as it takes until so many Watches may begin again
        assert len(world.snapshot.ready) == 1_000
        publications, pickers = len(world.published), len(factory.built)
        for connection in world.connections:
            connection.watches[0].say(2)
        await settle()

        assert world.snapshot.state is FAILURE
        assert (len(world.published) - publications, len(factory.built) - pickers) == (1, 1)
        await close(world)

    run(main())


def test_open_publish_close_report() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1"))
        world = World(resolver)
        await settle()
        await serve(world, "a:1")
        before = len(world.log)
        resolver.say(endpoints("b:1"))
        await settle()

        kinds = [kind for kind, _ in world.log[before:] if kind != "handle"]
        assert kinds == ["open", "publish", "release", *["report"] * 3, "publish", "close"]
        assert world.open_data == {}
        await close(world)

    run(main())


def test_a_removed_address_closes_after_its_last_call() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1", "b:1"))
        world = World(resolver)
        await settle()
        await serve(world, "a:1", "b:1")
        one, two = world.snapshot.ready
        assert one.load.start()
        assert two.load.start()
        resolver.say(endpoints("c:1"))
        await settle()
        assert [connection.address for connection in world.live] == ["c:1"]
        assert set(world.open_data) == {(1, 1), (2, 2)}
        assert not one.load.start()

        one.load.succeed(1)
        await settle()
        assert set(world.open_data) == {(2, 2)}

        await asyncio.sleep(3600.0)
        assert set(world.open_data) == {(2, 2)}
        two.load.succeed(1)
        await settle()
        assert world.open_data == {}
        assert [fact.address for fact in world.facts if isinstance(fact, Removal)] == ["a:1", "b:1"]
        await close(world)

    run(main())


def test_a_picker_that_raises_leaves_the_last_good_one(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        factory = Switch()
        world = await opened("a:1", "b:1", factory=factory)
        await serve(world, "a:1")
        factory.is_broken = True
        with caplog.at_level(logging.WARNING, logger="healthlb"):
            await serve(world, "b:1")

        assert world.states == {"a:1": "READY", "b:1": "READY"}
        assert [record.levelname for record in caplog.records if "picker" in record.message] == ["ERROR", "WARNING"]
        assert [pick(world) for _ in range(3)] == ["a:1"] * 3
        assert "the last good picker stays" in caplog.text
        assert "this picker is broken" in caplog.text

        factory.is_broken = False
        world.of("a:1").watches[0].say(2)
        await settle()

        assert [pick(world) for _ in range(3)] == ["b:1"] * 3
        await close(world)

    run(main())


def test_a_picker_that_raised_is_built_again_though_nothing_else_changes() -> None:
    async def main() -> None:
        factory = Switch()
        factory.is_broken = True
        world = await opened("a:1", "b:1", factory=factory)
        await serve(world, "a:1")
        assert isinstance(world.snapshot.picker.pick(ANY_CALL), FailedPick)
        factory.is_broken = False
        world.of("b:1").become(FAILURE)
        await settle()

        assert pick(world) == "a:1"
        await close(world)

    run(main())


def test_a_picker_that_raised_is_built_again_in_a_second() -> None:
    async def main() -> None:
        factory = Switch()
        factory.is_broken = True
        world = await opened("a:1", factory=factory)
        await serve(world, "a:1")
        factory.is_broken = False
        await asyncio.sleep(1.01)

        assert pick(world) == "a:1"
        world.log.clear()  # that publication belonged to no event
        factory.is_broken = True
        world.resolver.say(endpoints("b:1"))
        await settle()
        await close(world)

    run(main())


def test_the_published_snapshot_may_close_the_channel() -> None:
    """A user's callback may do so as soon as it hears of a change."""

    async def main() -> None:
        world = await opened("a:1", "b:1")
        await serve(world, "a:1", "b:1")
        world.when_published = lambda snapshot: world.driver.close()
        world.of("a:1").become(IDLE)
        await settle()

        assert world.snapshot.state is SHUTDOWN
        await close(world)

    run(main())


# --- the resolver ----------------------------------------------------------------------------------


def test_a_resolver_that_raises_is_run_again_after_a_backoff() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(OSError("no such host"))
        world = World(resolver)
        await settle()
        assert world.snapshot.describe() == "no addresses for service 'svc': OSError: no such host"
        assert world.snapshot.state is FAILURE
        await asyncio.sleep(0.79)
        assert resolver.runs == 1
        await asyncio.sleep(0.42)
        assert resolver.runs == 2

        resolver.say(ValueError())
        await settle()
        assert world.snapshot.describe() == "no addresses for service 'svc': ValueError"
        await asyncio.sleep(2.0)
        assert resolver.runs == 3

        resolver.say(endpoints("a:1"))
        await settle()
        assert world.states == {"a:1": "CONNECTING"}
        await asyncio.sleep(600.0)
        assert resolver.runs == 3
        await close(world)

    run(main())


def test_a_resolver_that_raises_later_keeps_its_last_list() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1"), OSError("SERVFAIL"), endpoints("a:1"))
        world = World(resolver)
        await settle()
        await serve(world, "a:1")
        assert world.states == {"a:1": "READY"}
        assert (world.snapshot.error, world.snapshot.list_age) == ("OSError: SERVFAIL", 0)
        await asyncio.sleep(2.0)

        assert (world.states, world.snapshot.error, resolver.runs) == ({"a:1": "READY"}, "", 2)
        await close(world)

    run(main())


def test_a_resolver_that_returns_has_said_all_it_had_to_say() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1"), RETURN)
        world = World(resolver)
        await settle()
        await serve(world, "a:1")
        world.of("a:1").become(FAILURE)
        await asyncio.sleep(600.0)

        assert (resolver.runs, world.states) == (1, {"a:1": "TRANSIENT_FAILURE"})
        await close(world)

    run(main())


def test_a_lost_connection_asks_the_resolver_to_look_again() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        assert world.resolver.refreshes == 0
        world.of("a:1").become(IDLE)
        await settle()

        assert (world.resolver.refreshes, world.resolver.runs) == (1, 1)
        await close(world)

    run(main())


def test_a_resolver_without_refresh_is_left_alone() -> None:
    class Plain:
        runs = 0

        async def resolve(self, update: Any) -> None:
            self.runs += 1
            update(endpoints("a:1"))
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        resolver = Plain()
        world = World(resolver)
        await settle()
        world.of("a:1").become(FAILURE)
        await settle()

        assert resolver.runs == 1
        await close(world)

    run(main())


def test_lists_that_wait_together_collapse_to_the_last() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        before = len(world.log)
        for _ in range(100):
            world.resolver.say(endpoints("b:1"))
            world.resolver.say(endpoints("a:1"))
        await settle()

        assert ([entry for entry, _ in world.log[before:]], world.states) == (["handle"], {"a:1": "READY"})
        world.resolver.say(endpoints("b:1"))
        world.resolver.say([])
        world.resolver.say(endpoints("c:1"))
        await settle()
        assert world.states == {"c:1": "CONNECTING"}
        await close(world)

    run(main())


def test_a_list_from_another_thread_is_handed_over() -> None:
    async def main() -> None:
        resolver = UpdatingResolver()
        world = World(resolver)
        await settle()
        raised: list[BaseException] = []

        def tell() -> None:
            resolver.update(endpoints("a:1"))
            try:
                resolver.update("a:1")  # type: ignore[arg-type]
            except TypeError as error:
                raised.append(error)

        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
        await settle()

        assert world.states == {"a:1": "CONNECTING"}
        assert "list of Endpoint objects" in str(raised[0])
        assert "'a:1' (str)" in str(raised[0])
        await close(world)

    run(main())


class UpdatingResolver:
    """Gives its `update` away."""

    def __init__(self) -> None:
        self.update: Callable[[Sequence[Endpoint]], None]

    async def resolve(self, update: Callable[[Sequence[Endpoint]], None]) -> None:
        self.update = update
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("odd")])
def test_whatever_a_resolver_raises_is_its_failure(error: BaseException) -> None:
    """On a thread of its own, as in the sync face: on the main thread KeyboardInterrupt is Ctrl-C."""

    async def main() -> None:
        resolver = ScriptedResolver(error)
        world = World(resolver)
        await settle()

        assert world.snapshot.error.startswith(type(error).__name__)
        resolver.say(endpoints("a:1"))
        await asyncio.sleep(1.3)
        assert world.states == {"a:1": "CONNECTING"}
        await close(world)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run, main()).result()


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), asyncio.CancelledError()])
def test_a_refresh_that_raises_stops_nothing(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = await opened("a:1", "b:1")

        def refresh() -> None:
            raise error

        world.resolver.refresh = refresh
        await serve(world, "a:1", "b:1")
        world.of("a:1").become(FAILURE)
        await settle()

        assert world.states == {"a:1": "TRANSIENT_FAILURE", "b:1": "READY"}
        assert "the resolver's refresh" in caplog.text
        await close(world)

    run(main())


@pytest.mark.parametrize(
    ("garbage", "named"),
    [
        (None, "NoneType"),
        (7, "int"),
        ("a:1", "list of Endpoint objects"),
        (["a:1", 7], "7 (int)"),
        (["no port"], "no port"),
        ([Endpoint("a:1"), None], "None"),
        ([Endpoint("")], "''"),
        ([Endpoint("no port")], "no port"),
        ([Endpoint(7)], "7"),  # type: ignore[arg-type]
        ([Endpoint("a:1", weight=0)], "weight"),
        ([Endpoint("a:1", weight=float("nan"))], "weight"),
    ],
)
def test_garbage_from_a_resolver_is_a_failure_that_names_it(garbage: Any, named: str) -> None:
    async def main() -> None:
        resolver = ScriptedResolver(garbage)
        world = World(resolver)
        await settle()

        assert world.snapshot.state is FAILURE
        assert named in world.snapshot.error
        assert [fact for fact in world.facts if isinstance(fact, ResolutionFailure)]

        resolver.say(endpoints("a:1"))
        await asyncio.sleep(1.3)
        assert world.states == {"a:1": "CONNECTING"}
        await close(world)

    run(main())


def test_a_resolver_may_hand_over_addresses_as_a_list_target_does() -> None:
    async def main() -> None:
        world = World(ScriptedResolver(["a:1", Endpoint("b:1")]))
        await settle()

        assert world.states == {"a:1": "CONNECTING", "b:1": "CONNECTING"}
        await close(world)

    run(main())


def test_a_resolver_may_hand_over_any_iterable() -> None:
    async def main() -> None:
        world = World(ScriptedResolver(iter(endpoints("a:1", "b:1"))))
        await settle()

        assert world.states == {"a:1": "CONNECTING", "b:1": "CONNECTING"}
        await close(world)

    run(main())


def test_an_empty_list_keeps_the_last_one_and_is_asked_again() -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1"), [])
        world = World(resolver)
        await settle()

        assert world.states == {"a:1": "CONNECTING"}
        assert world.snapshot.error == "the resolver returned no addresses"
        await asyncio.sleep(1.3)
        assert resolver.refreshes == 1
        await close(world)

    run(main())


def test_a_resolver_that_is_cancelled_from_within_is_run_again() -> None:
    """A library it uses may raise CancelledError on its own account."""

    async def main() -> None:
        resolver = ScriptedResolver(asyncio.CancelledError())
        world = World(resolver)
        await settle()
        resolver.say(endpoints("a:1"))
        await asyncio.sleep(1.3)

        assert (resolver.runs, world.states) == (2, {"a:1": "CONNECTING"})
        await close(world)

    run(main())


# --- time and the end ------------------------------------------------------------------------------


def test_the_one_timer_is_exact() -> None:
    async def main() -> None:
        world = await opened("a:1")
        loop = asyncio.get_running_loop()
        world.of("a:1").become(READY)
        await settle()
        published: list[float] = []
        world.when_published = lambda snapshot: published.append(loop.time() - 1_000.0)
        await asyncio.sleep(10.5)

        assert world.reasons == {"a:1": "no health response"}
        assert published == [10.0]
        await close(world)

    run(main())


@pytest.mark.parametrize("state", [CONNECTING, READY, FAILURE])
def test_closing_ends_everything_in_whatever_state(state: ConnectivityState) -> None:
    async def main() -> None:
        resolver = ScriptedResolver(endpoints("a:1", "b:1"), OSError("no such host"))
        world = World(resolver, policy=HealthCheck())
        await settle()
        if state is not CONNECTING:
            world.of("a:1").become(state)
        await asyncio.sleep(0.5)
        await close(world)
        before = len(world.published), resolver.runs

        world.driver.close()
        world.driver.call_failed(1, 1, Code.UNAVAILABLE)
        await asyncio.sleep(600.0)
        assert (len(world.published), resolver.runs) == before

    run(main())


def test_closing_before_anything_happened() -> None:
    async def main() -> None:
        world = World(ScriptedResolver())
        await close(world)

        assert world.resolver.runs <= 1

    run(main())


def test_a_connection_for_calls_that_comes_up_while_closing_is_closed() -> None:
    """The event and the end wait together: what is prepared between them must not be left open."""

    async def main() -> None:
        world = await opened("a:1", "b:1")
        world.driver.post(ConnectivityChanged(1, READY))
        await close(world)

    run(main())


def test_closing_cuts_calls_off() -> None:
    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        handle = world.snapshot.ready[0]
        assert handle.load.start()
        await close(world)

        handle.load.fail()  # says so to a driver that is gone
        await settle()

    run(main())


def test_a_call_that_ends_after_the_loop_is_harmless() -> None:
    kept: list[Any] = []

    async def main() -> None:
        world = await opened("a:1")
        await serve(world, "a:1")
        handle = world.snapshot.ready[0]
        assert handle.load.start()
        kept.extend((world, handle))
        await close(world)

    run(main())
    world, handle = kept
    handle.load.fail()
    world.driver.call_failed(1, 1, Code.UNAVAILABLE)
    world.driver.call_failed(1, 1, Code.UNAVAILABLE)


def test_without_health_checking_no_watch_is_opened() -> None:
    async def main() -> None:
        world = await opened("a:1", service=None, policy=STEADY)
        world.of("a:1").become(READY)
        await settle()

        assert (world.states, world.of("a:1").watches) == ({"a:1": "READY"}, [])
        await close(world)

    run(main())


class Listing(Switch):
    """Hears of all endpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[list[str]] = []

    def endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        if self.is_broken:
            raise RuntimeError("this picker is broken")
        self.lists.append([endpoint.address for endpoint in endpoints])


def test_p13_a_factory_hears_of_endpoints_when_they_change_and_not_of_their_health() -> None:
    async def main() -> None:
        factory = Listing()
        world = await opened("a:1", "b:1", factory=factory)
        await serve(world, "a:1")
        await serve(world, "b:1")
        assert factory.lists == [["a:1", "b:1"]]
        builds = len(factory.built)
        world.resolver.say(endpoints("a:1", "b:1", "c:1"))
        await settle()

        # The new one is not READY yet, but a ring has its place.
        assert factory.lists == [["a:1", "b:1"], ["a:1", "b:1", "c:1"]]
        assert len(factory.built) == builds + 1
        await close(world)

    run(main())


def test_a_factory_that_does_not_take_the_endpoints_hears_of_them_again() -> None:
    async def main() -> None:
        factory = Listing()
        factory.is_broken = True
        world = await opened("a:1", "b:1", factory=factory)
        await serve(world, "a:1")
        assert isinstance(world.snapshot.picker.pick(ANY_CALL), FailedPick)
        factory.is_broken = False
        world.of("b:1").become(FAILURE)
        await settle()

        assert (pick(world), factory.lists) == ("a:1", [["a:1", "b:1"]])
        await close(world)

    run(main())
