from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.demo.fleet import BackendError, BackendProcess, Fleet
from healthlb.demo.traffic import METHOD

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet(2) as fleet:
        yield fleet


def said(backend: BackendProcess) -> bytes:
    with grpc.insecure_channel(backend.address, (("grpc.use_local_subchannel_pool", 1),)) as channel:
        return channel.unary_unary(METHOD)(b"ping", timeout=5, wait_for_ready=True)


def status_of(backend: BackendProcess, service: str) -> int:
    with grpc.insecure_channel(backend.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def test_each_answer_names_its_backend(fleet: Fleet) -> None:
    assert [said(backend) for backend in fleet.backends] == [b"0 ping", b"1 ping"]


def test_a_flip_is_done_when_the_call_returns(fleet: Fleet) -> None:
    backend = fleet.backends[0]

    assert status_of(backend, "demo") == health_pb2.HealthCheckResponse.SERVING
    backend.set_status("NOT_SERVING")
    assert status_of(backend, "demo") == status_of(backend, "") == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_killed_backend_comes_back_at_its_address(fleet: Fleet) -> None:
    backend = fleet.backends[1]
    address, pid = backend.address, backend.pid
    backend.kill()

    assert backend.pid is None
    assert not psutil.pid_exists(pid or 0)
    backend.launch()
    backend.await_ready()
    assert backend.address == address
    assert said(backend) == b"1 ping"


def test_a_frozen_backend_answers_after_it_is_woken(fleet: Fleet) -> None:
    backend = fleet.backends[0]
    backend.freeze()
    with grpc.insecure_channel(backend.address) as channel:
        future = channel.unary_unary(METHOD).future(b"ping", timeout=10)
        time.sleep(0.3)

        assert not future.done()
        backend.thaw()
        assert future.result() == b"0 ping"


def test_closing_ends_all_processes_a_frozen_one_too() -> None:
    with Fleet(3) as fleet:
        processes = [psutil.Process(backend.pid) for backend in fleet.backends]
        fleet.backends[1].freeze()
        fleet.backends[2].kill()

    assert not any(process.is_running() for process in processes)


def test_a_command_to_a_dead_backend_is_an_error(fleet: Fleet) -> None:
    backend = fleet.backends[0]
    psutil.Process(backend.pid).kill()
    psutil.Process(backend.pid).wait()

    with pytest.raises(BackendError, match=rf"backend {backend.address} (is gone|ended)"):
        backend.set_status("NOT_SERVING")
    backend.kill()
    with pytest.raises(BackendError, match="is not running"):
        backend.set_status("NOT_SERVING")


def test_a_backend_that_cannot_start_says_why() -> None:
    backend = BackendProcess(0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        backend._port = taken.getsockname()[1]
        backend.launch()
        with pytest.raises(BackendError, match=r"ended: .*RuntimeError"):
            backend.await_ready()
    backend.close()


PARENT = """
import sys, time
from healthlb.demo.fleet import Fleet
fleet = Fleet(3).__enter__()
fleet.backends[1].freeze()
print(*(backend.pid for backend in fleet.backends), flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        backends = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(backends, timeout=10)

    assert len(backends) == 3
    assert not alive
