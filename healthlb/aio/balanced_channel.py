"""What grpcio's multi-callables make their calls on, in the place of C-core's channel."""

from __future__ import annotations

import time
from typing import Any

import grpc
import grpc.aio

from healthlb.aio.balanced import BalancedCall
from healthlb.aio.errors import AioChannelClosed
from healthlb.aio.grpcio import CallCredentials, MakeCall, call_maker
from healthlb.aio.streams import BalancedStream
from healthlb.aio.subchannels import Subchannels
from healthlb.aio.unary import BalancedUnaryCall
from healthlb.calls.attempts import Method
from healthlb.calls.metadata import check_call_credentials
from healthlb.calls.policy import Policies

# Of 2200. C-core overflows somewhat later, and ends such calls at once.
_FOR_EVER = 7.26e9


class AioMethod(Method):
    """A method whose attempts are C-core's calls, without grpcio's Python around them."""

    def _entry(self, multi_callable: Any) -> MakeCall:
        return call_maker(multi_callable)


class BalancedChannel:
    """Makes the calls of one arity; it has those methods of `cygrpc.AioChannel` that grpcio's calls use.

    Args:
        subchannels: the channel's subchannels.
        policies: how its calls are made.
        arity: the name of grpcio's factory, `unary_unary` and so on.
    """

    def __init__(self, subchannels: Subchannels, policies: Policies, arity: str) -> None:
        self._subchannels = subchannels
        self._policies = policies
        self._arity = arity
        self._kind: type[BalancedCall] = BalancedUnaryCall if arity == "unary_unary" else BalancedStream
        self._methods: dict[str | bytes, AioMethod] = {}

    def call(
        self,
        method: str | bytes,
        deadline: float | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        registered_call_handle: int = 0,
    ) -> BalancedCall:
        """Return a call that is not begun.

        Args:
            method: the full name; policies go by it.
            deadline: in seconds of `time.time()`, None for none.
            credentials: of this call.
            wait_for_ready: whether it waits even where all subchannels have failed; None for the method's default.
            registered_call_handle: not used: each subchannel has its own.

        Raises:
            AioChannelClosed: the channel is closed.
            ChannelUnusable: another loop runs than that of its first use.
            grpc.aio.UsageError: call credentials on a channel without TLS.
            AttributeError, TypeError: credentials of another type.
        """
        subchannels = self._subchannels
        if subchannels.is_closed:
            raise AioChannelClosed("Channel is closed.")
        if not subchannels.holder.snapshot.ready:
            subchannels.start()
        if credentials is not None:
            if subchannels.settings.credentials is None:
                raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
            check_call_credentials(credentials, CallCredentials)
        found = self._methods.get(method) or self._method(method)
        found.budget.call_started(time.monotonic_ns())
        limit = found.policy.timeout
        if limit is not None:
            until = time.time() + limit
            deadline = until if deadline is None else min(deadline, until)
        return self._kind(found, deadline, credentials, wait_for_ready)

    def _method(self, name: str | bytes) -> AioMethod:
        text = name.decode("latin-1") if isinstance(name, bytes) else name
        policies = self._policies
        method = AioMethod(
            self._subchannels,
            policies.method(text),
            self._subchannels.budget(policies.budget),
            arity=self._arity,
            name=text,
            arguments={},
        )
        self._methods[name] = method
        self._subchannels.channels.methods.add(method)
        return method

    def get_registered_call_handle(self, method: str) -> int:
        """Return that the method is not registered here."""
        return 0

    def closed(self) -> bool:
        """Whether no more calls are made."""
        return self._subchannels.is_closed


def deadline_of(timeout: float) -> float | None:
    """Return when a call's time is over, in seconds of `time.time()`; None for never.

    An infinite timeout is none, and one that is no number is over.
    """
    deadline = time.time() + timeout
    if 0 < deadline < _FOR_EVER:
        return deadline
    return None if deadline >= _FOR_EVER else 0.0
