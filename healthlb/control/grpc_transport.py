"""The transport over grpcio: one `grpc.aio` channel per subchannel carries its Watch and Checks."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib import import_module
from typing import Any

import grpc
import grpc.aio

from healthlb.config import HealthCheck
from healthlb.control.codes import to_code, to_grpc_state, to_state
from healthlb.control.health_messages import CHECK, PING, WATCH, decode_response, encode_request
from healthlb.control.health_metadata import HealthMetadata, NoMetadata
from healthlb.control.options import ChannelOptions, can_share, control_options, dial_target, unshared
from healthlb.control.poller import can_poll
from healthlb.control.resolved_names import ResolvedNames
from healthlb.control.shared_connection import SharedAioChannel, shared_options
from healthlb.control.tasks import HiddenIterator, hidden_tasks, is_task_cancelled, start_call, start_task
from healthlb.control.transport import CheckAnswer, WatchEnded
from healthlb.core.messages import Code, ConnectivityState, Endpoint
from healthlb.text import printable


class Suspension:
    """The state that a connection reports from `suspend` until it is known to be up or down again.

    Args:
        state: the state to tell until then.
    """

    def __init__(self, state: ConnectivityState) -> None:
        self.state = state
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        """Wake the tasks that wait for the connection."""
        if not self.is_over.done():
            self.is_over.set_result(None)


# opentelemetry-instrumentation-grpc puts plain functions in the place of grpc.aio's constructors, which nothing
# unwraps; with its interceptors in between, attempts are no longer calls of grpcio's own (seen on 0.66b2).
_AIO: Any = import_module("grpc.aio._channel")


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


class GrpcConnection:
    """A control connection; in the aio face calls use it too, so it closes with its last user.

    Args:
        open_channel: opens a channel to the address, without a load-balancing policy of its own.
        metadata: goes with every Watch and Check.
        patience: seconds that a Watch waits for its metadata.
        shared: arguments of the sync channels that use its connection, None where they cannot.

    Attributes:
        shared: the same.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.aio.Channel],
        metadata: HealthMetadata,
        patience: float,
        *,
        shared: ChannelOptions | None = None,
    ) -> None:
        self.generation: int | None = None
        self.shared = shared
        self._open_channel = open_channel
        self._metadata = metadata
        self._patience = patience
        self._users = 1
        self._leaving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._suspension: Suspension | None = None
        self._suspensions = 0
        self._settling: asyncio.Task[None] | None = None
        self._open()
        _connections.add(weakref.ref(self, _connections.discard))

    def _open(self) -> None:
        self._is_closing = False
        self._channel: grpc.aio.Channel | None = None
        self._watch: Any = None
        self._check: Any = None
        # Nothing is told of a channel that there is none of: the interpreter ends.
        self._is_lame = True
        if can_poll():
            self._channel = self._open_channel()
            # A channel begins IDLE; one that C-core cannot make, as for its credentials, has failed from the first.
            self._is_lame = self._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
            self._watch = self._channel.unary_stream(WATCH)
            self._check = self._channel.unary_unary(CHECK)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel; there is none once it is closed, and while the connection is suspended."""
        assert self._channel is not None
        return self._channel

    def state(self) -> ConnectivityState:
        """Return the present state."""
        if self._suspension is not None:
            return self._suspension.state
        if self._channel is None:
            return ConnectivityState.SHUTDOWN if self._is_closing else ConnectivityState.CONNECTING
        return to_state(self.channel.get_state())

    def connect(self) -> None:
        """Connect where it is IDLE."""
        if self._suspension is None and self._channel is not None:
            self._channel.get_state(try_to_connect=True)

    async def left(self, state: ConnectivityState) -> None:
        """Return once the state has been another than `state`."""
        while True:
            suspensions = await self._resumed()
            # After a suspension the new channel is asked: where its state is another, it says so at once.
            try:
                await self._changed(to_grpc_state(state))
            except asyncio.CancelledError:
                # The channel was closed for a suspension, and C-core was too busy to say so in time.
                if self._suspensions == suspensions or is_task_cancelled():
                    raise
            if self._suspensions == suspensions:
                return

    async def _changed(self, state: grpc.ChannelConnectivity) -> None:
        if self._is_lame:
            # C-core never answers who asks it for a change of such a channel, and its poller never ends (1.85.3).
            await self._loop.create_future()
        # Who no longer waits must not cancel it: C-core goes on, and is to be heard out before the poller ends.
        leaving = start_task(self._loop, self._wait_for_change(state))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.shield(leaving)

    async def _wait_for_change(self, state: grpc.ChannelConnectivity) -> None:
        # grpcio's error for a closed channel would keep that channel until the garbage is collected.
        if not self._is_closing:
            await self.channel.wait_for_state_change(state)

    async def watch(self, service: str) -> AsyncIterator[int]:
        """Yield serving statuses; raise `WatchEnded` at the end of the stream."""
        last: int | None = None
        while True:
            suspensions = await self._resumed()
            is_first = True
            try:
                async for status in HiddenIterator(self._statuses(service)):
                    # A Watch that goes on after a suspension begins with what may be no news.
                    if not (is_first and status == last):
                        yield status
                    is_first, last = False, status
            except (WatchEnded, asyncio.CancelledError):
                if self._suspensions == suspensions or is_task_cancelled():
                    raise

    async def _statuses(self, service: str) -> AsyncIterator[int]:
        try:
            metadata = await self._metadata.get(self._patience)
        except NoMetadata as error:
            raise WatchEnded(Code.INTERNAL, str(error)) from error
        if self._watch is None:  # closed in the meantime, maybe for a pause only
            raise WatchEnded(Code.CANCELLED)
        with hidden_tasks(self._loop):
            call = self._watch(encode_request(service), metadata=metadata)
        try:
            async for message in HiddenIterator(aiter(call)):
                yield decode_response(message)
        except ValueError as error:
            raise WatchEnded(Code.INTERNAL, printable(error)) from error
        except grpc.aio.AioRpcError as error:
            raise WatchEnded(to_code(error.code()), printable(error.details() or "")) from error
        finally:
            call.cancel()
        raise WatchEnded(Code.OK)

    async def check(self, service: str, timeout: float) -> CheckAnswer:
        """Send one Check and return how it ended; `timeout` in seconds, half of which its metadata may take."""
        deadline = self._loop.time() + timeout
        try:
            # One that cannot leave is made for its error alone, which says why there is no connection.
            is_down = self.state() is ConnectivityState.TRANSIENT_FAILURE
            metadata = () if is_down else await self._metadata.get(timeout / 2)
        except NoMetadata as error:
            return CheckAnswer(Code.INTERNAL, str(error), is_unsent=True)
        code, details, message = await self._ask(lambda: self._check, encode_request(service), deadline, metadata)
        try:
            return CheckAnswer(code, details, None if message is None else decode_response(message))
        except ValueError as error:
            return CheckAnswer(Code.INTERNAL, printable(error))

    async def ping(self, timeout: float) -> Code:
        """Call a method that nobody has registered, and return how that ended; `timeout` in seconds."""
        code, _, _ = await self._ask(lambda: self.channel.unary_unary(PING), b"", self._loop.time() + timeout, ())
        return code

    async def _ask(
        self, method: Callable[[], Any], request: bytes, deadline: float, metadata: Any
    ) -> tuple[Code, str, bytes | None]:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    suspensions = await self._resumed()
            except TimeoutError:
                return Code.DEADLINE_EXCEEDED, "not connected again yet", None
            try:
                remaining = deadline - self._loop.time()
                with hidden_tasks(self._loop):
                    call = method()(request, timeout=remaining, metadata=metadata)
                return Code.OK, "", await call
            except grpc.aio.AioRpcError as error:
                return to_code(error.code()), printable(error.details() or ""), None
            except asyncio.CancelledError:
                if self._suspensions == suspensions or is_task_cancelled():
                    raise

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

        grpcio's poller ends with the last channel, and what was not told by then keeps its loop for ever (1.85.1). So
        this one is let go of, too, whoever still holds on to the connection.
        """
        await self._close(_FAREWELL)

    async def _close(self, farewell: float) -> None:
        if self._settling is not None:
            self._settling.cancel()
        if self._channel is None:
            return
        self._is_closing = True
        leaving = tuple(self._leaving)
        try:
            await self._channel.close()
            if leaving and (await asyncio.wait(leaving, timeout=farewell))[1] and self._suspension is not None:
                _kept_channels.append(self._channel)
        finally:
            self._channel = self._watch = self._check = None
            for task in leaving:
                # In C-core a call holds its channel: as long as the user holds on to one, nothing is told.
                task.cancel()

    # --- a pause, for a fork ---------------------------------------------------------------------

    async def suspend(self) -> None:
        """Close the channel; whoever follows the connection sees no change, and waits for `resume`."""
        if not self._users:
            return
        if self._suspension is None:
            self._suspension = Suspension(self.state())
        self._suspensions += 1
        await self._close(_SUSPENSION)

    def resume(self) -> None:
        """Open a new channel; its state is reported as if the connection had never been closed."""
        if self._users:
            self._open()
            self._settling = start_task(self._loop, self._settle())

    async def _settle(self) -> None:
        """Wait until the new channel is up, has failed, or was up and is closed."""
        with contextlib.suppress(TimeoutError):  # from then on the state is told as it is
            async with asyncio.timeout(_SETTLING):
                self.channel.get_state(try_to_connect=True)
                for state in () if self._is_lame else _PENDING:
                    await self._changed(state)
        suspension, self._suspension = self._suspension, None
        if suspension is not None:
            suspension.end()

    async def _resumed(self) -> int:
        """Wait while the connection is suspended; return how many times it has been."""
        while self._suspension is not None:
            await asyncio.shield(self._suspension.is_over)
        return self._suspensions


_connections: set[weakref.ref[GrpcConnection]] = set()
_PENDING = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
_SETTLING = 5.0


async def suspend_connections(loop: asyncio.AbstractEventLoop) -> list[GrpcConnection]:
    """Close the channels of all control connections of a loop for a while; return these connections, to resume them."""
    # Copied first: other loops, on threads of their own, add to the set and take from it.
    connections = [ref() for ref in _connections.copy()]
    suspended = [connection for connection in connections if connection is not None and connection._loop is loop]
    await asyncio.gather(*(connection.suspend() for connection in suspended), return_exceptions=True)
    await connections_closed(loop)
    return suspended


_closing: set[asyncio.Task[None]] = set()
_FAREWELL = 0.05
# Longer: nobody's call holds the channel here. Where C-core never tells, as where a child forked without Python's hooks
# takes its wakeups (1.85.3), grpcio blocks the thread that lets go of the last channel, so such a channel is kept.
_SUSPENSION = 5.0
_kept_channels: list[grpc.aio.Channel] = []
_LAST_WORDS = 0.1


async def connections_closed(loop: asyncio.AbstractEventLoop) -> None:
    """Return once all connections of this loop that are closing are closed."""
    # Copied first: other loops, on threads of their own, add to the set and take from it.
    closing = [task for task in _closing.copy() if task.get_loop() is loop]
    await asyncio.gather(*closing, return_exceptions=True)


async def last_words(loop: asyncio.AbstractEventLoop) -> None:
    """Return once C-core has delivered its last events to this loop.

    grpcio has one poller for all loops: what is said to a closed one raises in another (seen on 1.85.1).
    """
    await connections_closed(loop)
    await asyncio.sleep(_LAST_WORDS)


def _close_soon(connection: GrpcConnection) -> None:
    task = start_call(asyncio.get_running_loop(), connection.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


class GrpcTransport:
    """Opens control connections.

    Args:
        credentials: None is plaintext.
        options: channel arguments, complete.
        health: how health is followed.
        names: learns what host names stand for.
        compression: of calls, where they share the connection.
        is_sync: whether calls are those of sync channels.
    """

    def __init__(
        self,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
        health: HealthCheck,
        *,
        names: ResolvedNames,
        compression: grpc.Compression | None = None,
        is_sync: bool = False,
    ) -> None:
        self._is_shared = is_sync and can_share(credentials, options)
        self._credentials = credentials
        self._options = options if self._is_shared else unshared(control_options(options) if is_sync else options)
        self._metadata = HealthMetadata(health.metadata)
        self._patience = health.first_response_timeout / 2
        self._names = names
        self._compression = compression

    def connect(self, endpoint: Endpoint) -> GrpcConnection:
        """Open a connection; it does not wait."""
        self._names.learn(endpoint.address)
        if self._is_shared:
            shared = shared_options(self._options)
            opening = partial(SharedAioChannel, endpoint.address, shared, self._compression)
            return GrpcConnection(opening, self._metadata, self._patience, shared=shared)
        opening = partial(
            open_channel,
            _AIO.insecure_channel,
            _AIO.secure_channel,
            endpoint.address,
            self._credentials,
            self._options,
            self._compression,
        )
        return GrpcConnection(opening, self._metadata, self._patience)
