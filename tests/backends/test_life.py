"""Starting, ending, pausing and restarting test servers, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import psutil
import pytest

from tests.backends import Backend, BackendError, start_backends
from tests.backends.addresses import Reservation
from tests.backends.clients import NOT_SERVING, PATIENCE, SERVING, UNARY, Watching, call, connected, eventually, failure
from tests.backends.process import ServerCrashed


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_many_start_at_once() -> None:
    backends = start_backends(4, services=("svc",))
    try:
        for index, backend in enumerate(backends):
            with connected(backend) as channel:
                assert call(channel) == b"b%d" % index
    finally:
        for backend in backends:
            backend.close()
    assert all(has_ended(backend.pid) for backend in backends)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_kill_and_restart_keep_the_port_and_the_ids(kind: str) -> None:
    with Backend(kind) as backend, connected(backend) as channel:
        call(channel, id="a")
        address, pid = backend.address, backend.pid
        backend.kill()
        dead = backend.is_running(), repr(backend)
        ids_meanwhile = backend.executed_ids()
        backend.restart()
        call(channel, id="a")

        assert dead == (False, f"<Backend b0 {kind} {address} down>")
        assert ids_meanwhile == {"a": 1}
        assert (backend.address, backend.pid == pid) == (address, False)
        assert backend.stats().ids == {"a": 2}
        assert backend.stats().executions == {"Unary": 1}


def test_a_call_that_dies_with_the_server_is_in_the_journal() -> None:
    with Backend() as backend, connected(backend) as channel:
        dying = channel.unary_unary(UNARY).future(b"", metadata=(("x-id", "lost"), ("x-sleep", "60")))
        eventually(lambda: backend.executed_ids() == {"lost": 1})
        backend.kill()

        assert failure(lambda: dying.result(PATIENCE)).code() == grpc.StatusCode.UNAVAILABLE


def test_connecting_to_a_dead_backend_is_refused() -> None:
    with Backend() as backend:
        backend.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", backend.port), PATIENCE)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_stop_lets_calls_in_flight_finish(kind: str) -> None:
    with Backend(kind) as backend, connected(backend) as channel:
        ongoing = channel.unary_unary(UNARY).future(b"", metadata=(("x-sleep", "0.3"),))
        eventually(lambda: backend.stats().in_flight == 1)
        backend.begin_stop(grace=60)
        answer = ongoing.result(PATIENCE)
        backend.wait_exit()

        assert answer == b"b0"
        backend.restart(status="NOT_SERVING")
        assert call(channel) == b"b0"


def test_a_status_given_to_one_restart_is_not_that_of_the_next() -> None:
    with Backend("sync") as backend, connected(backend) as channel:
        backend.restart(status="NOT_SERVING")
        assert Watching(channel).next() == NOT_SERVING
        backend.restart()
        assert Watching(channel).next() == SERVING


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_stop_cuts_what_outlasts_the_grace(kind: str) -> None:
    with Backend(kind) as backend, connected(backend) as channel:
        watching = Watching(channel)
        watching.next()
        began_at = time.monotonic()
        backend.stop(grace=0.2)
        took = time.monotonic() - began_at

        assert took >= 0.2
        assert watching.next() == grpc.StatusCode.UNAVAILABLE


def test_a_paused_server_is_silent_and_resumes() -> None:
    with Backend() as backend, connected(backend) as channel:
        call(channel)
        backend.pause()
        error = failure(lambda: call(channel, timeout=0.2))
        state = psutil.Process(backend.pid).status()
        backend.resume()

        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert state == psutil.STATUS_STOPPED
        assert call(channel) == b"b0"
        assert Watching(channel).next() == SERVING


def test_commands_work_while_every_worker_hangs() -> None:
    with Backend(options={"workers": 1}) as backend, connected(backend) as channel:
        hung = [channel.unary_unary(UNARY).future(b"", metadata=(("x-sleep", "60"),)) for _ in range(3)]
        eventually(lambda: backend.stats().in_flight == 1)
        backend.set("NOT_SERVING")
        backend.begin_stop(grace=0)
        backend.wait_exit()

        assert all(failure(lambda one=one: one.result(PATIENCE)) for one in hung)


def test_a_dead_server_takes_no_commands_but_may_be_ended_again() -> None:
    backend = Backend()
    backend.kill()
    with pytest.raises(BackendError, match="b0 is not running"):
        backend.set("SERVING")
    with pytest.raises(BackendError, match="did not stop"):
        backend.pause()
    backend.kill()
    backend.stop()
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="was closed"):
        backend.restart()


def test_a_crash_of_native_code_is_told_from_other_ends() -> None:
    with Backend(services=("svc",)) as backend:
        os.kill(backend.pid, signal.SIGSEGV)
        backend.wait_exit()
        with pytest.raises(ServerCrashed, match=r"crashed of SIGSEGV\n(.*\n)*Fatal Python error: Segmentation fault"):
            backend.set("SERVING")
        backend.stop()
        backend.restart()
        with connected(backend) as channel:
            assert call(channel) == b"b0"
        os.kill(backend.pid, signal.SIGTERM)
        backend.wait_exit()
        with pytest.raises(BackendError, match="is not running"):
            backend.set("SERVING")


def test_a_failed_start_shows_why() -> None:
    with pytest.raises(BackendError, match=r"b3 did not start[\s\S]*KeyError: 'certificate'"):
        Backend(name="b3", options={"tls": {"key": os.devnull}})


def test_two_servers_never_share_a_port() -> None:
    with Backend() as first, socket.socket() as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind(("127.0.0.1", first.port))


def test_a_reserved_port_is_handed_to_nobody_else() -> None:
    reservation = Reservation(["127.0.0.1:0"])
    port = int(reservation.addresses[0].rpartition(":")[2])
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
    finally:
        reservation.release()


def test_a_backend_outlives_the_thread_that_started_it() -> None:
    made: list[Backend] = []
    thread = threading.Thread(target=lambda: made.append(Backend()))
    thread.start()
    thread.join()
    with made[0] as backend, connected(backend) as channel:
        assert call(channel) == b"b0"


@pytest.mark.parametrize("state", ["running", "paused", "stopping", "killed"])
def test_close_leaves_nothing_whatever_the_state(state: str) -> None:
    descriptors = psutil.Process().num_fds()
    backend = Backend()
    match state:
        case "paused":
            backend.pause()
        case "stopping":
            backend.begin_stop(grace=60)
        case "killed":
            backend.kill()
    backend.close()

    assert not backend.is_running()
    assert has_ended(backend.pid)
    assert psutil.Process().num_fds() == descriptors


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "os.kill(os.getpid(), 9)", "os._exit(1)"])
def test_nothing_outlives_the_test_process(end: str) -> None:
    program = f"""
import os
from tests.backends import start_backends
running, paused = start_backends(2)
paused.pause()
print(running.pid, paused.pid, flush=True)
{end}
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    pids = [int(pid) for pid in run.stdout.split()]

    assert len(pids) == 2, run.stderr
    for pid in pids:
        eventually(lambda pid=pid: has_ended(pid))


def test_a_fork_of_the_test_process_leaves_the_servers_alone() -> None:
    program = """
import os, sys
from tests.backends import Backend
backend = Backend()
child = os.fork()
if not child:
    sys.exit()
os.waitpid(child, 0)
backend.set("NOT_SERVING")
print(backend.is_running())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)

    assert run.stdout == "True\n", run.stderr


def test_an_interrupt_of_the_test_does_not_reach_the_servers() -> None:
    with Backend() as backend:
        assert os.getpgid(backend.pid) != os.getpgid(0)
