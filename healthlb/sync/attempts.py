"""The blocking pick of the sync face."""

from __future__ import annotations

from typing import Any

from healthlb.control.attempts import Attempts, Outcome
from healthlb.control.pool import failure, too_late
from healthlb.core.load import Subchannel
from healthlb.sync.errors import CallError


def pick(attempts: Attempts) -> Subchannel:
    """Return a subchannel with the call counted in; block while there is none but may be.

    Raises:
        CallError: UNAVAILABLE, DEADLINE_EXCEEDED, or CANCELLED where the channel was closed.
        ChannelClosed: the channel was closed before.
    """
    sub = attempts.try_pick()
    if sub is None:
        attempts.method.pool.start()
        sub = _wait(attempts)
        attempts.waited()
    return sub


def _wait(attempts: Attempts) -> Subchannel:
    board = attempts.method.pool.board
    while True:
        snapshot = board.snapshot
        sub = attempts.try_pick()
        if sub is not None:
            return sub
        fail = failure(snapshot, wait_for_ready=attempts.wait_for_ready)
        if fail is None and not board.wait(snapshot.generation, attempts.deadline):
            fail = too_late(snapshot)
        if fail is not None:
            raise CallError(fail, attempts.history)


def outcome_of(error: Any) -> Outcome:
    """Return what an error of a plain grpcio call says."""
    return Outcome(error.code(), error.details() or "", bool(error.initial_metadata()))
