"""The proxy breaks connections the way each mode says, those that are open as well as new ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import grpc
import psutil
import pytest

from tests.backends import Backend
from tests.backends.clients import PATIENCE, SERVING, Watching, call, connected, eventually, failure
from tests.backends.proxy import ChaosProxy, Mode

SHORT = 0.2  # Seconds to look whether nothing comes.


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def proxy(backend: Backend) -> Iterator[ChaosProxy]:
    with ChaosProxy(backend.address) as proxy:
        yield proxy


@pytest.fixture
def channel(backend: Backend, proxy: ChaosProxy) -> Iterator[grpc.Channel]:
    with connected(backend, proxy.address) as channel:
        yield channel


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a TCP server that sends back what it reads, for tests below gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_echo, args=(server,))
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _echo(server: socket.socket) -> None:
    while True:
        try:
            end, _ = server.accept()
        except OSError:
            return
        with end:
            try:
                while chunk := end.recv(65536):
                    end.sendall(chunk)
            except OSError:
                continue


def dial(proxy: ChaosProxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def ping(end: socket.socket) -> bytes:
    end.sendall(b"ping")
    return end.recv(100)


def is_silent(end: socket.socket) -> bool:
    end.settimeout(SHORT)
    try:
        end.recv(100)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)
    return False


def test_pass_forwards_calls_and_watches(proxy: ChaosProxy, channel: grpc.Channel) -> None:
    assert call(channel) == b"b0"
    assert Watching(channel).next() == SERVING
    assert (proxy.mode, proxy.connections, proxy.accepted) == ("pass", 1, 1)


def test_large_messages_pass_whole(channel: grpc.Channel) -> None:
    body = bytes(range(256)) * 12_000

    assert channel.unary_unary("/test.Echo/Unary")(body, metadata=(("x-echo", "1"),), timeout=PATIENCE) == body


def test_blackhole_holds_open_connections_and_goes_on(proxy: ChaosProxy, channel: grpc.Channel) -> None:
    call(channel)
    proxy.set_mode("blackhole")
    error = failure(lambda: call(channel, timeout=SHORT))
    open_meanwhile = proxy.connections
    proxy.set_mode("pass")

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert open_meanwhile == 1
    assert call(channel) == b"b0"
    assert proxy.accepted == 1


def test_blackhole_accepts_and_holds_new_connections(echo: str) -> None:
    with ChaosProxy(echo) as proxy:
        proxy.set_mode("blackhole")
        with dial(proxy) as end:
            end.sendall(b"held")
            silent = is_silent(end)
            eventually(lambda: proxy.accepted == 1)
            proxy.set_mode("pass")

            assert silent
            assert end.recv(100) == b"held"


@pytest.mark.parametrize(("mode", "reaches"), [("half_up", True), ("half_down", False)])
def test_half_modes_let_one_direction_through(
    backend: Backend, proxy: ChaosProxy, channel: grpc.Channel, mode: Mode, reaches: bool
) -> None:
    call(channel)
    proxy.set_mode(mode)
    failure(lambda: call(channel, timeout=SHORT, id=mode))

    assert (mode in backend.stats().ids) is reaches


def test_drop_new_leaves_open_connections_alone(echo: str) -> None:
    with ChaosProxy(echo) as proxy, dial(proxy) as old:
        answer = ping(old)
        proxy.set_mode("drop_new")
        with dial(proxy) as new:
            new.sendall(b"waiting")

            assert answer == ping(old) == b"ping"
            assert is_silent(new)
            assert proxy.accepted == 1
            old.close()  # The echo server serves one connection at a time.
            proxy.set_mode("pass")
            assert new.recv(100) == b"waiting"


def test_reset_is_an_rst_to_old_and_new(echo: str) -> None:
    with ChaosProxy(echo) as proxy, dial(proxy) as old:
        ping(old)
        proxy.set_mode("reset")

        with pytest.raises(ConnectionResetError):
            old.recv(100)
        with pytest.raises(ConnectionResetError), dial(proxy) as new:
            new.recv(100)
        assert proxy.connections == 0


def test_close_is_a_fin_to_old_and_new(echo: str) -> None:
    with ChaosProxy(echo) as proxy, dial(proxy) as old:
        ping(old)
        proxy.set_mode("close")

        assert old.recv(100) == b""
        with dial(proxy) as new:
            assert new.recv(100) == b""


def test_refuse_resets_the_old_and_refuses_the_new(proxy: ChaosProxy, channel: grpc.Channel) -> None:
    watching = Watching(channel)
    watching.next()
    proxy.set_mode("refuse")

    assert watching.next() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.set_mode("pass")
    assert call(channel) == b"b0"


def test_delay_is_added_each_way_without_throttling(echo: str) -> None:
    with ChaosProxy(echo) as proxy, dial(proxy) as end:
        ping(end)
        proxy.set_mode("delay", seconds=0.1)
        began_at = time.monotonic()
        for _ in range(10):
            end.sendall(b"x")
            time.sleep(0.01)  # Apart from each other, or they would travel as one chunk.
        received = b""
        while len(received) < 10:
            received += end.recv(100)
        took = time.monotonic() - began_at

        # Ten chunks one after the other would take two seconds.
        assert 0.2 <= took < 1.5


def test_an_end_that_closes_is_passed_on_in_both_directions(echo: str) -> None:
    with ChaosProxy(echo) as proxy, dial(proxy) as end:
        end.sendall(b"last words")
        end.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := end.recv(100):
            received += chunk

        assert received == b"last words"
        eventually(lambda: proxy.connections == 0)


def test_a_dead_backend_is_a_reset(backend: Backend, proxy: ChaosProxy) -> None:
    backend.kill()
    try:
        with pytest.raises(ConnectionResetError), dial(proxy) as end:
            end.recv(100)
    finally:
        backend.restart()


def test_modes_may_be_switched_from_many_threads(proxy: ChaosProxy, channel: grpc.Channel) -> None:
    modes: tuple[Mode, ...] = ("blackhole", "reset", "refuse", "drop_new", "pass")
    threads = [threading.Thread(target=lambda: [proxy.set_mode(mode) for mode in modes * 10]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert call(channel) == b"b0"


def test_an_unknown_mode_is_refused(proxy: ChaosProxy) -> None:
    with pytest.raises(ValueError, match="mode 'slow' is none of pass, blackhole"):
        proxy.set_mode("slow")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["pass", "blackhole", "drop_new", "refuse"])
def test_close_leaks_nothing(echo: str, mode: Mode) -> None:
    descriptors, threads = psutil.Process().num_fds(), threading.active_count()
    proxy = ChaosProxy(echo)
    end = dial(proxy)
    ping(end)
    proxy.set_mode(mode)
    proxy.close()
    proxy.close()
    end.close()

    eventually(lambda: psutil.Process().num_fds() <= descriptors)
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="closed"):
        proxy.set_mode("pass")
