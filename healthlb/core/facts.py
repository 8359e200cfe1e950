"""Facts: what happened, for logs, metrics, the CLI, recorders and the simulator's trace.

The one rule: a fact is a noun and a plain value; `at` is in nanoseconds on the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.core.states import ConnectivityState


@dataclass(frozen=True, slots=True)
class StateChange:
    """A subchannel's concluded state changed.

    Attributes:
        old: the state that was told of last.
        new: the present one; the same as `old` where it has left that and is back.
        reason: why it is in it.
        changes: how many changes this stands for; more than 1 where there were too many to tell of each.
    """

    at: int
    sub: int
    address: str
    old: ConnectivityState
    new: ConnectivityState
    reason: str
    changes: int = 1


@dataclass(frozen=True, slots=True)
class ChannelStateChange:
    """The aggregated state of the channel changed."""

    at: int
    old: ConnectivityState
    new: ConnectivityState


@dataclass(frozen=True, slots=True)
class Addition:
    """The resolver added an address."""

    at: int
    sub: int
    address: str


@dataclass(frozen=True, slots=True)
class Removal:
    """The resolver dropped an address; its calls in flight go on to their own ends."""

    at: int
    sub: int
    address: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What seems to be a mistake in the channel's arguments, and what to do about it; each remedy once for a channel.

    Attributes:
        reason: why the subchannel is in its state.
        remedy: what to do, in words.
    """

    at: int
    sub: int
    address: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ResolutionFailure:
    """The resolver failed or answered nothing; the last good list is kept.

    Attributes:
        error: the exception's type and text.
        list_age: nanoseconds since the list was heard that is kept, None where there was none so far.
    """

    at: int
    error: str
    list_age: int | None = None


@dataclass(frozen=True, slots=True)
class HealthCheckingUnavailable:
    """The server has no health service; `HealthCheck.on_unimplemented` says what follows (gRFC A17)."""

    at: int
    sub: int
    address: str
    details: str


@dataclass(frozen=True, slots=True)
class WatchUnavailable:
    """The server has no `Health/Watch`; its `Health/Check` is asked at the heartbeat's pace instead."""

    at: int
    sub: int
    address: str
    details: str


@dataclass(frozen=True, slots=True)
class HeartbeatLoss:
    """No answer to a heartbeat.

    Attributes:
        is_excluded: False where the cap on exclusions kept the subchannel in rotation.
    """

    at: int
    sub: int
    address: str
    is_excluded: bool


@dataclass(frozen=True, slots=True)
class BusyBackend:
    """A backend has answered a ping in the place of a heartbeat: all its threads are at work, and it stays in rotation.

    Attributes:
        is_over: whether it answers again.
    """

    at: int
    sub: int
    address: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Rescue:
    """Idempotent calls that were in flight on a backend that was found hung have been sent elsewhere.

    Attributes:
        calls: how many.
    """

    at: int
    sub: int
    address: str
    calls: int


@dataclass(frozen=True, slots=True)
class Ejection:
    """Passive health has taken a subchannel out, or would have (gRFC A50).

    Attributes:
        cause: what its calls did.
        duration: nanoseconds until it is tried again with one call.
        times: how many times it was ejected of late, this one included.
        is_enforced: False where the cap or an enforcement percentage kept it in rotation.
    """

    at: int
    sub: int
    address: str
    cause: str
    duration: int
    times: int
    is_enforced: bool


@dataclass(frozen=True, slots=True)
class Return:
    """An ejected subchannel is back: its probe was answered, or too few others are left."""

    at: int
    sub: int
    address: str
    cause: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """Damping holds a subchannel out that comes and goes (RFC 2439).

    Attributes:
        flaps: how often its good health has ended of late.
        penalty: what they have come to.
        duration: nanoseconds until it is back; each further flap makes them more.
    """

    at: int
    sub: int
    address: str
    flaps: int
    penalty: float
    duration: int


@dataclass(frozen=True, slots=True)
class Release:
    """Damping holds a subchannel out no longer: it was quiet, or too few others are left."""

    at: int
    sub: int
    address: str
    cause: str


@dataclass(frozen=True, slots=True)
class Panic:
    """So few subchannels are healthy that picks go to all that are connected; or no longer.

    Attributes:
        is_over: whether this is the end.
        healthy: how many are READY.
        total: of how many.
        picks: how many calls were picked meanwhile; 0 at the beginning.
    """

    at: int
    is_over: bool
    healthy: int
    total: int
    picks: int


@dataclass(frozen=True, slots=True)
class Overflow:
    """A cap has kept calls out (`Overload`). The first is told of at once, those after it once a second.

    Attributes:
        cap: the option's name, as `max_in_flight`.
        limit: its value.
        calls: how many were refused since it was last told of.
    """

    at: int
    cap: str
    limit: float
    calls: int


@dataclass(frozen=True, slots=True)
class StatusFlood:
    """A server sends statuses faster than they are followed, so only the newest counts.

    Attributes:
        statuses: how many were passed over since this was last told of.
    """

    at: int
    sub: int
    address: str
    statuses: int


@dataclass(frozen=True, slots=True)
class DroppedFacts:
    """Listeners were too slow: the oldest facts that waited for them were dropped (sync face).

    Attributes:
        at: of the next fact that is told.
        facts: how many.
    """

    at: int
    facts: int


Fact = (
    StateChange
    | ChannelStateChange
    | Addition
    | Removal
    | Advice
    | ResolutionFailure
    | HealthCheckingUnavailable
    | WatchUnavailable
    | HeartbeatLoss
    | BusyBackend
    | Rescue
    | Ejection
    | Return
    | Suppression
    | Release
    | Panic
    | Overflow
    | StatusFlood
    | DroppedFacts
)
