"""What hosts a balancer, whatever its loop is: it feeds it events, does its effects, and holds its one timer.

The one rule: after the events that wait together come open, publish, close, report, in that order; so a picker never
holds what is closed already, and a mass flip is one new picker. The driver of an event loop and the simulator's host
differ in what an iteration of the loop is, what a connection is, and who hears of snapshots; they share the steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    CallsRefused,
    CallsRescued,
    CloseConnection,
    CloseSubchannel,
    Code,
    Connect,
    Disconnect,
    Drain,
    Drained,
    Effect,
    EndCalls,
    Endpoint,
    Event,
    Fact,
    OpenSubchannel,
    PrepareData,
    Probe,
    ProbeEnded,
    RaceConnection,
    RefreshData,
    Replace,
    Report,
    RescueCalls,
    ResolveNow,
    SendCheck,
    SendPing,
    StartWatch,
    StopWatch,
    Tick,
)
from healthlb.core.publication import CLOSING, Publisher


class Cancellable(Protocol):
    """A Watch that is open."""

    def cancel(self) -> object:
        """Cancel the Watch; what it still says is ignored."""


class ConnectionWatcher(ABC):
    """Follows one subchannel's control connection and its Watch. Subclasses say how, and send Checks.

    Args:
        sub: its number.
        endpoint: where to connect.
    """

    def __init__(self, sub: int, endpoint: Endpoint) -> None:
        self.sub = sub
        self.endpoint = endpoint
        self._present_watch: tuple[int, Cancellable | None] | None = None
        self._rival: Any = None
        self._begin(self._connect())

    # --- what a subclass has ---------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> Any:
        """Return a fresh connection."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the present connection is READY."""

    @abstractmethod
    def _follow(self) -> None:
        """Begin to report the states of the present connection."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop reporting the present connection and its Watch."""

    @abstractmethod
    def _race(self, rival: Any) -> None:
        """Call `_won` once this connection is READY."""

    def _stop_race(self) -> None:  # noqa: B027 - who looks whether it is still wanted has nothing to stop
        """End the race: `_won` is not called any more."""

    @abstractmethod
    def _open_watch(self, watch: int, service: str) -> Cancellable | None:
        """Open a Watch on the present connection."""

    # --- the steps ---------------------------------------------------------------------------------------

    def _begin(self, connection: Any) -> None:
        self.connection = connection
        self._is_connected = True
        self._follow()

    def disconnect(self) -> None:
        """Stop, and give up the connection; for good, or until `replace`."""
        if self._is_connected:
            self._is_connected = False
            self._stop()
            self._drop_rival()
            self.connection.release()

    def replace(self) -> None:
        """Go on with a fresh connection."""
        self.disconnect()
        self._begin(self._connect())

    def connect(self) -> None:
        """Dial again with the present connection, which was lost."""
        self.connection.connect()

    def race_connection(self) -> None:
        """Race a fresh connection against the present one, unless that is up by now; an earlier rival gives way."""
        # If it is, the word of it is still on its way here: a rival would win over it later, its Watch included.
        if not self._is_ready():
            self._drop_rival()
            self._rival = self._connect()
            self._race(self._rival)

    def _drop_rival(self) -> None:
        rival, self._rival = self._rival, None
        if rival is not None:
            self._stop_race()
            rival.release()

    def _won(self, rival: Any) -> None:
        """Go on with the rival, which is READY."""
        self._rival = None
        self._stop()
        self.connection.release()
        self._begin(rival)

    def start_watch(self, watch: int, service: str) -> None:
        """Open a Watch on the present connection; an older one ends."""
        # One batch may stop and start: what opens is done first, and the stop would find the new one.
        self._end_watch()
        self._present_watch = (watch, self._open_watch(watch, service))

    def stop_watch(self, watch: int) -> None:
        """Cancel a Watch if it is the present one."""
        if self._is_present(watch):
            self._end_watch()

    def _is_present(self, watch: int) -> bool:
        return self._present_watch is not None and self._present_watch[0] == watch

    def _end_watch(self) -> None:
        watch, self._present_watch = self._present_watch, None
        if watch is not None and watch[1] is not None:
            watch[1].cancel()

    @abstractmethod
    def send_check(self, check: int, service: str, timeout: float) -> None:
        """Send a Check over the present connection that has `timeout` seconds."""

    @abstractmethod
    def send_ping(self, ping: int, timeout: float) -> None:
        """Call a method that nobody has registered over the present connection; it has `timeout` seconds."""


class BalancerHost(ABC):
    """Hosts one balancer. Subclasses say what a loop, a connection and a resolver are.

    Args:
        balancer: the core that decides.
        publisher: gives its snapshots their pickers.
    """

    def __init__(self, balancer: Balancer, publisher: Publisher) -> None:
        self._balancer = balancer
        self._publisher = publisher
        self._queue: deque[Event] = deque()
        self._is_scheduled = False
        self._timer_at: int | None = None
        self._watchers: dict[int, Any] = {}
        self._failures: dict[tuple[int, int, Code, bool], None] = {}
        self._refusals: dict[str, int] = {}

    # --- what a subclass has ---------------------------------------------------------------------------

    @abstractmethod
    def _soon(self, act: Callable[[], None]) -> None:
        """Have something done in the loop's next iteration."""

    @abstractmethod
    def _set_timer(self, at: int | None, now: int) -> None:
        """Have `_tick` called at `at`, in nanoseconds, and not at any time that was set before."""

    @abstractmethod
    def _published(self) -> None:
        """Publish the new snapshot."""

    @abstractmethod
    def _report(self, fact: Fact) -> None:
        """Pass a fact on to the listeners."""

    @abstractmethod
    def _resolve(self) -> None:
        """Ask the resolver to look again."""

    @abstractmethod
    def _watch(self, sub: int, endpoint: Endpoint) -> ConnectionWatcher:
        """Return what follows a new subchannel from now on."""

    @abstractmethod
    def _prepare_data(self, sub: int) -> None:
        """Have a connection for calls ready."""

    def _forget_data(self, sub: int) -> None:  # noqa: B027 - there may be none beside the control connection
        """Use the present connection for calls no more for `_prepare_data`."""

    @abstractmethod
    def _close_data(self, sub: int, generation: int) -> None:
        """Close a connection for calls."""

    @abstractmethod
    def _rescue(self, handle: Subchannel) -> None:
        """Send the calls elsewhere that are in flight on a hung backend and may be; `_rescued` takes how many."""

    @abstractmethod
    def _end_calls(self, handle: Subchannel, details: str) -> None:
        """End what is in flight on a retired connection, with UNAVAILABLE and this text."""

    def _rescued(self, sub: int, calls: int) -> None:
        if calls:
            self._post_from_call(CallsRescued(sub, calls))

    def _post_from_call(self, event: Event) -> None:
        """Take in an event, from wherever a call ends."""
        self.post(event)

    # --- events in ---------------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Take in an event; it is handled with all that wait when the loop comes round."""
        self._queue.append(event)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._soon(self._drain)

    def _note_failure(self, sub: int, generation: int, code: Code, is_refused: bool) -> bool:
        """Note a failed call; equal ones that wait count once. True where `_take_failures` is to be called soon."""
        is_first = not (self._failures or self._refusals)
        self._failures[sub, generation, code, is_refused] = None
        return is_first

    def _note_refusal(self, cap: str) -> bool:
        """Note a call that a cap has refused; those that wait are reported together. True as `_note_failure`."""
        is_first = not (self._failures or self._refusals)
        self._refusals[cap] = self._refusals.get(cap, 0) + 1
        return is_first

    def _take_noted(self) -> tuple[dict[tuple[int, int, Code, bool], None], dict[str, int]]:
        failures, self._failures = self._failures, {}
        refusals, self._refusals = self._refusals, {}
        return failures, refusals

    def _take_failures(self) -> None:
        failures, refusals = self._take_noted()
        for cap, calls in refusals.items():
            self.post(CallsRefused(cap, calls))
        for sub, generation, code, is_refused in failures:
            self.post(CallFailed(sub, generation, code, is_refused))

    def _tick(self) -> None:
        self._timer_at = None
        self.post(Tick())

    # --- effects out -------------------------------------------------------------------------------------

    @abstractmethod
    def _drain(self) -> None:
        """Handle all events that wait, unless it is over."""

    def _handle_all(self, now: int) -> None:
        """Handle all events that wait, and those that come at once of what is done for them."""
        closing: list[Effect] = []
        facts: list[Fact] = []
        try:
            while self._queue:
                for effect in self._balancer.handle(self._queue.popleft(), now):
                    if isinstance(effect, Report):
                        facts.append(effect.fact)
                    elif isinstance(effect, CLOSING):
                        closing.append(effect)
                    else:
                        self._perform(effect)
        finally:
            self._is_scheduled = False
        if self._publisher.publish(self._balancer.snapshot):
            self._published()
        for effect in closing:
            self._perform(effect)
        for fact in facts:
            self._report(fact)
        deadline = self._balancer.deadline
        if deadline != self._timer_at:
            self._timer_at = deadline
            self._set_timer(deadline, now)

    def _perform(self, effect: Effect) -> None:
        match effect:  # the most frequent ones first
            case SendCheck(sub, check, timeout):
                self._watchers[sub].send_check(check, self._publisher.published.service or "", timeout / SECOND)
            case StartWatch(sub, watch, service):
                self._watchers[sub].start_watch(watch, service)
            case PrepareData(sub):
                self._prepare_data(sub)
            case SendPing(sub, ping, timeout):
                self._watchers[sub].send_ping(ping, timeout / SECOND)
            case OpenSubchannel(sub, endpoint):
                self._watchers[sub] = self._watch(sub, endpoint)
            case CloseSubchannel(sub):
                self._forget_data(sub)
                self._watchers.pop(sub).disconnect()
            case CloseConnection(sub, generation):
                self._close_data(sub, generation)
            case Drain(handle):
                handle.load.retire(partial(self._drained, handle.id, handle.generation))
            case RescueCalls(handle):
                self._rescue(handle)
            case EndCalls(handle, details):
                self._end_calls(handle, details)
            case Probe(handle):
                handle.load.offer_probe(partial(self._post_from_call, ProbeEnded(handle.id, handle.generation)))
            case ResolveNow():
                self._resolve()
            case RefreshData(sub):
                self._forget_data(sub)
                self._prepare_data(sub)
            case Replace(sub):
                self._forget_data(sub)
                self._watchers[sub].replace()
            case Connect(sub):
                self._watchers[sub].connect()
            case Disconnect(sub):
                self._watchers[sub].disconnect()
            case RaceConnection(sub):
                self._watchers[sub].race_connection()
            case _:
                assert isinstance(effect, StopWatch)
                if effect.sub in self._watchers:  # who was told of the snapshot may have closed the channel
                    self._watchers[effect.sub].stop_watch(effect.watch)

    def _drained(self, sub: int, generation: int) -> None:
        self._post_from_call(Drained(sub, generation))
