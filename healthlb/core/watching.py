"""The health of one subchannel's present connection: runs the table of `healthlb.core.health`.

The one rule: the table says where to go; what there is to be done about it is here, and whether calls flow is not.
"""

from __future__ import annotations

import random

from healthlb.config import HealthCheck
from healthlb.core import health
from healthlb.core.health import Action, Phase, Signal
from healthlb.core.messages import Code, ServingStatus, StartWatch, StopWatch
from healthlb.core.restarts import Restarts
from healthlb.core.states import serving_name
from healthlb.core.thresholds import Row
from healthlb.core.turn import Turn


class Watching:
    """Follows the Watches of one subchannel.

    Args:
        sub: the subchannel's number.
        policy: how its health is followed.
        service: the service name asked for, None for no health checking.
        rng: the stream for jitter.

    Attributes:
        phase: where the health of the present connection stands.
        reason: why, in words.
        serving: the last status on this connection, None where none was heard.
    """

    def __init__(self, sub: int, policy: HealthCheck, service: str | None, rng: random.Random) -> None:
        self.phase = Phase.DISCONNECTED
        self.reason = ""
        self.serving: int | None = None
        self._sub = sub
        self._policy = policy
        self._service = service
        self._restarts = Restarts(policy, rng)
        self._row = Row(policy.rise, policy.fall)
        self._watch = 0
        self._started_at = 0
        self._has_answered = False

    @property
    def is_healthy(self) -> bool:
        """Whether health has nothing against calls."""
        return self.phase in health.HEALTHY

    @property
    def is_unhealthy(self) -> bool:
        """Whether health speaks against calls; while nothing is known it does neither."""
        return self.phase in health.UNHEALTHY

    def connected(self, turn: Turn) -> None:
        """The connection is READY: begin."""
        self.reason = "connected" if self._service is None else "waiting for the first health status"
        self._restarts.connected()
        self._signal(Signal.CONNECTED if self._service is not None else Signal.CONNECTED_UNCHECKED, turn)

    def disconnected(self, turn: Turn) -> None:
        """The connection is gone, and what was said on it (gRFC A17)."""
        self._signal(Signal.LOST, turn)
        self._row.forget()
        self.serving = None
        for kind in ("response", "retry"):
            turn.timers.cancel((self._sub, kind, 0))

    def is_present(self, watch: int) -> bool:
        """Whether this is the number of the Watch that is open."""
        return watch == self._watch and self.phase in health.STREAMING

    def reported(self, status: int, turn: Turn) -> None:
        """A status arrived."""
        turn.timers.cancel((self._sub, "response", 0))
        if not self._has_answered:
            self._has_answered = True
            self._restarts.answered()
        self.serving = status
        self._said(status, turn)

    def confirm_due(self, turn: Turn) -> None:
        """The status still stands, which is as good as said again."""
        assert self.serving is not None
        self._said(self.serving, turn)

    def _said(self, status: int, turn: Turn) -> None:
        self._signal(self._row.said(status == ServingStatus.SERVING, self.is_healthy), turn)
        self.reason = serving_name(status)
        if self.phase in health.PENDING:
            self.reason += f", {self._row.progress} in a row"
            turn.timers.set((self._sub, "confirm", 0), turn.now + self._policy.confirm_interval_ns)

    def closed(self, code: Code, details: str, turn: Turn) -> None:
        """The Watch ended."""
        turn.timers.cancel((self._sub, "response", 0))
        self._row.interrupt()
        if code is Code.UNIMPLEMENTED:
            is_healthy = self._policy.on_unimplemented == "healthy"
            self._signal(Signal.UNIMPLEMENTED if is_healthy else Signal.UNSUPPORTED, turn)
            self.serving = None
            self.reason = "no health service"
        else:
            self._signal(Signal.ENDED, turn)
            text = f"health watch ended with {code.name}"
            self.reason = f"{text}: {details}" if details else text

    def response_due(self, turn: Turn) -> None:
        """The Watch has said nothing for too long."""
        self._signal(Signal.NO_RESPONSE, turn)
        self.reason = "no health response"

    def retry_due(self, turn: Turn) -> None:
        """Open the next Watch."""
        self._signal(Signal.DUE, turn)

    def _signal(self, signal: Signal, turn: Turn) -> None:
        entry = health.TABLE.get((self.phase, signal))
        if entry is None:
            return
        self.phase, action = entry
        if self.phase not in health.PENDING:
            turn.timers.cancel((self._sub, "confirm", 0))
        if action in (Action.STOP_WATCH, Action.STOP_AND_RETRY_LATER):
            turn.effects.append(StopWatch(self._sub, self._watch))
        if action in (Action.RETRY_LATER, Action.STOP_AND_RETRY_LATER):
            lasted = turn.now - self._started_at if self._has_answered else None
            turn.timers.set((self._sub, "retry", 0), turn.now + self._restarts.delay(lasted))
        elif action is Action.START_WATCH:
            self._start(turn)

    def _start(self, turn: Turn) -> None:
        assert self._service is not None
        self._watch += 1
        self._started_at = turn.now
        self._has_answered = False
        turn.effects.append(StartWatch(self._sub, self._watch, self._service))
        turn.timers.set((self._sub, "response", 0), turn.now + self._policy.first_response_timeout_ns)
