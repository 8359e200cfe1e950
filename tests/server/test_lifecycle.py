"""Leaving as a lame duck, in processes of their own, on SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health

import healthlb
from healthlb.errors import ConfigError
from healthlb.server import HealthServicer, serve_until_signal
from healthlb.server import aio as server_aio
from tests.backends.addresses import Reservation, port_of
from tests.backends.clients import Watching
from tests.server.leaving import wait_until_caught

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("sync", "aio", "hybrid")
NOT_SERVING = 2


class Leaving:
    """One of the servers of `tests.server.leaving`, which keeps its port over restarts."""

    def __init__(self, kind: str, drain: float) -> None:
        self._reservation = Reservation(["127.0.0.1:0"])
        self.port = port_of(self._reservation.addresses[0])
        self._arguments = [kind, str(self.port), str(drain)]
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.server.leaving", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        wait_until_caught(self._process.pid)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> tuple[str, int]:
        output, _ = self._process.communicate(timeout=60)
        return output, self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        self.kill()
        self._reservation.release()


@contextmanager
def leaving(kind: str, drain: float) -> Iterator[Leaving]:
    server = Leaving(kind, drain)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_shows_not_serving_drains_and_stops(kind: str) -> None:
    with leaving(kind, 1.0) as server, grpc.insecure_channel(server.address) as channel:
        watching, call = Watching(channel), channel.unary_unary("/test.Echo/Unary")
        assert watching.next() == 1
        begun = time.monotonic()
        server.terminate()

        assert watching.next() == NOT_SERVING
        assert call(b"still served", timeout=15) == b"still served"
        assert watching.next() == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == ("SIGTERM\n", 0)
        # The drain, and not the 10 s of grace that an open Watch would have taken.
        assert 1.0 <= time.monotonic() - begun < 8.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_ends_the_drain(kind: str) -> None:
    with leaving(kind, 60.0) as server, grpc.insecure_channel(server.address) as channel:
        watching = Watching(channel)
        assert watching.next() == 1
        server.terminate()
        assert watching.next() == NOT_SERVING
        server.terminate()

        assert server.wait() == ("SIGTERM\n", 0)


class Calls:
    """200 calls a second, never sent twice once they reached a server, and what became of each."""

    def __init__(self, channel: grpc.Channel, rate: float) -> None:
        self._call: Any = channel.unary_unary("/test.Echo/Unary")
        self._rate = rate
        self._is_over = threading.Event()
        self._pool = futures.ThreadPoolExecutor(64)
        self.outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._is_over.is_set():
            self._pool.submit(self._one)
            due += 1 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))

    def _one(self) -> None:
        try:
            self._call(b"ping", timeout=30)
            outcome = "OK"
        except grpc.RpcError as error:
            failed: Any = error
            outcome = f"{failed.code().name}: {failed.details()}"
        with self._lock:
            self.outcomes[outcome] += 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_fails_no_call(kind: str) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(leaving(kind, 1.5)) for _ in range(3)]
        channel = stack.enter_context(
            healthlb.HealthAwareChannel(
                [server.address for server in servers], failover=healthlb.Failover(idempotent=False)
            )
        )
        channel.wait_until_ready(30, min_ready=3)
        calls = Calls(channel, 200)
        stack.callback(calls.stop)
        for server in servers:
            server.terminate()
            server.wait()
            server.start()
            channel.wait_until_ready(30, min_ready=3)
        calls.stop()

    assert set(calls.outcomes) == {"OK"}
    assert calls.outcomes["OK"] > 500


@pytest.mark.parametrize("options", [{"drain": -1}, {"grace": None}])
async def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        serve_until_signal(grpc.server(futures.ThreadPoolExecutor(1)), HealthServicer(), **options)
    with pytest.raises(ConfigError, match=next(iter(options))):
        await server_aio.serve_until_signal(grpc.aio.server(), server_aio.HealthServicer(), **options)


@pytest.mark.parametrize("health", [server_aio.HealthServicer(), health.HealthServicer(), None])
def test_a_servicer_that_cannot_leave_is_refused_before_the_signal(health: Any) -> None:
    with pytest.raises(ConfigError, match=r"health must be a healthlb\.server\.HealthServicer"):
        serve_until_signal(grpc.server(futures.ThreadPoolExecutor(1)), health)


@pytest.mark.parametrize("health", [health.aio.HealthServicer(), health.HealthServicer(), None])
async def test_an_aio_servicer_that_cannot_leave_is_refused_before_the_signal(health: Any) -> None:
    with pytest.raises(ConfigError, match=r"health must be a healthlb\.aio\.HealthServicer"):
        await server_aio.serve_until_signal(grpc.aio.server(), health)


async def test_a_server_of_the_other_kind_is_refused_before_the_signal() -> None:
    with pytest.raises(ConfigError, match=r"await healthlb\.aio\.serve_until_signal"):
        serve_until_signal(grpc.aio.server(), HealthServicer())
    with pytest.raises(ConfigError, match=r"call healthlb\.server\.serve_until_signal"):
        await server_aio.serve_until_signal(grpc.server(futures.ThreadPoolExecutor(1)), HealthServicer())
