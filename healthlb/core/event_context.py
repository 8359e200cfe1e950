"""The context of one event: what the parts of the balancer share while `Balancer.handle` runs."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from healthlb.core.messages import ConnectivityState, Effect
from healthlb.core.timers import Timers

# What a timer is for: a subchannel's health, its connections, its calls, its heartbeat, or the channel as a whole
# (under the number 0).
HealthTimer = Literal["doubt", "response", "renewal", "retry", "start", "status", "confirm"]
DialTimer = Literal["reconnect", "race"]
CallTimer = Literal["ejection", "probe"]
HeartbeatTimer = Literal["heartbeat", "check", "ping"]
ChannelTimer = Literal["resolve", "list", "entry", "outliers", "suspicion", "slow_start", "overflow"]
SubchannelTimer = HealthTimer | DialTimer | CallTimer | HeartbeatTimer | Literal["changes", "damping", "data"]
TimerKind = SubchannelTimer | ChannelTimer | Literal["drain", "keep"]
# The subchannel's number, the kind, and which one of its kind.
TimerKey = tuple[int, TimerKind, int]


class EventContext:
    """One run of `Balancer.handle`: when it is, what has been asked for, and what has changed.

    Attributes:
        now: nanoseconds on the monotonic clock.
        timers: all timers of the balancer.
        tally: how many subchannels are in each concluded state; absent ones are not counted.
        effects: what the driver is asked to do, in order.
        is_changed: whether there is something new to publish.
        is_recounted: whether the tally is another one although no subchannel has changed.
        is_reweighted: whether pickers must be rebuilt although their subchannels are the same.
        changed: ids of subchannels of which something is new, published or not; one may be there more than once.
        flaps: ids of subchannels that have ceased to be healthy, once for each time.
        late: ids of subchannels that became READY in a channel that had other READY ones.
    """

    __slots__ = (
        "changed", "effects", "flaps", "is_changed", "is_recounted", "is_reweighted", "late", "now", "tally", "timers",
    )  # fmt: skip

    def __init__(self, now: int, timers: Timers[TimerKey], tally: Counter[ConnectivityState] | None = None) -> None:
        self.now = now
        self.timers = timers
        self.tally = Counter() if tally is None else tally
        self.effects: list[Effect] = []
        self.is_changed = self.is_recounted = self.is_reweighted = False
        self.changed: list[int] = []
        self.flaps: list[int] = []
        self.late: list[int] = []
