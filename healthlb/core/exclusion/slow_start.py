"""Slow start: the weight of a subchannel that comes in late grows over a while (Envoy's slow start).

Theory: a backend that has just started has cold caches and no connections of its own; its full share at once may
overload it. `t` seconds after it became READY, its weight is its endpoint's times max(min_weight, (t / window)^(1 /
aggression)). The weight grows in steps, so that calls never read a clock: 20 steps in a window, at most 10 in a
second. Each step builds a new picker.

The one rule: a subchannel is late if it comes in while the channel serves already: after TRANSIENT_FAILURE, or added
beside READY ones. One that was there from the start, or has only reconnected, is not.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.config import SlowStart
from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.messages import SECOND, ConnectivityState
from healthlb.core.subchannel.machine import SubchannelMachine

_STEPS = 20
_SHORTEST_STEP = SECOND // 10
_TIMER: TimerKey = (0, "slow_start", 0)

Machines = Mapping[int, SubchannelMachine]


def share(policy: SlowStart, age: int) -> float:
    """Return the share of its weight, up to 1.0, that a subchannel has after `age` nanoseconds of being READY."""
    if age >= policy.window_ns:
        return 1.0
    grown = (age / policy.window_ns) ** (1 / policy.aggression)
    return float(max(policy.min_weight, grown))


class SlowStartWeights:
    """The weights of the subchannels that came in late.

    Args:
        policy: how weights grow; None for no slow start.
    """

    def __init__(self, policy: SlowStart | None) -> None:
        self._policy = policy
        self._since: dict[int, int] = {}

    def settle(self, machines: Machines, context: EventContext) -> None:
        """Begin, after an event, with the subchannels that have come in late."""
        if self._policy is None:
            return
        for sub in context.late:
            self._since[sub] = context.now
            machines[sub].weigh(share(self._policy, 0), context)
            if not context.timers.is_set(_TIMER):
                self._arm(self._policy, context)

    def due(self, machines: Machines, context: EventContext) -> None:
        """Take the next step of all weights that grow."""
        assert self._policy is not None
        for sub, since in list(self._since.items()):
            is_out = machines[sub].concluded_state is ConnectivityState.TRANSIENT_FAILURE
            now = 1.0 if is_out else share(self._policy, context.now - since)
            machines[sub].weigh(now, context)
            if now == 1.0:
                del self._since[sub]
        if self._since:
            self._arm(self._policy, context)

    def forget(self, sub: int, context: EventContext) -> None:
        """Forget a subchannel that was removed."""
        if self._since.pop(sub, None) is not None and not self._since:
            context.timers.cancel(_TIMER)

    def _arm(self, policy: SlowStart, context: EventContext) -> None:
        context.timers.set(_TIMER, context.now + max(policy.window_ns // _STEPS, _SHORTEST_STEP))
