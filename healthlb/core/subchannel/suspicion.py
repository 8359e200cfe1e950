"""Finds subchannels that answer nothing although calls are on them and other subchannels answer, before any deadline.

Calls do no extra work for this. Their counters are read ten times a second while there are calls, and at least once a
second. How long a silence is usual is learned from those that ended with an answer. A suspicion costs one Check; what
an unanswered Check means is decided in `heartbeat`.

The one rule: a subchannel is compared with the others. If more than half of those with calls are silent, then the
fleet is slow, the network is gone or the client itself stands still, and nobody is suspected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.load import Load
from healthlb.core.messages import SECOND, ConnectivityState
from healthlb.core.subchannel.machine import SubchannelMachine
from healthlb.core.subchannel.round_trip import RoundTrip

_LOOK = SECOND // 10
_IDLE_LOOK = SECOND
_PER_SUBCHANNEL = SECOND // 5_000  # A look takes less than a thousandth of this for each of them.
_FLOOR = 2 * _LOOK
_MOST = 10 * SECOND
_MOST_PATIENCE = 64
_TIMER: TimerKey = (0, "suspicion", 0)


@dataclass(slots=True)
class _LastLook:
    """One connection for calls, as it was at the last look.

    Attributes:
        load: its counters.
        answers: how many calls it had answered.
        since: since when calls are on it of which none was answered, None where there is no such call.
        patience: how many times the usual silence it is granted; doubled by each suspicion until it answers, so that a
            stream without messages costs few Checks.
    """

    load: Load
    answers: int
    since: int | None = None
    patience: int = 1


class Suspicion:
    """Reads the counters of a channel's connections for calls.

    Args:
        is_on: whether to look at all.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._silences: dict[int, _LastLook] = {}
        self._usual = RoundTrip(_MOST, _FLOOR)
        self._every = _LOOK
        self._looked_at = 0
        self._answered_at = -_MOST

    def start(self, context: EventContext) -> None:
        """Begin to look: the channel has subchannels."""
        if self._is_on and not context.timers.is_set(_TIMER):
            self._looked_at = context.now
            context.timers.set(_TIMER, context.now + self._every)

    def stop(self, context: EventContext) -> None:
        """Look no more: the channel has no subchannels."""
        context.timers.cancel(_TIMER)

    def forget(self, sub: int) -> None:
        """A subchannel was removed."""
        self._silences.pop(sub, None)

    def due(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> list[int]:
        """Look at the counters, and return the ids of the subchannels that are suspected."""
        # A look that comes late tells of the client's own standstill: the silence begins anew.
        is_late = context.now - self._looked_at > self._every + _LOOK
        self._looked_at = context.now
        active = silent = 0
        suspects: list[tuple[int, _LastLook]] = []
        silences = self._silences
        for sub, machine in machines.items():
            if (handle := machine.handle) is None:
                self.forget(sub)
                continue
            load = handle.load
            # Of the late ones, those that were superseded are no failures; the others are, but brought no answer.
            answers = load.successes + load.failures - load.lates + load.superseded
            silence = silences.get(sub)
            if silence is None or silence.load is not load:
                silence = silences[sub] = _LastLook(load, answers)
            if silence.since is None and load.in_flight == 0 and answers == silence.answers:
                continue
            active += self._look(silence, answers, context.now, is_late=is_late)
            for_long = 0 if silence.since is None else (context.now - silence.since) // self._usual.timeout
            silent += for_long >= 1
            if for_long >= silence.patience and machine.raw_state is ConnectivityState.READY:
                suspects.append((sub, silence))
        self._again(active, len(machines), context)
        if not suspects or 2 * silent > active or context.now - self._answered_at >= self._usual.timeout:
            return []
        for _, silence in suspects:
            silence.patience = min(2 * silence.patience, _MOST_PATIENCE)
        return [sub for sub, _ in suspects]

    def _look(self, silence: _LastLook, answers: int, now: int, *, is_late: bool) -> bool:
        """Compare with the last look; return whether there were calls."""
        has_answered = answers != silence.answers
        if has_answered:
            if silence.since is not None and not is_late:
                # One silence, however long, teaches little: a needless suspicion costs a Check, a late one costs calls.
                self._usual.answered(min(now - silence.since, self._usual.timeout))
            silence.answers = answers
            self._answered_at = now
        has_calls = silence.load.in_flight > 0
        if has_answered or is_late or not has_calls:
            silence.since, silence.patience = None, 1
        if has_calls and silence.since is None:
            silence.since = now
        return has_answered or has_calls

    def _again(self, active: int, count: int, context: EventContext) -> None:
        self._every = max(_LOOK, count * _PER_SUBCHANNEL) if active else min(2 * self._every, _IDLE_LOOK)
        context.timers.set(_TIMER, context.now + self._every)
