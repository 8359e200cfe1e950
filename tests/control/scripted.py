"""A world in memory behind the driver's port: connections, data plane and resolver that do as they are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from healthlb.config import Backoff, HealthCheck
from healthlb.control.driver import Driver
from healthlb.control.transport import CheckAnswer, Connection, DataDone, WatchEnded
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    Code,
    ConnectivityState,
    Effect,
    Endpoint,
    Event,
    Fact,
    StartWatch,
    StopWatch,
    WatchClosed,
)
from healthlb.core.pickers import Picker, PickerFactory
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.snapshot import Snapshot
from tests.control.virtual_loop import VirtualLoop
from tests.core.configs import config_of

IDLE, CONNECTING, READY, FAILURE, SHUTDOWN = ConnectivityState
STEADY = HealthCheck(
    backoff=Backoff(jitter=0.0), reconnect=Backoff(initial=0.2, maximum=1.0, jitter=0.0), heartbeat=None
)


class ScriptedWatch:
    """One stream; it is open from the first read to its end or its cancellation."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.is_open = False
        self._queue: asyncio.Queue[int | WatchEnded] = asyncio.Queue()

    def say(self, status: int) -> None:
        self._queue.put_nowait(status)

    def end(self, code: Code, details: str = "") -> None:
        self._queue.put_nowait(WatchEnded(code, details))

    async def read(self) -> AsyncIterator[int]:
        self.is_open = True
        try:
            while True:
                word = await self._queue.get()
                if isinstance(word, WatchEnded):
                    raise word
                yield word
        finally:
            self.is_open = False


class ScriptedConnection:
    """A control connection."""

    def __init__(self, address: str, log: list[tuple[str, Any]]) -> None:
        self.address = address
        self.log = log
        self.watches: list[ScriptedWatch] = []
        self.checks: list[asyncio.Future[tuple[Any, ...]]] = []
        self.pings: list[asyncio.Future[Code]] = []
        self.releases = self.dials = 0
        self._state = CONNECTING
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def become(self, *states: ConnectivityState) -> None:
        """Go through these states at once."""
        for self._state in states:
            self._changed.set_result(None)
            self._changed = asyncio.get_running_loop().create_future()

    @property
    def is_live(self) -> bool:
        return not self.releases

    @property
    def open_watches(self) -> list[ScriptedWatch]:
        return [watch for watch in self.watches if watch.is_open]

    def state(self) -> ConnectivityState:
        return self._state

    def connect(self) -> None:
        self.dials += 1

    async def left(self, state: ConnectivityState) -> None:
        if self._state is state:
            await asyncio.shield(self._changed)

    def watch(self, service: str) -> AsyncIterator[int]:
        self.watches.append(ScriptedWatch(service))
        return self.watches[-1].read()

    async def check(self, service: str, timeout: float) -> CheckAnswer:
        if self._state is FAILURE:
            return CheckAnswer(Code.UNAVAILABLE, "connection refused")
        answer: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self.checks.append(answer)
        try:
            return CheckAnswer(*await asyncio.wait_for(asyncio.shield(answer), timeout))
        except TimeoutError:
            return CheckAnswer(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    async def ping(self, timeout: float) -> Code:
        self.pings.append(asyncio.get_running_loop().create_future())
        try:
            return await asyncio.wait_for(asyncio.shield(self.pings[-1]), timeout)
        except TimeoutError:
            return Code.DEADLINE_EXCEEDED

    def release(self) -> None:
        self.log.append(("release", self.address))
        self.releases += 1
        assert self.releases == 1


RETURN = object()


class ScriptedResolver:
    """Says what it is given; an exception is raised, RETURN returns."""

    def __init__(self, *words: Any) -> None:
        self.runs = 0
        self.refreshes = 0
        self._words: asyncio.Queue[Any] = asyncio.Queue()
        for word in words:
            self.say(word)

    def say(self, word: Any) -> None:
        self._words.put_nowait(word)

    def refresh(self) -> None:
        self.refreshes += 1

    async def resolve(self, update: Callable[[Sequence[Endpoint]], None]) -> None:
        self.runs += 1
        while (word := await self._words.get()) is not RETURN:
            if isinstance(word, BaseException):
                raise word
            update(word)


class SpiedBalancer(Balancer):
    """Logs each event, and keeps which Watches it has asked for and not seen the end of."""

    log: list[tuple[str, Any]]
    watches: dict[int, int]

    def handle(self, event: Event, now: int) -> list[Effect]:
        self.log.append(("handle", event))
        if isinstance(event, WatchClosed) and self.watches.get(event.sub) == event.watch:
            del self.watches[event.sub]
        effects = super().handle(event, now)
        for effect in effects:
            if isinstance(effect, StartWatch):
                self.watches[effect.sub] = effect.watch
            elif isinstance(effect, StopWatch):
                del self.watches[effect.sub]
        return effects


class Switch:
    """A round robin that can be told to raise."""

    def __init__(self) -> None:
        self.is_broken = False
        self.built: list[tuple[Subchannel, ...]] = []
        self._inner = RoundRobin()

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        if self.is_broken:
            raise RuntimeError("this picker is broken")
        self.built.append(tuple(ready))
        return self._inner.build(ready)


class World:
    """A driver, and everything around it.

    Attributes:
        log: what was done in which order: handle, open, publish, close, report; and release, which
            watchers do on their own account too.
        data_answer: what comes of preparing a connection for calls: "" is success, None is silence until
            `answer_data`.
    """

    def __init__(
        self,
        resolver: Any,
        policy: HealthCheck = STEADY,
        service: str | None = "svc",
        factory: PickerFactory | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.log: list[tuple[str, Any]] = []
        self.connections: list[ScriptedConnection] = []
        self.resolver = resolver
        self.data_answer: str | None = ""
        self.open_data: dict[tuple[int, int], str] = {}
        self.published: list[Snapshot] = []
        self.facts: list[Fact] = []
        self.when_published: Callable[[Snapshot], None] = lambda snapshot: None
        self._current: dict[int, int] = {}
        self._asked: dict[int, tuple[str, DataDone]] = {}
        self._generations = itertools.count(1)
        self.balancer = SpiedBalancer(service, config_of(policy), seed=1)
        self.balancer.log, self.balancer.watches = self.log, {}
        self.driver = Driver(
            balancer=self.balancer,
            transport=self,
            data=self,
            resolver=resolver,
            factory=factory or RoundRobin(),
            publish=self._publish,
            report=self._report,
            clock=loop.clock,
        )
        self.driver.start()

    # --- the transport -----------------------------------------------------------------------------

    def connect(self, endpoint: Endpoint) -> ScriptedConnection:
        connection = ScriptedConnection(endpoint.address, self.log)
        self.connections.append(connection)
        self.log.append(("open", endpoint.address))
        return connection

    # --- the data plane ----------------------------------------------------------------------------

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        assert isinstance(control, ScriptedConnection)
        assert control.is_live
        self.log.append(("open", sub))
        self._asked[sub] = (endpoint.address, done)
        if self.data_answer == "":
            self.answer_data()  # it may be at once
        elif self.data_answer:
            asyncio.get_running_loop().call_soon(self.answer_data)

    def answer_data(self) -> None:
        """Answer whoever waits for a connection for calls."""
        asked, self._asked = self._asked, {}
        for sub, (address, done) in asked.items():
            if self.data_answer:
                done(None, self.data_answer)
                continue
            if sub not in self._current:
                self._current[sub] = next(self._generations)
                self.open_data[sub, self._current[sub]] = address
            done(self._current[sub], "")

    def forget(self, sub: int) -> None:
        self._current.pop(sub, None)
        self._asked.pop(sub, None)

    def close(self, sub: int, generation: int) -> None:
        self.log.append(("close", (sub, generation)))
        if self._current.get(sub) == generation:
            del self._current[sub]
        # One that was handed out as the channel closed is closed twice.
        self.open_data.pop((sub, generation), None)

    # --- what it says ------------------------------------------------------------------------------

    def _publish(self, snapshot: Snapshot) -> None:
        if self.published and not self.driver._is_draining:
            # A picker that could not be built is tried again some time after the events.
            self.log.append(("handle", None))
        self.log.append(("publish", snapshot))
        self.published.append(snapshot)
        self.when_published(snapshot)

    def _report(self, fact: Fact) -> None:
        self.log.append(("report", fact))
        self.facts.append(fact)

    # --- how tests look at it -------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        return self.published[-1]

    @property
    def states(self) -> dict[str, str]:
        return {view.endpoint.address: view.state.name for view in self.snapshot.views}

    @property
    def reasons(self) -> dict[str, str]:
        return {view.endpoint.address: view.reason for view in self.snapshot.views}

    @property
    def live(self) -> list[ScriptedConnection]:
        return [connection for connection in self.connections if connection.is_live]

    def of(self, address: str) -> ScriptedConnection:
        """The newest live connection to an address."""
        return next(connection for connection in reversed(self.live) if connection.address == address)

    def batches(self) -> list[list[str]]:
        """What was done after each run of events, by kind."""
        kinds = (kind for kind, _ in self.log if kind != "release")
        groups = itertools.groupby(kinds, key=lambda kind: kind == "handle")
        return [list(kinds) for is_event, kinds in groups if not is_event]


ORDER = ("open", "publish", "close", "report")


def is_ordered(batch: list[str]) -> bool:
    """Whether a batch is open -> publish -> close -> report."""
    return batch == sorted(batch, key=ORDER.index)


def endpoints(*addresses: str) -> list[Endpoint]:
    return [Endpoint(address) for address in addresses]
