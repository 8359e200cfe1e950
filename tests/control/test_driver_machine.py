"""The real driver, watchers and balancer in a scripted world, in any order of events."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from healthlb.config import HealthCheck, Heartbeat
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Endpoint
from healthlb.core.pickers import ANY_CALL
from tests.backends.clients import tasks_of
from tests.control.scripted import READY, SHUTDOWN, ScriptedResolver, Switch, World, endpoints, is_ordered
from tests.control.virtual_loop import VirtualLoop, settle

ADDRESSES = ("a:1", "b:1", "c:1", "d:1")
indices = st.integers(0, 5)
states = st.sampled_from([state for state in ConnectivityState if state is not SHUTDOWN])
codes = st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.UNIMPLEMENTED, Code.INTERNAL])
lists = st.lists(st.builds(Endpoint, st.sampled_from(ADDRESSES), st.sampled_from([1.0, 2.0])), max_size=5)


class DriverMachine(RuleBasedStateMachine):
    """What the world does, alone or together with what follows."""

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("healthlb").disabled = True
        self.loop = VirtualLoop()
        self.factory = Switch()
        self.calls: list[Subchannel] = []

    async def _here(self, act: Any) -> Any:
        return act()

    def do(self, act: Any) -> Any:
        """Run on the loop; what it leads to waits for the next `let_happen`."""
        return self.loop.run_until_complete(self._here(act))

    @initialize(
        service=st.sampled_from(["svc", None]),
        heartbeat=st.sampled_from([None, Heartbeat(interval=5.0, timeout=1.0)]),
        addresses=lists,
    )
    def open(self, service: str | None, heartbeat: Heartbeat | None, addresses: list[Endpoint]) -> None:
        policy = HealthCheck(heartbeat=heartbeat)
        resolver = ScriptedResolver(addresses)
        self.world = self.do(lambda: World(resolver, policy, service, self.factory))
        self.let_happen()

    # --- the world -----------------------------------------------------------------------------------

    @rule(word=st.one_of(lists, st.sampled_from([OSError("SERVFAIL"), None, ["a:1"], asyncio.CancelledError()])))
    def the_resolver_says(self, word: Any) -> None:
        self.do(lambda: self.world.resolver.say(word))

    def connection(self, index: int) -> Any:
        live = self.world.live
        return live[index % len(live)] if live else None

    @rule(index=indices, path=st.lists(states, min_size=1, max_size=3))
    def a_connection_becomes(self, index: int, path: list[ConnectivityState]) -> None:
        connection = self.connection(index)
        if connection is not None:
            self.do(lambda: connection.become(*path))

    @rule(index=indices, status=st.integers(0, 4), is_old=st.booleans())
    def a_watch_says(self, index: int, status: int, is_old: bool) -> None:
        connection = self.connection(index)
        if connection is not None and connection.watches:
            self.do(lambda: connection.watches[0 if is_old else -1].say(status))

    @rule(index=indices, code=codes, is_lost=st.booleans())
    def a_watch_ends(self, index: int, code: Code, is_lost: bool) -> None:
        connection = self.connection(index)
        if connection is not None and connection.watches:
            self.do(lambda: connection.watches[-1].end(code))
            if is_lost:
                self.do(lambda: connection.become(ConnectivityState.IDLE))

    @rule(index=indices, code=codes)
    def a_check_is_answered(self, index: int, code: Code) -> None:
        connection = self.connection(index)
        if connection is not None and connection.checks and not connection.checks[-1].done():
            self.do(lambda: connection.checks[-1].set_result((code, "")))

    @rule(answer=st.sampled_from(["", "", "refused", None]))
    def connections_for_calls_are(self, answer: str | None) -> None:
        self.world.data_answer = answer
        if answer is not None:
            self.do(self.world.answer_data)

    @rule(is_broken=st.booleans())
    def the_picker_is(self, is_broken: bool) -> None:
        self.factory.is_broken = is_broken

    @rule()
    def a_call_begins(self) -> None:
        sub = self.world.snapshot.picker.pick(ANY_CALL)
        if sub is not None and sub.load.start():
            self.calls.append(sub)

    @precondition(lambda self: self.calls)
    @rule(index=indices, code=st.sampled_from([Code.OK, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE]), cut=st.booleans())
    def a_call_ends(self, index: int, code: Code, cut: bool) -> None:
        sub = self.calls.pop(index % len(self.calls))
        if code is Code.OK:
            self.do(lambda: sub.load.succeed(self.loop.clock()))
            return
        if cut:
            self.world.forget(sub.id)
        self.do(lambda: self.world.driver.call_failed(sub.id, sub.generation, code, is_refused=cut))
        self.do(sub.load.fail)

    @rule()
    def all_is_well(self) -> None:
        """Every backend is up and SERVING: soon every address is READY, whatever was before."""
        self.connections_for_calls_are("")
        self.factory.is_broken = False
        self.the_resolver_says(endpoints(*ADDRESSES))
        for _ in range(40):
            self.loop.run_until_complete(settle())
            for connection in self.world.live:
                if connection.state() is not READY:
                    self.do(lambda connection=connection: connection.become(READY))
                for watch in connection.open_watches:
                    self.do(lambda watch=watch: watch.say(1))
                for check in connection.checks:
                    if not check.done():
                        self.do(lambda check=check: check.set_result((Code.OK, "", 1)))
            self.loop.run_until_complete(asyncio.sleep(1.0))
        self.let_happen()

        assert self.world.states == dict.fromkeys(ADDRESSES, "READY")
        assert Counter(self.world.snapshot.picker.pick(ANY_CALL).id for _ in range(8)).most_common()[0][1] == 2

    # --- time, and what must hold when all has happened -------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.let_happen()

    @rule()
    def let_happen(self) -> None:
        self.loop.run_until_complete(settle())
        world, snapshot = self.world, self.world.balancer.snapshot
        if not world.published:
            return

        assert dataclasses.replace(world.snapshot, picker=snapshot.picker) == snapshot
        assert [handle.load.is_retired for handle in snapshot.ready] == [False] * len(snapshot.ready)
        assert [batch for batch in world.batches() if not is_ordered(batch)] == []
        assert self.loop.errors == []
        watches = [watch for connection in world.connections for watch in connection.open_watches]
        assert len(watches) == len(world.balancer.watches)
        per_address = Counter(connection.address for connection in world.live)
        # There is none while a connection that served nothing is not dialled again yet.
        machines: Any = world.balancer._machines
        assert set(per_address) == {one.endpoint.address for one in machines.values() if not one.dials.is_waiting}
        assert max(per_address.values(), default=1) <= 2
        self.check_data()
        world.log.clear()

    def check_data(self) -> None:
        """Each connection for calls is in use, or drains with calls in flight."""
        balancer: Any = self.world.balancer
        used = set()
        for machine in [*balancer._machines.values(), *balancer._draining]:
            used |= {(machine.id, generation) for generation in machine.draining}
            assert [handle.load.in_flight > 0 for handle in machine.draining.values()] == [True] * len(machine.draining)
            if machine.handle is not None:
                used.add((machine.id, machine.handle.generation))
        assert set(self.world.open_data) == used

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.do(self.world.driver.close)
                self.loop.run_until_complete(settle())
                watches = [watch for connection in self.world.connections for watch in connection.open_watches]
                assert (self.world.live, self.world.open_data, watches) == ([], {}, [])
                assert self.world.snapshot.state is SHUTDOWN
                assert tasks_of(self.loop) == set()
                assert self.loop.errors == [], self.loop.errors
        finally:
            logging.getLogger("healthlb").disabled = False
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


TestDriverMachine = DriverMachine.TestCase
TestDriverMachine.settings = settings(max_examples=60, stateful_step_count=30)
