"""Facts: what happened, for logs, metrics, the CLI, recorders and the simulator's trace.

The one rule: a fact is a noun and a plain value; `at` is in nanoseconds on the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.core.states import ConnectivityState


@dataclass(frozen=True, slots=True)
class StateChange:
    """The state of a subchannel, as pickers see it, has changed.

    Attributes:
        old: the state that was reported last.
        new: the present state; it may equal `old` if several changes are reported as one.
        reason: why the subchannel is in the new state.
        changes: how many changes this stands for; more than 1 if there were too many to report each.
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
    """The channel's arguments are probably wrong in a way that is known; each remedy is reported once for a channel.

    Attributes:
        reason: why the subchannel is in its state.
        remedy: what to do about it.
    """

    at: int
    sub: int
    address: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ResolutionFailure:
    """The resolver failed or gave no address; the last list that it gave stays in use.

    Attributes:
        error: the exception's type and text.
        list_age: how old that list is, in nanoseconds; None if there was none so far.
        failures: how many failures this stands for; more than 1 if there were too many to report each.
    """

    at: int
    error: str
    list_age: int | None = None
    failures: int = 1


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
    """A backend answered a ping but no heartbeat: all its threads are at work. It stays in rotation.

    Attributes:
        is_over: whether it answers heartbeats again.
    """

    at: int
    sub: int
    address: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Rescue:
    """Idempotent calls in flight on a backend that hangs were sent elsewhere.

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
    """An ejected subchannel is back: the call that probed it was answered, or too few others are left.

    Attributes:
        cause: which of these, in words.
    """

    at: int
    sub: int
    address: str
    cause: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """Damping keeps a subchannel out because it comes and goes too often (RFC 2439).

    Attributes:
        flaps: how often it has ceased to be healthy of late.
        penalty: the sum of its penalties now.
        duration: nanoseconds until it is let back in; each further flap prolongs this.
    """

    at: int
    sub: int
    address: str
    flaps: int
    penalty: float
    duration: int


@dataclass(frozen=True, slots=True)
class Release:
    """Damping keeps a subchannel out no longer: it was quiet for long enough, or too few others are left."""

    at: int
    sub: int
    address: str
    cause: str


@dataclass(frozen=True, slots=True)
class Panic:
    """Panic mode has begun or ended: too few subchannels are healthy, so calls go to all that are connected.

    Attributes:
        is_over: whether it has ended.
        healthy: how many subchannels are READY.
        total: how many there are, without absent ones.
        picks: how many calls were made while it lasted; 0 when it begins.
    """

    at: int
    is_over: bool
    healthy: int
    total: int
    picks: int


@dataclass(frozen=True, slots=True)
class LoadShedding:
    """Calls are refused, or no longer, since some subchannels hang and the others cannot do all of their calls.

    It is reported when this begins and ends, and when other subchannels hang; the share changes each second.

    Attributes:
        is_over: whether it has ended.
        hung: how many subchannels hang.
        total: how many subchannels the channel has.
        share: the part of the calls that is refused now, from 0 to 1; at most what those had that are out for hanging;
            0 where it has ended.
        calls: how many calls were refused so far; 0 when it begins.
    """

    at: int
    is_over: bool
    hung: int
    total: int
    share: float
    calls: int


@dataclass(frozen=True, slots=True)
class Overflow:
    """A cap of `Overload` has refused calls. The first is reported at once, later ones once a second.

    Attributes:
        cap: the option's name, for example `max_in_flight`.
        limit: the option's value.
        calls: how many calls were refused since the last report.
    """

    at: int
    cap: str
    limit: float
    calls: int


@dataclass(frozen=True, slots=True)
class StatusFlood:
    """A server sends health statuses faster than they are followed, so only the newest counts.

    Attributes:
        statuses: how many were passed over since the last report.
    """

    at: int
    sub: int
    address: str
    statuses: int


@dataclass(frozen=True, slots=True)
class TooManyAddresses:
    """The resolver gives more addresses than a channel uses.

    Attributes:
        given: how many.
        used: how many of these are used, the same ones as long as they are listed.
    """

    at: int
    given: int
    used: int


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
    | LoadShedding
    | Overflow
    | StatusFlood
    | TooManyAddresses
    | DroppedFacts
)
