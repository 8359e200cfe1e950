"""The attempts of one call: picking, and what a failed one means. The same in both faces.

The one rule: an attempt is made again only where it certainly never left (gRFC A6, "never leaves the
client"), whatever the method is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.control.evidence import names_refusal
from healthlb.control.grpc_transport import to_code
from healthlb.control.pool import PoolBase
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code
from healthlb.core.pickers import ANY_CALL, CallInfo
from healthlb.errors import ChannelClosed

_TELLING = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt of a call.

    Attributes:
        address: where it went.
        code: how it ended.
        details: the text that came with it.
        seconds: how long it took.
    """

    address: str
    code: grpc.StatusCode
    details: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt failed.

    Attributes:
        code: its status.
        details: the status's text.
        has_metadata: whether initial metadata came, and so something answered.
    """

    code: grpc.StatusCode
    details: str
    has_metadata: bool


class Method:
    """One method of one channel: how it is called on whichever subchannel was picked.

    Args:
        pool: the channel's subchannels.
        arity: the name of grpcio's factory, `unary_unary` and so on.
        name: the full method name.
        arguments: what the factory takes after it.
    """

    def __init__(self, pool: PoolBase, arity: str, name: str, arguments: dict[str, Any]) -> None:
        self.pool = pool
        self.name = name
        self.needs_call = getattr(pool.settings.factory, "needs_call", True)
        self.has_request_stream = arity.startswith("stream")
        self._arity = arity
        self._arguments = arguments
        self._opened: dict[Subchannel, Any] = {}

    def on(self, sub: Subchannel) -> Any:
        """Return grpcio's multi-callable on this subchannel.

        Raises:
            ChannelClosed: its channel is closed by now.
        """
        return self._opened.get(sub) or self._open(sub)

    def _open(self, sub: Subchannel) -> Any:
        channel = self.pool.channels.channel(sub)
        if channel is None:
            raise ChannelClosed("Cannot invoke RPC on closed channel!")
        opened = getattr(channel, self._arity)(self.name, **self._arguments)
        ready = set(self.pool.board.snapshot.ready)
        self._opened = {**{old: kept for old, kept in self._opened.items() if old in ready}, sub: opened}
        return opened


class Attempts:
    """One call's way through the subchannels.

    Args:
        method: what is called.
        timeout: seconds for all attempts together, None for no deadline.
        metadata: the caller's.
        wait_for_ready: whether it waits even where all subchannels have failed.

    Attributes:
        timeout: what the next attempt is given.
        deadline: in seconds on the monotonic clock, None for none.
        history: the attempts that failed.
    """

    __slots__ = (
        "_generation",
        "_metadata",
        "_started_at",
        "_tried",
        "deadline",
        "history",
        "method",
        "timeout",
        "wait_for_ready",
    )

    def __init__(self, method: Method, timeout: float | None, metadata: Any, wait_for_ready: bool | None) -> None:
        self.method = method
        self.timeout = timeout
        self.wait_for_ready = bool(wait_for_ready)
        self._started_at = time.monotonic()
        self.deadline = None if timeout is None else self._started_at + timeout
        self.history: tuple[Attempt, ...] = ()
        self._metadata = metadata
        self._tried: frozenset[int] = frozenset()
        self._generation = -1

    @property
    def call(self) -> CallInfo:
        """What the picker is told, as little as it asks for."""
        if not self._tried and not self.method.needs_call:
            return ANY_CALL
        return CallInfo(self.method.name, tuple(self._metadata or ()), len(self.history) + 1, self._tried)

    @property
    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None for none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def try_pick(self) -> Subchannel | None:
        """Return a subchannel with the call counted in, or None if it must wait or fail."""
        pool = self.method.pool
        while True:
            sub = pool.try_pick(self.call)
            if sub is None:
                return None
            if sub.id in self._tried and pool.board.snapshot.generation == self._generation:
                # Only the refused one is left, and the core does not know yet that it is down.
                sub.load.abandon()
                return None
            if not self.method.has_request_stream or pool.channels.is_ready(sub):
                return sub
            # A stream of requests is not read twice, so what is down is not tried with it.
            sub.load.abandon()
            pool.call_failed(sub, Code.UNAVAILABLE, is_refused=True)
            self._try_again(sub)

    def waited(self) -> None:
        """Take the time that went by from the timeout of the next attempt."""
        self._started_at = time.monotonic()
        if self.deadline is not None:
            self.timeout = max(0.0, self.deadline - self._started_at)

    def failed(self, sub: Subchannel, outcome: Outcome) -> bool:
        """Take in a failed attempt and count it out; True where the call is over with it."""
        if outcome.code is grpc.StatusCode.CANCELLED:
            sub.load.abandon()
        else:
            sub.load.fail()
        seconds = time.monotonic() - self._started_at
        self.history += (Attempt(sub.address, outcome.code, outcome.details, seconds),)
        is_refused = self._is_refused(sub, outcome)
        code = to_code(outcome.code)
        if code in _TELLING:
            self.method.pool.call_failed(sub, code, is_refused=is_refused)
        if is_refused and not self.method.has_request_stream:
            self._try_again(sub)
            return False
        return True

    def lost(self, sub: Subchannel) -> bool:
        """Count out an attempt that made no call; True where its subchannel had closed meanwhile."""
        sub.load.abandon()
        pool = self.method.pool
        if pool.is_closed or pool.channels.channel(sub) is not None:
            return False
        self._try_again(sub)
        return True

    def _try_again(self, sub: Subchannel) -> None:
        self._tried |= {sub.id}
        self._generation = self.method.pool.board.snapshot.generation
        self.waited()

    def _is_refused(self, sub: Subchannel, outcome: Outcome) -> bool:
        if outcome.code is not grpc.StatusCode.UNAVAILABLE or outcome.has_metadata:
            return False
        return names_refusal(outcome.details, sub.address) and not self.method.pool.channels.is_ready(sub)
