"""The plan on real servers, through `healthlb.aio.HealthAwareChannel`.

A call is made at its time, whatever became of the ones before. How late that was is written down.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

import healthlb.aio
from healthlb.config import Failover
from healthlb.core.facts import StateChange
from healthlb.demo.fleet import Fleet
from healthlb.simulation.calibration.plan import BACKENDS, ERRORS, FAILING, SLOTS, Plan

SERVICE = "calibration"
METHOD = "/healthlb.Work/Do"
_READY_TIMEOUT = 20.0
_SETTLE = 10.0


@dataclass(frozen=True, slots=True)
class Called:
    """One call, as it was seen; times are nanoseconds, `made_at` and `ended_at` from the beginning.

    Attributes:
        made_at: when it was made.
        ended_at: when its answer was there.
        lag: how much later than planned it was made.
        work: as planned.
        at_server: how long the server that answered had it, in all; 0 where none did.
        in_slot: how long in its slot.
        is_ok: whether there was an answer.
    """

    made_at: int
    ended_at: int
    lag: int
    work: int
    at_server: int
    in_slot: int
    is_ok: bool

    @property
    def latency(self) -> int:
        """From the call to its answer."""
        return self.ended_at - self.made_at

    @property
    def on_the_way(self) -> int:
        """What of the latency was not the server's: the wire, both ends' stacks and loops, and attempts before."""
        return self.latency - self.at_server

    @property
    def overslept(self) -> int:
        """How much longer than its work it had its slot."""
        return self.in_slot - self.work


@dataclass(slots=True)
class Observed:
    """What the real world did.

    Attributes:
        calls: in the order they ended.
        picks: attempts by backend, refused ones included.
        transitions: of backends into READY and out of it, while calls were made.
        load: of the machine, over the last minute, before and after.
        cpu: seconds of this process's processor time, while calls were made.
    """

    calls: list[Called] = field(default_factory=list)
    picks: list[int] = field(default_factory=lambda: [0] * BACKENDS)
    transitions: int = 0
    load: tuple[float, float] = (0.0, 0.0)
    cpu: float = 0.0


def observe(plan: Plan) -> Observed:
    """Play the plan.

    Raises:
        BackendError: a server did not start, or did not do as told.
        TimeoutError: the channel did not get all of them READY.
    """
    with Fleet(BACKENDS, Path(__file__).with_name("server.py")) as fleet:
        for backend in fleet.backends:
            backend.tell({"slots": SLOTS})
        fleet.backends[FAILING].tell({"errors": ERRORS})
        return asyncio.run(_Run(plan, fleet).observe())


class _Run:
    """One play of a plan against real servers."""

    def __init__(self, plan: Plan, fleet: Fleet) -> None:
        self._plan = plan
        self._fleet = fleet
        self._observed = Observed()
        self._number = {address: number for number, address in enumerate(fleet.addresses)}
        self._began_at = 0
        self._call: Any = None

    async def observe(self) -> Observed:
        """Play the plan through a channel that has all servers READY; TimeoutError where it does not get there."""
        channel = healthlb.aio.HealthAwareChannel(
            list(self._fleet.addresses), SERVICE, picker=self._plan.picker, outliers=None,
            failover=Failover(idempotent=True),
        )  # fmt: skip
        async with channel:
            await channel.wait_until_ready(_READY_TIMEOUT, min_ready=BACKENDS)
            channel.add_listener(self._hear)
            self._call = channel.unary_unary(METHOD)
            before = os.getloadavg()[0]
            self._began_at = time.monotonic_ns()
            cpu = time.process_time()
            await self._play()
            self._observed.cpu = time.process_time() - cpu
            self._observed.load = (before, os.getloadavg()[0])
            for status in channel.subchannels():
                self._observed.picks[self._number[status.address]] = status.picks
        return self._observed

    async def _play(self) -> None:
        flips = asyncio.create_task(self._flip())
        tasks = []
        for at, work in zip(self._plan.times, self._plan.works, strict=True):
            await self._sleep_until(at)
            tasks.append(asyncio.create_task(self._one(at, work)))
        await asyncio.wait_for(asyncio.gather(*tasks), _SETTLE)
        await flips

    async def _one(self, planned: int, work: int) -> None:
        made_at = self._now()
        at_server = in_slot = 0
        is_ok = True
        try:
            at_server, in_slot = struct.unpack("<QQ", await self._call(struct.pack("<Q", work)))
        except grpc.aio.AioRpcError:
            is_ok = False
        called = Called(made_at, self._now(), made_at - planned, work, at_server, in_slot, is_ok)
        self._observed.calls.append(called)

    async def _flip(self) -> None:
        for flip in self._plan.flips:
            await self._sleep_until(flip.at)
            # The pipe's answer must not keep calls waiting.
            await asyncio.to_thread(self._fleet.backends[flip.backend].set_status, flip.status)

    async def _sleep_until(self, at: int) -> None:
        wait = at - self._now()
        if wait > 0:
            await asyncio.sleep(wait / 1e9)

    def _now(self) -> int:
        return time.monotonic_ns() - self._began_at

    def _hear(self, fact: object) -> None:
        if isinstance(fact, StateChange) and fact.at - self._began_at < self._plan.duration:
            self._observed.transitions += "READY" in (fact.old.name, fact.new.name)
