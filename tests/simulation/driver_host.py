"""Hosts simulated clients' cores with the library's own asyncio driver, on a transport in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from healthlb.control.driver import Driver
from healthlb.control.transport import CheckAnswer, DataDone, WatchEnded
from healthlb.core.call.overload import Admission
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Endpoint, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.simulation.scenario.scenario import Scenario
from healthlb.simulation.world.call import rescue
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.world import Around, World, make_balancer
from tests.simulation.engine_loop import EngineLoop


class MemoryConnection:
    """A simulated connection behind the driver's port."""

    def __init__(self, around: Around, endpoint: Endpoint) -> None:
        self._around = around
        self._waiting: list[asyncio.Future[None]] = []
        self.wire = around.connect(endpoint, self._on_change)

    def _on_change(self, wire: Connection) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def state(self) -> ConnectivityState:
        return self.wire.state

    def connect(self) -> None:
        self.wire.connect()

    async def left(self, state: ConnectivityState) -> None:
        if self.wire.state is state:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    async def watch(self, service: str) -> AsyncIterator[int]:
        words: asyncio.Queue[int | WatchEnded] = asyncio.Queue()
        self._around.watch_started()
        stream = self.wire.watch(service, words.put_nowait, lambda code, text: words.put_nowait(WatchEnded(code, text)))
        try:
            while True:
                word = await words.get()
                if isinstance(word, WatchEnded):
                    raise word
                yield word
        finally:
            if stream is not None:
                stream.cancel()

    async def check(self, service: str, timeout: float) -> CheckAnswer:
        # When it is too late the core knows by itself; what a real transport does then, sends nothing on the wire.
        answer: asyncio.Future[tuple[Code, str]] = asyncio.get_running_loop().create_future()

        def ended(code: Code, text: str) -> None:
            if not answer.done():
                answer.set_result((code, text))

        stream = self.wire.check(service, ended)
        code, text = await answer
        said = stream.said if stream is not None and code is Code.OK else None
        return CheckAnswer(code, text, said)

    async def ping(self, timeout: float) -> Code:
        answer: asyncio.Future[Code] = asyncio.get_running_loop().create_future()
        self.wire.ping(lambda code, _: None if answer.done() else answer.set_result(code))
        return await answer

    def release(self) -> None:
        self.wire.release()


class MemoryData:
    """Calls use the control connections, as in the aio face."""

    def __init__(self) -> None:
        self.connections: dict[tuple[int, int], Connection] = {}
        self._last_generation = 0

    def prepare(self, sub: int, endpoint: Endpoint, control: Any, done: DataDone) -> None:
        wire = control.wire
        if wire.generation is None:
            self._last_generation += 1
            wire.generation = self._last_generation
            wire.hold()
            self.connections[sub, self._last_generation] = wire
        done(wire.generation, "")

    def forget(self, sub: int) -> None:
        """The next control connection is a fresh one."""

    def close(self, sub: int, generation: int) -> None:
        wire = self.connections.pop((sub, generation), None)
        if wire is not None:
            wire.release()


class WorldResolver:
    """The world's resolver as a resolver of the library."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._told: asyncio.Queue[tuple[Endpoint, ...] | str] = asyncio.Queue()
        self._is_subscribed = False

    def refresh(self) -> None:
        self._around.resolve(self._told.put_nowait)

    async def resolve(self, update: Callable[[Sequence[Endpoint]], None]) -> None:
        # What is true now, and not all that was meanwhile.
        last = None
        while not self._told.empty():
            last = self._told.get_nowait()
        if last is None:
            self.refresh()
        else:
            self._told.put_nowait(last)
        while True:
            word = await self._told.get()
            if isinstance(word, str):
                # The driver tells type and text; the simulator has the one word, so here it is the type.
                raise type(word, (OSError,), {})
            update(word)


class DriverHost:
    """What a simulated client sees of its core's host; here that is the driver.

    Attributes:
        holder: where it publishes.
        is_closed: always False.
    """

    def __init__(self, world: World, client: Client, seed: int) -> None:
        self.loop = loop = EngineLoop(world.engine)
        self._around = Around(world, client)
        self._data = MemoryData()
        self.admission = Admission(world.policy.overload)
        balancer = make_balancer(world.policy, seed, self.admission)
        self.is_closed = False
        self.snapshot: Snapshot = balancer.snapshot
        self.holder = self
        with loop.running():
            self.driver = Driver(
                balancer=balancer,
                transport=self,
                data=self._data,
                resolver=WorldResolver(self._around),
                factory=client.factory,
                publish=self._publish,
                report=self._around.reported,
                clock=loop.clock,
                rescue=self._rescue,
            )

    def connect(self, endpoint: Endpoint) -> MemoryConnection:
        return MemoryConnection(self._around, endpoint)

    def stall(self) -> None:
        self.loop.stall()

    def resume(self) -> None:
        self.loop.resume()

    def _rescue(self, sub: Subchannel, tell: Callable[[int], None]) -> None:
        connection = self.connection(sub)
        if connection is not None:
            tell(rescue(connection.attempts()))

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._around.published(snapshot)

    def start(self) -> None:
        with self.loop.running():
            self.driver.start()

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        self.driver.call_failed(sub.id, sub.generation, code, is_refused=is_refused)

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        self.driver.calls_refused(cap)
        return Fail(Code.RESOURCE_EXHAUSTED, cap)

    def connection(self, sub: Subchannel) -> Connection | None:
        return self._data.connections.get((sub.id, sub.generation))

    def connections(self) -> Collection[Connection]:
        return self._data.connections.values()


def run_on_driver(scenario: Scenario, policy: str, *, trace: int = 3) -> RunRecord:
    """Run a scenario with the asyncio driver for a host."""
    hosts: list[DriverHost] = []

    def make_host(world: World, client: Client, seed: int) -> Any:
        hosts.append(DriverHost(world, client, seed))
        return hosts[-1]

    record = World(scenario, policy, trace=trace, make_host=make_host).run()
    for host in hosts:
        host.loop.close()
        assert host.loop.errors == []
    return record
