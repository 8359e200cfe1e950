"""The transport over grpcio: one `grpc.aio` channel per subchannel carries its Watch and Checks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import import_module
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from healthlb.control.names import Names
from healthlb.control.options import ChannelOptions, dial_target
from healthlb.control.port import WatchEnded
from healthlb.control.tasks import start_task
from healthlb.core.messages import Code, ConnectivityState, Endpoint

# opentelemetry-instrumentation-grpc puts plain functions in the place of grpc.aio's constructors, which nothing
# unwraps; with its interceptors in between, attempts are no longer calls of grpcio's own (seen on 0.66b2).
_AIO: Any = import_module("grpc.aio._channel")

_WATCH = "/grpc.health.v1.Health/Watch"
_CHECK = "/grpc.health.v1.Health/Check"

_STATES = {state: ConnectivityState(state.value[0]) for state in grpc.ChannelConnectivity}
_GRPC_STATES = {value: key for key, value in _STATES.items()}
_CODES = {code: Code(code.value[0]) for code in grpc.StatusCode}
_GRPC_CODES = {value: key for key, value in _CODES.items()}


def to_grpc_state(state: ConnectivityState) -> grpc.ChannelConnectivity:
    """Return grpcio's name for a connectivity state."""
    return _GRPC_STATES[state]


def to_code(code: grpc.StatusCode) -> Code:
    """Return the core's name for a status code."""
    return _CODES[code]


def to_grpc_code(code: Code) -> grpc.StatusCode:
    """Return grpcio's name for a status code."""
    return _GRPC_CODES[code]


def open_channel(
    insecure: Callable[..., Any],
    secure: Callable[..., Any],
    address: str,
    credentials: grpc.ChannelCredentials | None,
    options: ChannelOptions,
    compression: grpc.Compression | None,
) -> Any:
    """Open a plain channel to one address, past any instrumentation: attempts and Watches are not the user's calls.

    Args:
        insecure: grpcio's constructor, sync or aio.
        secure: its twin with credentials.
        address: where to.
        credentials: None is plaintext.
        options: channel arguments, complete.
        compression: the default of calls.
    """
    target = dial_target(address)
    if credentials is None:
        return inspect.unwrap(insecure)(target, options=options, compression=compression)
    return inspect.unwrap(secure)(target, credentials, options=options, compression=compression)


def open_intercepted_channel(interceptors: Sequence[grpc.aio.ClientInterceptor]) -> grpc.aio.Channel:
    """Open an aio channel that runs interceptors and never connects."""
    channel: grpc.aio.Channel = _AIO.insecure_channel("ipv4:127.0.0.1:1", interceptors=interceptors)
    return channel


class GrpcConnection:
    """A control connection; in the aio face calls use it too, so it closes with its last user.

    Args:
        channel: to one address, without a load-balancing policy of its own.
        metadata: goes with every Watch and Check.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.channel = channel
        self.generation: int | None = None
        self._metadata = tuple(metadata)
        self._users = 1
        self._leaving: set[asyncio.Task[None]] = set()
        self._watch: Any = channel.unary_stream(_WATCH)
        self._check: Any = channel.unary_unary(_CHECK)

    def state(self) -> ConnectivityState:
        """Return the present state, and connect where it is IDLE."""
        return _STATES[self.channel.get_state(try_to_connect=True)]

    async def left(self, state: ConnectivityState) -> None:
        """Return once the state has been another than `state`."""
        # Who no longer waits must not cancel it: C-core goes on, and is to be heard out before the poller ends.
        leaving = start_task(asyncio.get_running_loop(), self.channel.wait_for_state_change(_GRPC_STATES[state]))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.shield(leaving)

    async def watch(self, service: str) -> AsyncIterator[int]:
        """Yield serving statuses; raise `WatchEnded` at the end of the stream."""
        call = self._watch(_request(service), metadata=self._metadata)
        try:
            async for message in call:
                yield health_pb2.HealthCheckResponse.FromString(message).status
        except DecodeError as error:
            raise WatchEnded(Code.INTERNAL, f"not a HealthCheckResponse: {error}") from error
        except grpc.aio.AioRpcError as error:
            raise WatchEnded(_CODES[error.code()], error.details() or "") from error
        finally:
            call.cancel()
        raise WatchEnded(Code.OK)

    async def check(self, service: str, timeout: float) -> tuple[Code, str]:
        """Send one Check and return how it ended; `timeout` in seconds."""
        try:
            await self._check(_request(service), timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return _CODES[error.code()], error.details() or ""
        return Code.OK, ""

    def hold(self) -> None:
        """Count a further user."""
        self._users += 1

    def release(self) -> None:
        """Count a user out; the last one closes the channel."""
        self._users -= 1
        if self._users == 0:
            _close_soon(self)

    async def close(self) -> None:
        """Close the channel, and let C-core tell those who wait for a change of state.

        grpcio's poller ends with the last channel, and what was not told by then keeps its loop for ever (1.85.1).
        """
        leaving = tuple(self._leaving)
        await self.channel.close()
        if leaving:
            await asyncio.wait(leaving, timeout=_FAREWELL)
        for task in leaving:
            # In C-core a call holds its channel: as long as the user holds on to one, nothing is told.
            task.cancel()


def _request(service: str) -> bytes:
    message: bytes = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return message


_closing: set[asyncio.Task[None]] = set()
_FAREWELL = 0.05
_LAST_WORDS = 0.1


async def connections_closed(loop: asyncio.AbstractEventLoop) -> None:
    """Return once the connections of this loop are closed that were to be."""
    closing = [task for task in _closing if task.get_loop() is loop]
    await asyncio.gather(*closing, return_exceptions=True)


async def last_words(loop: asyncio.AbstractEventLoop) -> None:
    """Return once C-core has nothing more to say to this loop.

    grpcio has one poller for all loops: what is said to a closed one raises in another (seen on 1.85.1).
    """
    await connections_closed(loop)
    await asyncio.sleep(_LAST_WORDS)


def _close_soon(connection: GrpcConnection) -> None:
    task = start_task(asyncio.get_running_loop(), connection.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


class GrpcTransport:
    """Opens control connections.

    Args:
        credentials: None is plaintext.
        options: channel arguments, complete.
        metadata: goes with every Watch and Check.
        names: learns what host names stand for.
        compression: of calls, where they share the connection.
    """

    def __init__(
        self,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
        metadata: Sequence[tuple[str, str | bytes]],
        names: Names,
        compression: grpc.Compression | None = None,
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._metadata = metadata
        self._names = names
        self._compression = compression

    def connect(self, endpoint: Endpoint) -> GrpcConnection:
        """Open a connection; it does not wait."""
        self._names.learn(endpoint.address)
        channel = open_channel(
            _AIO.insecure_channel,
            _AIO.secure_channel,
            endpoint.address,
            self._credentials,
            self._options,
            self._compression,
        )
        return GrpcConnection(channel, self._metadata)
