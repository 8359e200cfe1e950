"""Plain grpcio clients of the test servers, and waiting for conditions with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from healthlb.control.tasks import hidden
from tests.backends.backend import Backend

PATIENCE = 15.0  # Seconds; nothing here takes one, but the machine may be busy.
UNARY, WATCH, CHECK = "/test.Echo/Unary", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@contextlib.contextmanager
def connected(backend: Backend, address: str | None = None) -> Iterator[grpc.Channel]:
    """A channel that reconnects fast, to the backend or to one of its other addresses (or a proxy's)."""
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
    with grpc.insecure_channel(address or backend.address, (*options, ("grpc.enable_http_proxy", 0))) as channel:
        yield channel


def call(channel: grpc.Channel, timeout: float = PATIENCE, **steering: Any) -> bytes:
    """Return the answer to a unary call steered by `steering` (the metadata without their `x-`)."""
    metadata = [(f"x-{key}", str(value)) for key, value in steering.items()]
    unary: Any = channel.unary_unary(UNARY)
    answer: bytes = unary(b"ping", timeout=timeout, metadata=metadata, wait_for_ready=True)
    return answer


def failure(run: Callable[[], Any]) -> Any:
    """Return the RpcError that `run` must raise."""
    with pytest.raises(grpc.RpcError) as caught:
        run()
    return caught.value


def check(channel: grpc.Channel, service: str = "", timeout: float = PATIENCE) -> int:
    """Return the status that Health/Check gives."""
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    unary: Any = channel.unary_unary(CHECK)
    return int(health_pb2.HealthCheckResponse.FromString(unary(request, timeout=timeout, wait_for_ready=True)).status)


def eventually(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return as soon as the condition holds; fail when it does not in so many seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def tasks_of(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """Return the tasks of the given or running loop that have not ended, those included that healthlb hides."""
    loop = loop or asyncio.get_running_loop()
    return asyncio.all_tasks(loop) | {task for task in hidden if task.get_loop() is loop and not task.done()}


class Watching:
    """A Watch that is read by a thread, so that a test can wait for the next message with a deadline."""

    def __init__(self, channel: grpc.Channel, service: str = "") -> None:
        """Open the Watch; it waits for the connection."""
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        self._call: Any = channel.unary_stream(WATCH)(request, wait_for_ready=True)
        self._seen: queue.SimpleQueue[bytes | grpc.StatusCode] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def raw(self, timeout: float = PATIENCE) -> bytes | grpc.StatusCode:
        """Return the next message as it came, or the code the Watch ended with; raises queue.Empty."""
        return self._seen.get(timeout=timeout)

    def next(self) -> int | grpc.StatusCode:
        """Return the next status, or the code the Watch ended with."""
        message = self.raw()
        return health_pb2.HealthCheckResponse.FromString(message).status if isinstance(message, bytes) else message

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing more comes for a while."""
        try:
            self.raw(seconds)
        except queue.Empty:
            return True
        return False

    def cancel(self) -> None:
        """Leave."""
        self._call.cancel()

    def _read(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for message in self._call:
                self._seen.put(message)
        self._seen.put(self._call.code())
