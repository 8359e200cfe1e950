"""The blocking pick of the sync face, and what its errors say."""

from __future__ import annotations

import time
from typing import Any

import grpc

from healthlb.control.attempts import Attempts, Outcome
from healthlb.control.pool import PoolBase
from healthlb.core.failover import Start
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.core.waiting import Wait, begin_wait
from healthlb.sync.errors import CallError


def wait_for_pick(attempts: Attempts, start: Start) -> Subchannel:
    """Return a subchannel with the call counted in; block while there is none but may be.

    Raises:
        CallError: UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, or CANCELLED where the channel was closed.
        ChannelClosed: the channel was closed before.
    """
    pool = attempts.method.pool
    pool.start()
    wait: Wait | Fail | None = None
    try:
        while True:
            snapshot = pool.board.snapshot
            sub = attempts.try_pick(start)
            if sub is not None:
                return sub
            fail = attempts.failure(snapshot)
            if fail is None:
                wait = wait or begin_wait(pool, time.monotonic_ns(), attempts.deadline_at, snapshot)
                fail = wait if isinstance(wait, Fail) else _wait_on(wait, pool, snapshot)
            if fail is not None:
                raise CallError(fail, attempts.history)
    finally:
        if isinstance(wait, Wait):
            wait.end()


def _wait_on(wait: Wait, pool: PoolBase, snapshot: Snapshot) -> Fail | None:
    """Block until there is another snapshot; return how the call ends where that takes too long."""
    ends_at = None if wait.ends_at is None else wait.ends_at / SECOND
    return None if pool.board.wait(snapshot.generation, ends_at) else wait.ran_out(snapshot)


def pause(pool: PoolBase, until: int) -> None:
    """Block until `until` (monotonic nanoseconds) or until the channel is closed."""
    while not pool.is_closed and pool.board.wait(pool.board.snapshot.generation, until / SECOND):
        continue


def outcome_of(error: Any) -> Outcome:
    """Return what the error of a plain grpcio call says."""
    trailers = error.trailing_metadata() or ()
    code = error.code() or grpc.StatusCode.UNKNOWN
    # Of a stream that ended without, the event of the initial metadata may come behind that of the status, on the
    # one thread that runs our callback: to ask for it would be to wait for ever (grpcio 1.85.1).
    has_metadata = bool(error._state.initial_metadata or trailers)
    return Outcome(code, error.details() or "", has_metadata, trailers)
