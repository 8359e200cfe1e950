"""The service /test.Echo for `grpc.aio.server`; the twin of `echo.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from tests.backends.counters import Counters
from tests.backends.echo import SERVICE
from tests.backends.steering import Plan, Steering

Context = Any  # grpc.aio.ServicerContext, which is generic in the stubs and not subscriptable at run time.


class AioEcho:
    """Bytes in, bytes out, in all four arities; see `tests.backends` for what each method answers."""

    def __init__(self, steering: Steering, counters: Counters) -> None:
        """Serve as `steering` says and count in `counters`."""
        self._steering = steering
        self._counters = counters
        self._name = steering.name.encode()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what `Server.add_generic_rpc_handlers` takes."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
                "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
                "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi),
            },
        )

    async def unary(self, request: bytes, context: Context) -> bytes:
        """Answer this server's name, or the request."""
        async with self._executing("Unary", context) as call:
            await call.send_headers()
            return request if call.plan.has_echo else self._name

    async def server_stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Send `<name>:0`, `<name>:1` and so on."""
        async with self._executing("ServerStream", context) as call:
            for index in range(call.plan.count):
                if index:
                    await call.pause(call.plan.interval)
                await call.send_headers()
                yield self._name + b":%d" % index

    async def client_stream(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        """Answer `<name>:<number of messages>`."""
        async with self._executing("ClientStream", context) as call:
            count = 0
            async for _ in requests:
                count += 1
            await call.send_headers()
            return self._name + b":%d" % count

    async def bidi(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Send back each message behind `<name>:`."""
        async with self._executing("Bidi", context) as call:
            async for request in requests:
                await call.send_headers()
                yield self._name + b":" + request

    @contextlib.asynccontextmanager
    async def _executing(self, method: str, context: Context) -> AsyncIterator[_Call]:
        metadata = context.invocation_metadata() or ()
        plan = self._steering.plan(metadata)
        self._counters.call_started(method, plan.call_id, metadata, context.peer())
        call = _Call(plan, self._steering, context)
        is_cancelled = False
        try:
            await call.begin()
            yield call
        except (asyncio.CancelledError, GeneratorExit):
            is_cancelled = True
            raise
        finally:
            self._counters.call_ended(is_cancelled)


class _Call:
    """One execution and its plan."""

    def __init__(self, plan: Plan, steering: Steering, context: Context) -> None:
        self.plan = plan
        self._headers = steering.headers
        self._has_sent_headers = False
        self._context = context

    async def begin(self) -> None:
        if self.plan.has_early_headers:
            await self.send_headers()
        await self.pause(self.plan.sleep)
        self._context.set_trailing_metadata(self.plan.trailing)
        if self.plan.fail is not None:
            await self._context.abort(self.plan.fail, self.plan.details, self.plan.trailing)

    async def pause(self, seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    async def send_headers(self) -> None:
        # Late, as the servers people write do it: a failing call is Trailers-Only and leaves a retry possible.
        if not self._has_sent_headers:
            self._has_sent_headers = True
            await self._context.send_initial_metadata(self._headers)
