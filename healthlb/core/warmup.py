"""Slow start: the weight of who comes in late grows over a while (Envoy's slow start).

Theory: a backend that has just begun has cold caches and unmade connections, and its full share at once may fell it.
`t` seconds after it became READY its weight is its own times max(min_weight, (t / window)^(1 / aggression)). It is set
in steps, so that a call never looks at a clock: 20 to a window, at most 10 a second, and each is a new picker.

The one rule: only who enters a channel that serves already is late. That is who was in TRANSIENT_FAILURE, or was added
to a channel with READY subchannels; not who was there from the start, and not who has merely reconnected.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.config import SlowStart
from healthlb.core.messages import SECOND, ConnectivityState
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn

_STEPS = 20
_SHORTEST_STEP = SECOND // 10
_TIMER = (0, "warmup", 0)

Machines = Mapping[int, SubchannelMachine]


def share(policy: SlowStart, age: int) -> float:
    """Return the part of its weight that a subchannel has which has been READY for `age` nanoseconds."""
    if age >= policy.window_ns:
        return 1.0
    grown = (age / policy.window_ns) ** (1 / policy.aggression)
    return float(max(policy.min_weight, grown))


class WarmUp:
    """The weights of those that have come late.

    Args:
        policy: None for no slow start.
    """

    def __init__(self, policy: SlowStart | None) -> None:
        self._policy = policy
        self._since: dict[int, int] = {}

    def settle(self, machines: Machines, turn: Turn) -> None:
        """After every event: begin with those that have come late."""
        if self._policy is None:
            return
        for sub in turn.late:
            self._since[sub] = turn.now
            machines[sub].weigh(share(self._policy, 0), turn)
            if not turn.timers.is_set(_TIMER):
                self._arm(self._policy, turn)

    def due(self, machines: Machines, turn: Turn) -> None:
        """It is time for a step."""
        assert self._policy is not None
        for sub, since in list(self._since.items()):
            is_out = machines[sub].concluded_state is ConnectivityState.TRANSIENT_FAILURE
            now = 1.0 if is_out else share(self._policy, turn.now - since)
            machines[sub].weigh(now, turn)
            if now == 1.0:
                del self._since[sub]
        if self._since:
            self._arm(self._policy, turn)

    def forget(self, sub: int, turn: Turn) -> None:
        """The subchannel was removed."""
        if self._since.pop(sub, None) is not None and not self._since:
            turn.timers.cancel(_TIMER)

    def _arm(self, policy: SlowStart, turn: Turn) -> None:
        turn.timers.set(_TIMER, turn.now + max(policy.window_ns // _STEPS, _SHORTEST_STEP))
