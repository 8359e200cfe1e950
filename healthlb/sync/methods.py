"""Makes the multi-callables of a channel, and puts interceptors in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from healthlb.calls.attempts import Method
from healthlb.calls.policy import Policies
from healthlb.config import check_collection
from healthlb.core.load import Subchannel
from healthlb.errors import ConfigError
from healthlb.sync import grpcio
from healthlb.sync.calls import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from healthlb.sync.subchannels import Subchannels

Interceptor = (
    grpc.UnaryUnaryClientInterceptor
    | grpc.UnaryStreamClientInterceptor
    | grpc.StreamUnaryClientInterceptor
    | grpc.StreamStreamClientInterceptor
)
_INTERCEPTORS = (
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
)

# Stubs have some dozens of methods; deserializers that are made anew for each multi-callable would fill the memory.
_MOST_KEPT = 256


class SyncMethod(Method):
    """A method whose attempts are calls of C-core, without what grpcio does before each of its own."""

    subchannels: Subchannels

    def open(self, sub: Subchannel) -> Any:
        """Return grpcio's multi-callable on this subchannel, whose channel is not closed meanwhile."""
        with self.subchannels.channels.opening:
            return super().open(sub)

    def _entry(self, multi_callable: Any) -> grpcio.Opened:
        return grpcio.Opened(multi_callable)


class Methods:
    """Makes the multi-callables of a channel or of a view.

    `grpc.intercept_channel` asks for one at each call: what they share is kept.

    Args:
        subchannels: the channel's subchannels.
        policies: the channel's or the view's.
    """

    def __init__(self, subchannels: Subchannels, policies: Policies) -> None:
        self._subchannels = subchannels
        self._policies = policies
        self._kept: dict[Any, Method] = {}

    def unary_unary(self, name: Any, serializer: Any, deserializer: Any, registered: Any) -> UnaryUnary:
        """Return a multi-callable."""
        return UnaryUnary(self._method("unary_unary", name, deserializer, registered), serializer, deserializer)

    def unary_stream(self, name: Any, serializer: Any, deserializer: Any, registered: Any) -> UnaryStream:
        """Return a multi-callable."""
        method = self._method("unary_stream", name, deserializer, registered)
        return UnaryStream(method, serializer, deserializer, is_single_threaded=self._subchannels.is_single_threaded)

    def stream_unary(self, name: Any, serializer: Any, deserializer: Any, registered: Any) -> StreamUnary:
        """Return a multi-callable."""
        return StreamUnary(self._method("stream_unary", name, deserializer, registered), serializer, deserializer)

    def stream_stream(self, name: Any, serializer: Any, deserializer: Any, registered: Any) -> StreamStream:
        """Return a multi-callable."""
        return StreamStream(self._method("stream_stream", name, deserializer, registered), serializer, deserializer)

    def _method(self, arity: str, name: Any, deserializer: Any, registered: Any) -> Method:
        text = grpcio.decode(grpcio.encode(name))
        key = (arity, text, deserializer, bool(registered))
        try:
            found = self._kept.get(key)
        except TypeError:  # a deserializer without a hash
            return self._make(*key)
        if found is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept = {}
            found = self._kept[key] = self._make(*key)
        return found

    def _make(self, arity: str, name: str, deserializer: Any, registered: bool) -> Method:
        # Requests are serialized once, before there is an attempt.
        arguments = {
            "request_serializer": None,
            "response_deserializer": deserializer,
            "_registered_method": registered,
        }
        subchannels, policies = self._subchannels, self._policies
        return SyncMethod(
            subchannels,
            policies.method(name),
            subchannels.budget(policies.budget),
            arity=arity,
            name=name,
            arguments=arguments,
        )


class _BareChannel(Methods, grpc.Channel):  # type: ignore[misc]
    """The least that `grpc.intercept_channel` needs of a channel."""

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Do nothing: the channel in front has its own."""

    def unsubscribe(self, callback: Any) -> None:
        """Do nothing, likewise."""

    def close(self) -> None:
        """Do nothing, likewise."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def make_methods(subchannels: Subchannels, policies: Policies, interceptors: Sequence[Interceptor]) -> Any:
    """Return what makes multi-callables with these interceptors in front."""
    if not interceptors:
        return Methods(subchannels, policies)
    return grpc.intercept_channel(_BareChannel(subchannels, policies), *interceptors)


def check_interceptors(interceptors: object) -> tuple[Interceptor, ...]:
    """Return the interceptors.

    Raises:
        ConfigError: not a sequence of client interceptors.
    """
    check_collection("interceptors", interceptors or (), "grpc's client interceptors")
    try:
        checked: tuple[Interceptor, ...] = tuple(interceptors or ())  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"interceptors must be a sequence of client interceptors, not {interceptors!r}") from None
    for interceptor in checked:
        if not isinstance(interceptor, _INTERCEPTORS):
            raise ConfigError(
                f"interceptors must be grpc's client interceptors, such as "
                f"grpc.UnaryUnaryClientInterceptor, not {interceptor!r}"
            )
    return checked
