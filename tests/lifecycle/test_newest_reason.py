"""Why a backend cannot be reached is told anew where that changes, though C-core stays in TRANSIENT_FAILURE."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import healthlb
import healthlb.aio
from tests.backends.clients import eventually

OTHER = "Failed parsing HTTP/2"


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nothing listens on, and that nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def no_grpc(port: int) -> Iterator[None]:
    """Have a server listen there that speaks something else."""
    listener = socket.create_server(("127.0.0.1", port))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64))

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def follow(reason: Callable[[], str], port: int) -> None:
    eventually(lambda: "Connection refused" in reason())
    with no_grpc(port):
        eventually(lambda: OTHER in reason())


def test_the_sync_face_tells_the_newest(port: int) -> None:
    with healthlb.HealthAwareChannel([f"127.0.0.1:{port}"]) as channel:
        channel.is_ready()
        follow(lambda: "".join(sub.reason for sub in channel.subchannels()), port)


async def test_the_asyncio_face_tells_the_newest(port: int) -> None:
    async with healthlb.aio.HealthAwareChannel([f"127.0.0.1:{port}"]) as channel:
        channel.is_ready()
        await asyncio.to_thread(follow, lambda: "".join(sub.reason for sub in channel.subchannels()), port)
