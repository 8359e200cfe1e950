"""The sync channel: a drop-in `grpc.Channel`."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from healthlb._lazy import lazy
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
    check_callable,
    check_failover,
)
from healthlb.errors import ChannelClosed

if TYPE_CHECKING:
    from healthlb.calls.settings import Listener, check_listener, make_settings
    from healthlb.control.codes import to_grpc_state
    from healthlb.control.options import can_share
    from healthlb.control.status import SubchannelStatus, check_wait, has_ready, lacking, statuses
    from healthlb.core.messages import Endpoint, Fact
    from healthlb.core.pickers import PickerSource
    from healthlb.resolvers import Resolver
    from healthlb.sync.connectivity import Subscriptions
    from healthlb.sync.methods import Interceptor, check_interceptors, make_methods
    from healthlb.sync.subchannels import Subchannels
else:
    # Imported with the first channel: `import healthlb` is to be quick.
    globals().update(
        lazy(
            {
                "healthlb.control.codes": "to_grpc_state",
                "healthlb.control.options": "can_share",
                "healthlb.calls.settings": "Listener check_listener make_settings",
                "healthlb.control.status": "SubchannelStatus check_wait has_ready lacking statuses",
                "healthlb.core.messages": "Endpoint Fact",
                "healthlb.core.pickers": "PickerSource",
                "healthlb.resolvers": "Resolver",
                "healthlb.sync.methods": "Interceptor check_interceptors make_methods",
                "healthlb.sync.subchannels": "Subchannels",
                "healthlb.sync.connectivity": "Subscriptions",
            }
        )
    )


class HealthAwareChannel(grpc.Channel):
    """A `grpc.Channel` that calls healthy backends only.

    It opens one subchannel per resolved address, follows each backend's `Health/Watch` (gRFC A17) and
    its heartbeat, and picks a READY one for each call. The constructor does no I/O and starts no thread:
    the channel is IDLE until its first use.

    Args:
        target: a sequence of addresses (`"host:1"`, `"10.0.0.1:2"`, `"[::1]:3"`, `"unix:/run/s.sock"` or
            `Endpoint` objects), a URI (`dns:///host:port`, `ipv4:...`, `ipv6:...`, `unix:...`; a bare
            `host:port` means `dns:///`), or a `Resolver`.
        service: the name asked for in `Watch`; `""` is the whole server, None switches health
            checking off.
        credentials: `grpc.ChannelCredentials`; None is plaintext.
        options: gRPC channel arguments for every subchannel.
        compression: the default of calls.
        interceptors: stand in front of every call, the first outermost, as with `grpc.intercept_channel`.
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
        listeners: called with each fact, in order, on a thread of their own.

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
        interceptors: Sequence[Interceptor] | None = (),
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
        self._interceptors = check_interceptors(interceptors)
        self._front = make_methods(self._subchannels, self._policies, self._interceptors)
        self._is_view = False
        self._subscriptions = Subscriptions(self._subchannels.holder.snapshot.state)
        self._subchannels.holder.observe = self._subscriptions.observe

    # --- grpc.Channel ------------------------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a `grpc.UnaryUnaryMultiCallable`; see `grpc.Channel.unary_unary`."""
        return self._front.unary_unary(method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a `grpc.UnaryStreamMultiCallable`; see `grpc.Channel.unary_stream`."""
        return self._front.unary_stream(method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a `grpc.StreamUnaryMultiCallable`; see `grpc.Channel.stream_unary`."""
        return self._front.stream_unary(method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a `grpc.StreamStreamMultiCallable`; see `grpc.Channel.stream_stream`."""
        return self._front.stream_stream(method, request_serializer, response_deserializer, _registered_method)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Call `callback` with the aggregated state now and at each change; see `grpc.Channel.subscribe`.

        On a channel that is closed, or that `callback` closes at once, it connects nothing and raises nothing.

        Raises:
            ConfigError: `callback` cannot be called, or is a coroutine function; grpcio takes it and calls nothing.
        """
        self._subscriptions.add(check_callable("callback", callback))
        if try_to_connect:
            # As with grpcio: `callback` is told IDLE before this, and may have closed the channel.
            with contextlib.suppress(ChannelClosed):
                self._subchannels.start()

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Call `callback` no more."""
        self._subscriptions.remove(callback)

    def close(self) -> None:
        """End calls in flight with CANCELLED and close every subchannel; a second time does nothing."""
        if not self._is_view:
            self._subchannels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- what grpcio's channel has not -----------------------------------------------------------------

    def with_failover(self, failover: Failover | None) -> HealthAwareChannel:
        """Return a view of this channel whose calls are tried by another policy.

        It shares everything but the policy; closing it closes nothing else.

        Raises:
            ConfigError: `failover` is neither a `Failover` nor None.
        """
        view = copy.copy(self)
        view._policies = self._policies.with_failover(check_failover(failover))
        view._front = make_methods(self._subchannels, view._policies, self._interceptors)
        view._is_view = True
        return view

    def subchannels(self) -> tuple[SubchannelStatus, ...]:
        """Return who is in, who is out, since when and why, in the resolver's order."""
        subchannels = self._subchannels
        is_shared = can_share(subchannels.settings.credentials, subchannels.settings.options)
        return statuses(subchannels.holder.snapshot, time.monotonic_ns(), shares_connection=is_shared)

    def state(self) -> grpc.ChannelConnectivity:
        """Return the aggregated state: READY, else CONNECTING, else TRANSIENT_FAILURE; IDLE before use.

        It does not connect; a readiness probe takes `is_ready()`.
        """
        return to_grpc_state(self._subchannels.holder.snapshot.state)

    def is_panicking(self) -> bool:
        """Whether fewer than `panic_threshold` are healthy, so that calls go to all that are connected."""
        return self._subchannels.holder.snapshot.is_panicking

    def wait_until_ready(self, timeout: float | None = None, min_ready: int = 1) -> None:
        """Block until at least `min_ready` subchannels are READY.

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
        holder = self._subchannels.holder
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            snapshot = holder.snapshot
            if has_ready(snapshot, min_ready):
                return
            if self._subchannels.is_closed:
                self._subchannels.start()
            if not holder.wait(snapshot.generation, deadline):
                raise TimeoutError(lacking(snapshot, timeout, min_ready))

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
            ChannelUnusable: the channel was used before a fork.
        """
        check_wait(None, min_ready)
        with contextlib.suppress(ChannelClosed):
            self._subchannels.start()
        return has_ready(self._subchannels.holder.snapshot, min_ready)

    def add_listener(self, fn: Callable[[Fact], None]) -> None:
        """Call `fn` with each fact from now on, in order, on a thread of its own.

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
