"""The service /test.Echo for `grpc.server`; `echo_aio.py` is its twin."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import grpc

from tests.backends.counters import Counters
from tests.backends.steering import Plan, Steering

SERVICE = "test.Echo"


class Echo:
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

    def unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer this server's name, or the request."""
        with self._executing("Unary", context) as call:
            call.send_headers()
            return request if call.plan.has_echo else self._name

    def server_stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send `<name>:0`, `<name>:1` and so on."""
        with self._executing("ServerStream", context) as call:
            for index in range(call.plan.count):
                if index:
                    call.pause(call.plan.interval)
                call.send_headers()
                yield self._name + b":%d" % index

    def client_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Answer `<name>:<number of messages>`."""
        with self._executing("ClientStream", context) as call:
            count = sum(1 for _ in requests)
            call.send_headers()
            return self._name + b":%d" % count

    def bidi(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Send back each message behind `<name>:`."""
        with self._executing("Bidi", context) as call:
            for request in requests:
                call.send_headers()
                yield self._name + b":" + request

    @contextlib.contextmanager
    def _executing(self, method: str, context: grpc.ServicerContext) -> Iterator[_Call]:
        metadata = context.invocation_metadata()
        plan = self._steering.plan(metadata)
        self._counters.call_started(method, plan.call_id, metadata, context.peer())
        call = _Call(plan, self._steering, context)
        try:
            call.begin()
            yield call
        finally:
            self._counters.call_ended(call.is_gone())


class _Call:
    """One execution: its plan, and whether the client is still there."""

    def __init__(self, plan: Plan, steering: Steering, context: grpc.ServicerContext) -> None:
        self.plan = plan
        self._headers = steering.headers
        self._has_sent_headers = False
        self._context = context
        self._gone = threading.Event()
        if not context.add_callback(self._gone.set):
            self._gone.set()

    def begin(self) -> None:
        if self.plan.has_early_headers:
            self.send_headers()
        self.pause(self.plan.sleep)
        self._context.set_trailing_metadata(self.plan.trailing)
        if self.plan.fail is not None:
            self._context.abort(self.plan.fail, self.plan.details)

    def pause(self, seconds: float) -> None:
        # An abandoned call gives its worker back, or a test that cancels slow calls would starve its own server.
        if seconds:
            self._gone.wait(seconds)

    def send_headers(self) -> None:
        # Late, as the servers people write do it: a failing call is Trailers-Only and leaves a retry possible.
        if not self._has_sent_headers:
            self._has_sent_headers = True
            self._context.send_initial_metadata(self._headers)

    def is_gone(self) -> bool:
        return self._gone.is_set()
