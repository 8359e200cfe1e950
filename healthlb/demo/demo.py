"""Puts the demo together: a fleet, a channel on it, traffic, faults, and a view.

The view, the activity and the notes are touched by the calling thread only; the
others leave what they have to say in a queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from healthlb.core.messages import SECOND, ConnectivityState, StateChange
from healthlb.demo.activity import Activity
from healthlb.demo.allowance import blamed
from healthlb.demo.backend import SERVICE
from healthlb.demo.fleet import Fleet
from healthlb.demo.frame import FAULT_NAMES, REPAIR_NAMES, Frame, Lane, Mark, Note, Source, View, spelled
from healthlb.demo.injector import Injector
from healthlb.demo.ledger import Run, Summary, summarize
from healthlb.demo.schedule import plan
from healthlb.demo.traffic import METHOD, Say, Traffic

CONNECT_TIMEOUT = 15.0
# A slow machine may need longer than the schedule thought to bring the last backend back.
SETTLE = 5.0
_FRAME = 0.1


class SubchannelStatus(Protocol):
    """What the demo reads of one subchannel."""

    @property
    def address(self) -> str:
        """Where the backend listens, "host:port"."""

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """READY while calls may go there."""

    @property
    def reason(self) -> str:
        """Why it is in this state."""


class DemoChannel(Protocol):
    """What the demo needs of a channel: a part of `healthlb.HealthAwareChannel`."""

    def unary_unary(self, method: str) -> Say:
        """Return what calls a method, "/package.Service/Method", with bytes."""

    def wait_until_ready(self, timeout: float | None, min_ready: int) -> None:
        """Wait until so many backends are READY, for `timeout` seconds; then raises TimeoutError."""

    def subchannels(self) -> Sequence[SubchannelStatus]:
        """Return the backends as they are now."""

    def add_listener(self, fn: Callable[[Any], None]) -> None:
        """Have each fact passed to `fn` from now on."""

    def close(self) -> None:
        """Close the connections; calls under way fail."""


OpenChannel = Callable[[Sequence[str]], DemoChannel]


@dataclass(frozen=True, slots=True)
class Settings:
    """What one can choose.

    Attributes:
        duration: of the traffic, in seconds; at least 5.
        backends: how many; 2 to 20.
        rate: calls per second over all backends; 1 to 2,000.
        seed: of the schedule.
    """

    duration: float = 20.0
    backends: int = 3
    rate: float = 200.0
    seed: int = 1


def open_channel(addresses: Sequence[str]) -> DemoChannel:
    """Open the channel that the demo is about, with its defaults."""
    import healthlb

    return healthlb.HealthAwareChannel(list(addresses), service=SERVICE, failover=healthlb.Failover(idempotent=True))


def run_demo(
    settings: Settings, view: View, stop: threading.Event, open_channel: OpenChannel = open_channel
) -> Summary:
    """Run the demo until its time is over or `stop` is set.

    Raises:
        BackendError: a backend process did not start, or would not do as told.
        TimeoutError: the channel did not get all backends READY within 15 s.
    """
    with Fleet(settings.backends) as fleet, closing(open_channel(fleet.addresses)) as channel:
        channel.wait_until_ready(CONNECT_TIMEOUT, min_ready=settings.backends)
        return Demo(settings, fleet, channel, view=view).run(stop)


class Demo:
    """One run on a fleet and a channel that are up."""

    def __init__(self, settings: Settings, fleet: Fleet, channel: DemoChannel, *, view: View) -> None:
        self._settings = settings
        self._addresses = fleet.addresses
        self._channel = channel
        self._view = view
        self._heard: deque[tuple[int, Source, str | StateChange]] = deque()
        self._notes: list[Note] = []
        self._seen = 0
        lanes = {address: index for index, address in enumerate(self._addresses)}
        faults = plan(settings.seed, settings.duration, settings.backends)
        self._injector = Injector(fleet, faults, self._is_all_ready, tell=self._hear_fault)
        self._traffic = Traffic(channel.unary_unary(METHOD), settings.rate, lanes)
        self._started_at = time.monotonic_ns()
        self._activity = Activity(settings.backends, self._started_at)

    def run(self, stop: threading.Event) -> Summary:
        """Drive, show and sum up."""
        self._channel.add_listener(self._hear_fact)
        self._hear(self._started_at, Source.DEMO, self._opening())
        self._traffic.start()
        self._injector.start(self._started_at)
        try:
            while not (stop.is_set() or self._is_over()):
                self._show()
                stop.wait(_FRAME)
            still_out = self._still_out()
        finally:
            self._injector.stop()
            self._traffic.stop()
        if self._injector.error:
            raise self._injector.error
        self._show()
        return self._summary(still_out, stop.is_set())

    def _opening(self) -> str:
        chosen = self._settings
        return (
            f"{chosen.backends} backends, {chosen.rate:g} calls/s, {chosen.duration:g} s, seed {chosen.seed}: "
            + " ".join(self._addresses)
        )

    def _is_over(self) -> bool:
        elapsed = self._elapsed(time.monotonic_ns())
        if self._injector.error or elapsed >= self._settings.duration + SETTLE:
            return True
        return elapsed >= self._settings.duration and self._injector.is_done and self._is_all_ready()

    def _is_all_ready(self) -> bool:
        return not self._still_out()

    def _still_out(self) -> tuple[str, ...]:
        return tuple(
            f"{subchannel.address} is {subchannel.state.name}: {subchannel.reason}"
            for subchannel in self._channel.subchannels()
            if subchannel.state is not grpc.ChannelConnectivity.READY
        )

    def _elapsed(self, at: int) -> float:
        return (at - self._started_at) / SECOND

    def _hear(self, at: int, source: Source, what: str | StateChange) -> None:
        self._heard.append((at, source, what))

    def _hear_fault(self, at: int, text: str) -> None:
        self._hear(at, Source.FAULT, text)

    def _hear_fact(self, fact: object) -> None:
        if isinstance(fact, StateChange):
            self._hear(fact.at, Source.HEALTHLB, fact)

    def _show(self) -> None:
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        for at, source, what in sorted(heard, key=lambda item: item[0]):
            text = what if isinstance(what, str) else self._told(what)
            note = Note(max(0.0, self._elapsed(at)), source, text)
            self._notes.append(note)
            self._view.note(note)
        records, injections = self._traffic.records, self._injector.injections
        end = len(records)
        for call in records[self._seen : end]:
            self._activity.add(blamed(call, injections))
        self._seen = end
        self._view.refresh(self._frame(time.monotonic_ns()))

    def _told(self, change: StateChange) -> str:
        text = f"{change.address} {change.old.name} -> {change.new.name}{self._reaction(change)}"
        return f"{text}: {change.reason}" if change.reason else text

    def _reaction(self, change: StateChange) -> str:
        own = [one for one in self._injector.injections if self._addresses[one.fault.backend] == change.address]
        if not own:
            return ""
        last = own[-1]
        if change.new is ConnectivityState.READY and last.repairing_at is not None:
            healed_at = last.repaired_at or last.repairing_at
            return f" {spelled(max(0, change.at - healed_at) / SECOND)} after it was well"
        if change.old is ConnectivityState.READY and last.repairing_at is None:
            return f" {spelled(max(0, change.at - last.began_at) / SECOND)} after the fault"
        return ""

    def _frame(self, now: int) -> Frame:
        step = self._injector.upcoming
        upcoming = f"{step.text} in {max(0.0, (step.at - now) / SECOND):.1f} s" if step else "nothing more"
        return Frame(
            elapsed=self._elapsed(now),
            duration=self._settings.duration,
            asked_rate=self._settings.rate,
            seed=self._settings.seed,
            lanes=self._lanes(now),
            marks=self._marks(),
            current_cell=self._activity.cell(now),
            calls=self._activity.calls,
            errors=self._activity.errors,
            p50=self._activity.p50,
            upcoming=upcoming,
            notes=tuple(self._notes),
        )

    def _lanes(self, now: int) -> tuple[Lane, ...]:
        statuses = {subchannel.address: subchannel for subchannel in self._channel.subchannels()}
        lanes = []
        for index, address in enumerate(self._addresses):
            status = statuses[address]
            calls, errors = self._activity.totals(index)
            strip, rate = self._activity.strip(index, now), self._activity.rate(index, now)
            lanes.append(Lane(address, status.state.name, status.reason, strip, rate, calls, errors))
        return tuple(lanes)

    def _marks(self) -> tuple[Mark, ...]:
        marks = []
        for one in self._injector.injections:
            lane, kind = one.fault.backend, one.fault.kind
            marks.append(Mark(lane, self._activity.cell(one.began_at), FAULT_NAMES[kind], is_repair=False))
            if one.repairing_at is not None:
                marks.append(Mark(lane, self._activity.cell(one.repairing_at), REPAIR_NAMES[kind], is_repair=True))
        return tuple(marks)

    def _summary(self, still_out: tuple[str, ...], is_interrupted: bool) -> Summary:
        return summarize(
            Run(
                addresses=self._addresses,
                calls=tuple(self._traffic.records),
                injections=self._injector.injections,
                started_at=self._started_at,
                ended_at=time.monotonic_ns(),
                asked_rate=self._settings.rate,
                still_out=still_out,
                is_interrupted=is_interrupted,
            )
        )
