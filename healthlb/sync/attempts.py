"""The attempts of one call: picking, waiting, and what a failed one means.

The one rule: an attempt is made again only where it certainly never left (gRFC A6, "never leaves the
client"), whatever the method is.
"""

from __future__ import annotations

import time
from typing import Any

import grpc

from healthlb.control.evidence import is_sync_channel_ready, names_refusal
from healthlb.control.grpc_transport import to_code
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code
from healthlb.core.pickers import ANY_CALL, CallInfo
from healthlb.errors import ChannelClosed
from healthlb.sync.errors import Attempt
from healthlb.sync.pool import Pool

_TELLING = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)


class Method:
    """One method of one channel: how it is called on whichever subchannel was picked.

    Args:
        pool: the channel's subchannels.
        arity: the name of grpcio's factory, `unary_unary` and so on.
        name: the full method name.
        arguments: what the factory takes after it.
    """

    def __init__(self, pool: Pool, arity: str, name: str, arguments: dict[str, Any]) -> None:
        self.pool = pool
        self.name = name
        self.needs_call = getattr(pool.settings.factory, "needs_call", True)
        self._arity = arity
        self._arguments = arguments
        self.has_request_stream = arity.startswith("stream")
        self._opened: dict[Subchannel, Any] = {}

    def on(self, sub: Subchannel) -> Any:
        """Return grpcio's multi-callable on this subchannel.

        Raises:
            ChannelClosed: its channel is closed by now.
        """
        return self._opened.get(sub) or self._open(sub)

    def _open(self, sub: Subchannel) -> Any:
        channel = self.pool.data.channel(sub)
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
    """

    __slots__ = ("_generation", "_metadata", "_tried", "deadline", "history", "method", "started_at", "timeout", "wait_for_ready")

    def __init__(self, method: Method, timeout: float | None, metadata: Any, wait_for_ready: bool | None) -> None:
        self.method = method
        self.timeout = timeout
        self.wait_for_ready = bool(wait_for_ready)
        self.started_at = time.monotonic()
        self.deadline = None if timeout is None else self.started_at + timeout
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
            if not self.method.has_request_stream or self._is_ready(sub):
                return sub
            # A stream of requests is not read twice, so what is down is not tried with it.
            sub.load.abandon()
            pool.call_failed(sub, Code.UNAVAILABLE, is_refused=True)
            self._try_again(sub)

    def pick(self) -> Subchannel:
        """Return a subchannel with the call counted in; block while there is none but may be.

        Raises:
            CallError: UNAVAILABLE, DEADLINE_EXCEEDED, or CANCELLED where the channel was closed.
            ChannelClosed: the channel was closed before.
        """
        pool = self.method.pool
        sub = self.try_pick()
        if sub is not None:
            return sub
        pool.start()
        while True:
            snapshot = pool.board.snapshot
            sub = self.try_pick()
            if sub is None:
                error = pool.failure(snapshot, self)
                if error is not None:
                    raise error
                if pool.board.wait(snapshot.generation, self.deadline):
                    continue
                raise pool.too_late(self)
            self.tick()
            return sub

    def tick(self) -> None:
        """Take the time that went by from the timeout of the next attempt."""
        self.started_at = time.monotonic()
        if self.deadline is not None:
            self.timeout = max(0.0, self.deadline - self.started_at)

    def failed(self, sub: Subchannel, error: Any) -> bool:
        """Take in a failed attempt; True where the call is over with it."""
        code = error.code()
        if code is grpc.StatusCode.CANCELLED:
            sub.load.abandon()
        else:
            sub.load.fail()
        seconds = time.monotonic() - self.started_at
        self.history += (Attempt(sub.address, code, error.details() or "", seconds),)
        is_refused = code is grpc.StatusCode.UNAVAILABLE and self._is_refused(sub, error)
        number = to_code(code)
        if number in _TELLING:
            self.method.pool.call_failed(sub, number, is_refused=is_refused)
        if is_refused and not self.method.has_request_stream:
            self._try_again(sub)
            return False
        return True

    def lost(self, sub: Subchannel) -> bool:
        """Take in that no call was made; True where that is because the subchannel closed meanwhile."""
        sub.load.abandon()
        pool = self.method.pool
        if pool.is_closed or pool.data.channel(sub) is not None:
            return False
        self._try_again(sub)
        return True

    def _try_again(self, sub: Subchannel) -> None:
        self._tried |= {sub.id}
        self._generation = self.method.pool.board.snapshot.generation
        self.tick()

    def _is_refused(self, sub: Subchannel, error: Any) -> bool:
        if error.initial_metadata() or not names_refusal(error.details(), sub.address):
            return False
        return not self._is_ready(sub)

    def _is_ready(self, sub: Subchannel) -> bool:
        channel = self.method.pool.data.channel(sub)
        return channel is not None and is_sync_channel_ready(channel)
