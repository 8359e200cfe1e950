"""What `-tls-no-verify` takes: grpcio always verifies, so TLS is done here and gRPC speaks plaintext to this end.

This is for this one probe only, over a socket in a folder that nobody else may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future

_CHUNK = 65536


@contextlib.contextmanager
def unverified(address: str, client: tuple[str, str] | None) -> Iterator[str]:
    """Yield an address under which the server at `address` is reached without TLS.

    Args:
        address: host:port, or unix:PATH.
        client: files of the client's certificate and key, None for none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if client is not None:
        context.load_cert_chain(*client)
    opened: Future[Callable[[], object]] = Future()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        tunnel = _tunnel(path, lambda: _connect(address, context), opened)
        thread = threading.Thread(target=asyncio.run, args=(tunnel,), name="healthlb-unverified", daemon=True)
        thread.start()
        close = opened.result()
        try:
            yield f"unix:{path}"
        finally:
            close()
            thread.join()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _tunnel(path: str, connect: Callable[[], Awaitable[_Streams]], opened: Future[Callable[[], object]]) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Where there is no connection, gRPC tries again until its time is up.
        with contextlib.closing(writer.transport), contextlib.suppress(OSError, ValueError):
            far_reader, far_writer = await connect()
            try:
                await _until_one_ends(_pump(reader, far_writer), _pump(far_reader, writer))
            finally:
                far_writer.transport.abort()

    server = await asyncio.start_unix_server(carry, path)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    opened.set_result(lambda: loop.call_soon_threadsafe(ended.set))
    await ended.wait()
    server.close()


async def _until_one_ends(*pumps: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _connect(address: str, context: ssl.SSLContext) -> _Streams:
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        return await asyncio.open_unix_connection(path, ssl=context, server_hostname="localhost")
    host, _, port = address.rpartition("/")[2].rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
