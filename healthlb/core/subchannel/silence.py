"""Which answers end a silence: only those to the kind of question that had gone unanswered.

Theory: suppose calls go unanswered, while pings are answered all the time. The next answered ping proves nothing about
calls: a proxy may answer pings for a backend that hangs, and a server whose calls wait for its database still answers
Checks. So an answer counts only if questions of the same kind had gone unanswered before.

The one rule: only what came over the network is an answer. A status that the client made up, as for a lost connection,
is none.
"""

from __future__ import annotations

from healthlb.core.messages import SECOND, CheckEnded, Code, PingEnded

NO_HEARTBEAT = "no heartbeat"
# An answer that has taken so long comes out of a silence, as late calls speak of one after so long.
_SILENT_FOR = SECOND // 2
# What grpcio says where a call has not reached the server or was ended on this side.
_NO_ANSWER = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED)


def is_answer(event: CheckEnded | PingEnded) -> bool:
    """Whether the server has said how a Check or a ping ended."""
    return not (event.code in _NO_ANSWER or (isinstance(event, CheckEnded) and event.is_unsent))


class Silence:
    """Whether one kind of question goes unanswered."""

    __slots__ = ("_is_on",)

    def __init__(self) -> None:
        self._is_on = False

    def begin(self) -> None:
        """Take in that a question of this kind was not answered in time."""
        self._is_on = True

    def answered(self, took: int) -> bool:
        """Take in that a question was answered after `took` (ns); True where that ends a silence."""
        was_on, self._is_on = self._is_on, False
        return was_on or took >= _SILENT_FOR


class Trust:
    """Whether the word of a Watch is enough for a subchannel that was found silent.

    It is, the first time: a server that answers a Watch again answers calls again. Where that was wrong, and nothing
    else was answered meanwhile, it is not, until a Check or a ping is answered: else one whose Watch alone works, as
    behind a proxy that answers it, would be in and out once a second.

    Attributes:
        is_lost: whether more than a Watch must be answered.
    """

    __slots__ = ("_is_tried", "_silent_at", "is_lost")

    def __init__(self) -> None:
        self.is_lost = self._is_tried = False
        self._silent_at = 0

    def fell_silent(self, last_success_at: int, now: int) -> None:
        """Nothing is answered at `now`; the last call was at `last_success_at` (ns)."""
        self.is_lost = self._is_tried and last_success_at <= self._silent_at
        self._is_tried, self._silent_at = True, now

    def answered(self) -> bool:
        """Take in that a Check or a ping was answered; True where that restores trust."""
        was_lost, self.is_lost, self._is_tried = self.is_lost, False, False
        return was_lost
