"""When a channel connects, and how its state is asked for in each face's own way."""

from __future__ import annotations

import asyncio
import queue
import socket
import time
from collections.abc import Callable, Iterator

import grpc
import grpc.aio
import pytest

from healthlb import ChannelClosed
from tests.backends import Backend
from tests.backends.clients import PATIENCE, UNARY, eventually, failure
from tests.backends.proxy import ChaosProxy
from tests.parity.aio_face import AioFace
from tests.parity.face import Client, Face
from tests.parity.fleet import Fleet, addresses

READY = grpc.ChannelConnectivity.READY
SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


class Seen(queue.SimpleQueue[grpc.ChannelConnectivity]):
    """A callback that keeps the states it is called with."""

    __call__ = queue.SimpleQueue.put

    def next(self) -> str:
        """Return the next one's name."""
        return self.get(timeout=PATIENCE).name


@pytest.fixture
def stock(fleet: Fleet) -> Iterator[tuple[Backend, ChaosProxy]]:
    """A backend, and a proxy that counts connections to it."""
    (backend,) = fleet.lend()
    with ChaosProxy(backend.address) as proxy:
        yield backend, proxy


def test_a_channel_is_idle_until_it_is_asked(face: Face, stock: tuple[Backend, ChaosProxy]) -> None:
    backend, proxy = stock
    before = backend.stats().watches_started
    idle = face.open([proxy.address])
    idle.run(lambda: idle.channel.unary_unary(UNARY))
    if face.name == "sync":
        idle.channel.subscribe(Seen())
    else:
        idle.run(lambda: idle.channel.get_state(try_to_connect=False))
    # Time for it to have connected, had it been about to.
    assert face.ready([backend.address]).call() == "b0"

    assert (idle.state(), idle.subchannels()) == ("IDLE", ())
    assert proxy.accepted == 0
    assert backend.stats().watches_started == before + 1
    assert idle.call() == "b0"
    assert proxy.accepted >= 1


def test_a_channel_that_was_never_used_closes(face: Face, stock: tuple[Backend, ChaosProxy]) -> None:
    _, proxy = stock
    client = face.open([proxy.address])
    client.close()
    client.close()

    assert client.state() == "SHUTDOWN"
    assert proxy.accepted == 0


@pytest.mark.parametrize("is_used", [False, True])
def test_a_closed_channel_takes_no_calls(face: Face, stock: tuple[Backend, ChaosProxy], is_used: bool) -> None:
    backend, _ = stock
    client = face.ready([backend.address]) if is_used else face.open([backend.address])
    client.close()

    for act in (client.call, client.start, client.wait_until_ready):
        with pytest.raises((ChannelClosed, grpc.RpcError)):
            act()
    assert client.state() == "SHUTDOWN"


def test_a_port_that_is_refused_at_first_is_connected_once_somebody_listens(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.kill()
    client = face.open([backend.address])
    error = failure(client.call)
    waiting = client.start(wait_for_ready=True, timeout=None)
    backend.restart(status="SERVING")

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "refused" in error.details().lower()
    assert waiting.result() == b"b0"
    assert client.call() == "b0"


def test_a_host_name_in_a_list_is_one_subchannel(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(host="localhost")
    client = face.ready([backend.address])

    assert backend.address.startswith("localhost:")
    assert client.call() == "b0"
    assert [status.address for status in client.subchannels()] == [backend.address]


@pytest.mark.parametrize("host", ["[::1]:0", "unix:"])
def test_other_families_work_too(face: Face, fleet: Fleet, host: str) -> None:
    if host.startswith("[") and not _has_ipv6():
        pytest.skip("this machine has no ::1")
    (backend,) = fleet.lend(options={"hosts": [host, "127.0.0.1:0"]})
    client = face.ready(list(backend.addresses))
    before = [status.picks for status in client.subchannels()]
    for _ in range(4):
        client.call()

    assert before == [0, 0]
    assert [status.successes for status in client.subchannels()] == [2, 2]


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_closing_gives_connections_back_as_native_does(face: Face, stock: tuple[Backend, ChaosProxy]) -> None:
    _, proxy = stock

    def close_many(make: Callable[[], Client]) -> float:
        began_at = time.monotonic()
        for _ in range(5):
            client = make()
            client.call(wait_for_ready=True)
            client.close()
            eventually(lambda: proxy.connections == 0)
        return time.monotonic() - began_at

    native = close_many(lambda: face.native([proxy.address]))

    assert close_many(lambda: face.open([proxy.address])) < native + 3.0


# The sync face's own ways


def test_sync_subscribe_tells_every_change_in_order(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = sync_face.open([backend.address])
    seen = Seen()
    client.channel.subscribe(seen)
    assert seen.next() == "IDLE"
    client.channel.subscribe(other := Seen(), try_to_connect=True)
    states = [seen.next(), seen.next()]
    backend.set("NOT_SERVING", "svc")
    states.append(seen.next())
    backend.set("SERVING", "svc")
    states.append(seen.next())

    assert states == ["CONNECTING", "READY", "TRANSIENT_FAILURE", "READY"]
    assert other.next() == "IDLE"


def test_sync_unsubscribe_ends_it(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = sync_face.ready([backend.address])
    kept, dropped = Seen(), Seen()
    for callback in (kept, dropped):
        client.channel.subscribe(callback)
        assert callback.next() == "READY"
    client.channel.unsubscribe(dropped)
    client.channel.unsubscribe(print)
    backend.set("NOT_SERVING", "svc")

    assert kept.next() == "TRANSIENT_FAILURE"
    assert dropped.empty()
    client.close()
    assert kept.next() == "SHUTDOWN"


def test_sync_channel_ready_future(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = sync_face.open([backend.address])
    future = grpc.channel_ready_future(client.channel)
    client.wait_for_states("T")
    assert not future.done()
    backend.set("SERVING", "svc")

    assert future.result(PATIENCE) is None
    assert client.call() == "b0"


def test_sync_channel_ready_future_times_out(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    future = grpc.channel_ready_future(sync_face.open([backend.address]).channel)

    with pytest.raises(grpc.FutureTimeoutError):
        future.result(0.2)
    assert future.cancel() is True


# The aio face's own ways


def test_aio_get_state_connects_where_asked(aio_face: AioFace, stock: tuple[Backend, ChaosProxy]) -> None:
    _, proxy = stock
    client = aio_face.open([proxy.address])
    first = client.run(lambda: client.channel.get_state(try_to_connect=True))
    client.wait_for_states("R")

    assert first is not READY
    assert client.run(client.channel.get_state) is READY


def test_aio_wait_for_state_change_sees_each(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = aio_face.open([backend.address])

    async def follow(wanted: list[str]) -> None:
        for name in wanted:
            state = client.channel.get_state(try_to_connect=True)
            while state.name != name:
                await asyncio.wait_for(client.channel.wait_for_state_change(state), PATIENCE)
                state = client.channel.get_state()

    client.run(lambda: follow(["READY"]))
    backend.set("NOT_SERVING", "svc")
    client.run(lambda: follow(["TRANSIENT_FAILURE"]))
    backend.set("SERVING", "svc")
    client.run(lambda: follow(["READY"]))

    assert client.call() == "b0"


def test_aio_channel_ready_waits_for_health(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = aio_face.open([backend.address])

    async def begun() -> asyncio.Task[None]:
        return asyncio.create_task(client.channel.channel_ready())

    waiting = aio_face.loop.run(begun())
    client.wait_for_states("T")
    assert not waiting.done()
    backend.set("SERVING", "svc")

    client.run(lambda: asyncio.wait_for(waiting, PATIENCE))
    assert client.run(client.channel.get_state) is READY


def test_aio_channel_ready_ends_with_the_channel(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = aio_face.open([backend.address])

    async def close_meanwhile() -> None:
        waiting = asyncio.create_task(client.channel.channel_ready())
        await asyncio.sleep(0)
        await client.channel.close()
        await asyncio.wait_for(waiting, PATIENCE)

    with pytest.raises(grpc.aio.UsageError):
        client.run(close_meanwhile)
    assert client.run(client.channel.get_state) is SHUTDOWN


def test_aio_close_with_a_grace_lets_calls_end(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = aio_face.ready([backend.address])
    call = client.start(sleep=0.3)
    eventually(lambda: backend.stats().in_flight == 1)
    client.run(lambda: client.channel.close(grace=PATIENCE))

    assert call.result() == b"b0"
    assert client.state() == "SHUTDOWN"


def test_faces_side_by_side_do_not_disturb_each_other(faces: tuple[Face, Face], fleet: Fleet) -> None:
    backends = fleet.lend(2)
    for _ in range(3):
        clients = [face.ready(addresses(backends)) for face in faces]
        assert [{client.call() for _ in range(2)} for client in clients] == [{"b0", "b1"}] * 2
        clients[0].close()
        assert {clients[1].call() for _ in range(2)} == {"b0", "b1"}
        clients[1].close()
