"""The aio channel: a drop-in `grpc.aio.Channel`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from healthlb.aio.balanced_channel import BalancedChannel
from healthlb.aio.calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from healthlb.aio.interceptors import sort_interceptors
from healthlb.aio.subchannels import Subchannels
from healthlb.calls.settings import Listener, check_listener, make_settings
from healthlb.config import (
    DEFAULT_SERVICE,
    DEFAULTS,
    ChannelConfig,
    Failover,
    HealthCheck,
    Outliers,
    Overload,
    SlowStart,
    Subset,
    check_failover,
)
from healthlb.control.codes import to_grpc_state
from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.control.status import SubchannelStatus, check_wait, has_ready, lacking, statuses
from healthlb.control.tasks import resolve
from healthlb.core.messages import Endpoint, Fact
from healthlb.core.pickers import PickerSource
from healthlb.errors import ChannelClosed
from healthlb.resolvers import Resolver


class HealthAwareChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` that calls healthy backends only; see `healthlb.HealthAwareChannel`.

    It binds to the event loop of its first use, and may be constructed outside of any.

    Args:
        target: addresses, a URI or a `Resolver`, as in `healthlb.HealthAwareChannel`.
        service: the name asked for in `Watch`; `""` is the whole server, None switches health
            checking off.
        credentials: `grpc.ChannelCredentials`; None is plaintext.
        options: gRPC channel arguments for every subchannel.
        compression: the default of calls.
        interceptors: `grpc.aio` client interceptors; they see calls, never the Watch.
        picker: a registered name or a callable that returns a `PickerFactory`; default `round_robin`.
        health: how health is followed.
        failover: what happens to a call whose attempt fails; None is one attempt.
        outliers: who is ejected for what its calls say; None is nobody.
        overload: how many calls may wait and be in flight; None is any number.
        panic_threshold: the share of healthy subchannels, 0 to 1, below which picks go to all that are connected;
            0 is never.
        drain: seconds after which calls end with UNAVAILABLE that are in flight on an address that has left the list
            or the subset, and is not back; at least 0. Idempotent ones may then be made elsewhere, as after any
            UNAVAILABLE. None is no limit: they run to their own ends.
        subset: to how many of the target's endpoints it connects, a `Subset`; None is all.
        slow_start: how the weight of a subchannel grows that comes in late, a `SlowStart`; None is at once. It needs
            a picker that reads weights.
        service_config: a gRPC service config, JSON (text or UTF-8 bytes) or a mapping; explicit arguments win over it.
        listeners: called on the loop with each fact, in order.

    Raises:
        ConfigError: an argument cannot work; the text names it, its value and its bound.
    """

    def __init__(
        self,
        target: str | Sequence[str | Endpoint] | Resolver,
        service: str | None = DEFAULT_SERVICE,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
        compression: grpc.Compression | None = None,
        interceptors: Sequence[grpc.aio.ClientInterceptor] | None = (),
        picker: PickerSource | None = None,
        health: HealthCheck = DEFAULTS.health,
        failover: Failover | None = DEFAULTS.failover,
        outliers: Outliers | None = DEFAULTS.outliers,
        overload: Overload | None = DEFAULTS.overload,
        panic_threshold: float = DEFAULTS.panic_threshold,
        drain: float | None = DEFAULTS.drain,
        subset: Subset | None = DEFAULTS.subset,
        slow_start: SlowStart | None = DEFAULTS.slow_start,
        service_config: str | bytes | Mapping[str, Any] | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        sorted_interceptors = sort_interceptors(interceptors)
        settings = make_settings(
            target,
            service,
            ChannelConfig(
                health=health,
                failover=failover,
                outliers=outliers,
                overload=overload,
                panic_threshold=panic_threshold,
                drain=drain,
                subset=subset,
                slow_start=slow_start,
            ),
            credentials=credentials,
            options=options,
            compression=compression,
            picker=picker,
            service_config=service_config,
            listeners=listeners,
        )
        self._subchannels = Subchannels(settings)
        self._policies = settings.policies
        self._is_view = False
        # By grpcio's names: instrumentation and generated clients append to them.
        self._unary_unary_interceptors = sorted_interceptors["unary_unary"]
        self._unary_stream_interceptors = sorted_interceptors["unary_stream"]
        self._stream_unary_interceptors = sorted_interceptors["stream_unary"]
        self._stream_stream_interceptors = sorted_interceptors["stream_stream"]
        self._beneath: dict[str, BalancedChannel] = {}

    # --- grpc.aio.Channel ------------------------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a multi-callable; see `grpc.aio.Channel.unary_unary`."""
        interceptors = self._unary_unary_interceptors
        return self._multi_callable(UnaryUnary, method, request_serializer, response_deserializer, interceptors)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a multi-callable; see `grpc.aio.Channel.unary_stream`."""
        interceptors = self._unary_stream_interceptors
        return self._multi_callable(UnaryStream, method, request_serializer, response_deserializer, interceptors)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a multi-callable; see `grpc.aio.Channel.stream_unary`."""
        interceptors = self._stream_unary_interceptors
        return self._multi_callable(StreamUnary, method, request_serializer, response_deserializer, interceptors)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a multi-callable; see `grpc.aio.Channel.stream_stream`."""
        interceptors = self._stream_stream_interceptors
        return self._multi_callable(StreamStream, method, request_serializer, response_deserializer, interceptors)

    def _multi_callable(
        self,
        kind: Any,
        method: str,
        serializer: Any,
        deserializer: Any,
        interceptors: list[grpc.aio.ClientInterceptor],
    ) -> Any:
        arity = kind.arity
        if arity not in self._beneath:
            self._beneath[arity] = BalancedChannel(self._subchannels, self._policies, arity)
        return kind(
            self._subchannels,
            self._beneath[arity],
            method,
            serializer=serializer,
            deserializer=deserializer,
            interceptors=interceptors,
        )

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the aggregated state as it is; connect then where asked to and IDLE."""
        state = to_grpc_state(self._subchannels.holder.snapshot.state)
        if try_to_connect and not self._subchannels.is_closed:
            self._subchannels.start()
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the aggregated state is another than `last_observed_state`.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        if self.get_state() is grpc.ChannelConnectivity.SHUTDOWN:
            raise grpc.aio.UsageError("Channel is closed.")
        while self.get_state() is last_observed_state:
            await _next(self._subchannels.holder, None)

    async def channel_ready(self) -> None:
        """Connect, and return once the channel is READY.

        Raises:
            grpc.aio.UsageError: it was closed.
        """
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                raise grpc.aio.UsageError("Channel is closed.")
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Take no more calls, wait up to `grace` seconds for those in flight, end the rest with CANCELLED.

        Raises:
            ValueError: a negative `grace`.
        """
        if not self._is_view:
            await self._subchannels.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- what grpcio's channel has not -----------------------------------------------------------------

    def with_failover(self, failover: Failover | None) -> HealthAwareChannel:
        """Return a view of this channel whose calls are tried by another policy.

        It shares everything but the policy; closing it closes nothing else.

        Raises:
            ConfigError: `failover` is neither a `Failover` nor None.
        """
        view = copy.copy(self)
        view._policies = self._policies.with_failover(check_failover(failover))
        view._beneath = {}
        view._is_view = True
        return view

    def subchannels(self) -> tuple[SubchannelStatus, ...]:
        """Return who is in, who is out, since when and why, in the resolver's order."""
        return statuses(self._subchannels.holder.snapshot, time.monotonic_ns(), shares_connection=True)

    def state(self) -> grpc.ChannelConnectivity:
        """Return the aggregated state: READY, else CONNECTING, else TRANSIENT_FAILURE; IDLE before use.

        It does not connect; a readiness probe takes `is_ready()`.
        """
        return self.get_state()

    def is_panicking(self) -> bool:
        """Whether fewer than `panic_threshold` are healthy, so that calls go to all that are connected."""
        return self._subchannels.holder.snapshot.is_panicking

    async def wait_until_ready(self, timeout: float | None = None, min_ready: int = 1) -> None:
        """Wait until at least `min_ready` subchannels are READY.

        Args:
            timeout: seconds, None for no end.
            min_ready: at least 1.

        Raises:
            TimeoutError: not in time; the text says what each subchannel lacks.
            ChannelClosed: the channel is closed.
            ConfigError: an argument is out of its bounds.
        """
        check_wait(timeout, min_ready)
        self._subchannels.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        while not has_ready(self._subchannels.holder.snapshot, min_ready):
            if self._subchannels.is_closed:
                self._subchannels.start()
            if not await _next(self._subchannels.holder, deadline):
                raise TimeoutError(lacking(self._subchannels.holder.snapshot, timeout, min_ready))

    def is_ready(self, min_ready: int = 1) -> bool:
        """Connect, and return at once whether at least `min_ready` subchannels are READY now: for readiness probes.

        `state()` only looks: a channel that has never been used stays IDLE. This one begins to connect, so that a probe
        that is asked again and again is true before the first call.

        Args:
            min_ready: at least 1.

        Returns:
            False for a closed channel, too.

        Raises:
            ConfigError: `min_ready` is out of its bounds.
            ChannelUnusable: another event loop runs than that of first use, or none.
        """
        check_wait(None, min_ready)
        with contextlib.suppress(ChannelClosed):
            self._subchannels.start()
        return has_ready(self._subchannels.holder.snapshot, min_ready)

    def add_listener(self, fn: Callable[[Fact], None]) -> None:
        """Call `fn` on the loop with each fact from now on, in order.

        Raises:
            ConfigError: `fn` cannot be called, or is a coroutine function.
        """
        self._subchannels.listeners.append(check_listener(fn))

    def remove_listener(self, fn: Callable[[Fact], None]) -> None:
        """Call `fn` no more; nothing happens where it was not added."""
        with contextlib.suppress(ValueError):
            self._subchannels.listeners.remove(fn)

    def __repr__(self) -> str:
        return f"<HealthAwareChannel {self._subchannels.settings.target.text} {self.state().name}>"


async def _next(holder: SnapshotHolder, deadline: float | None) -> bool:
    """Wait for the next snapshot; False if `deadline` came first."""
    changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    number = holder.when_changed(holder.snapshot.generation, partial(resolve, changed))
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
            await changed
    except TimeoutError:
        return False
    finally:
        holder.forget(number)
    return True
