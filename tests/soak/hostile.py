"""Peers that do harm, all in one process: `python -m tests.soak.hostile` prints their addresses as JSON.

The one rule: none of them ever serves a call, so that each answer to a client came from a healthy backend.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
SETTINGS, GOAWAY = b"\0\0\0\4\0\0\0\0\0", b"\0\0\x08\7\0\0\0\0\0" + b"\0" * 8
WATCH = "/grpc.health.v1.Health/Watch"

Streams = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Watch = Callable[[Any], AsyncIterator[bytes]]
Unary = Callable[[bytes, Any], Awaitable[bytes]]


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and close."""


async def says_goaway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the preface with SETTINGS and GOAWAY, and close."""
    await reader.read(4096)
    writer.write(SETTINGS + GOAWAY)


async def says_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with random bytes, and close."""
    writer.write(random.randbytes(300))


async def says_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be a web server."""
    await reader.read(4096)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes and say nothing."""
    while await reader.read(65536):
        pass


async def stands(context: Any) -> AsyncIterator[bytes]:
    """Say SERVING, and stay."""
    yield SERVING
    await asyncio.Event().wait()


async def floods(context: Any) -> AsyncIterator[bytes]:
    """Alternate as fast as can be."""
    while True:
        yield NOT_SERVING
        yield SERVING


async def ends(context: Any) -> AsyncIterator[bytes]:
    """Say SERVING and end with an error, each time."""
    yield SERVING
    await asyncio.sleep(0.05)
    await context.abort(grpc.StatusCode.INTERNAL, "\x1b]0;gone\x07\r\nFAKE LINE")


async def is_big(context: Any) -> AsyncIterator[bytes]:
    """Say four megabytes of nothing."""
    yield b"\x12" + b"\xff" * 4_000_000


async def refuses(request: bytes, context: Any) -> bytes:
    """End each call with a status that says that it was not processed."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "\x1b[31mno\r\n" * 20)
    raise AssertionError


async def hangs(request: bytes, context: Any) -> bytes:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


class Handlers(grpc.GenericRpcHandler):
    """One Watch, and one way for all other calls."""

    def __init__(self, watch: Watch, unary: Unary) -> None:
        """Take both."""
        self._watch = watch
        self._unary = unary

    def service(self, details: Any) -> Any:
        """Find the handler."""
        if details.method != WATCH:
            return grpc.unary_unary_rpc_method_handler(self._unary)
        watch = self._watch

        async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for status in watch(context):
                yield status

        return grpc.unary_stream_rpc_method_handler(answer)


RAW: tuple[Streams, ...] = (closes, says_goaway, says_garbage, says_http1, is_silent)
SERVERS: tuple[tuple[Watch, Unary], ...] = (
    (floods, refuses),
    (ends, refuses),
    (is_big, refuses),
    (stands, hangs),
)


async def _listen(behave: Streams) -> str:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _kept.append(server)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _serve(watch: Watch, unary: Unary) -> str:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(watch, unary),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _kept.append(server)
    return f"127.0.0.1:{port}"


_kept: list[Any] = []


async def main() -> None:
    """Start them all, say where, and stay until stdin ends."""
    addresses = {behave.__name__: await _listen(behave) for behave in RAW}
    for watch, unary in SERVERS:
        addresses[f"{watch.__name__}-{unary.__name__}"] = await _serve(watch, unary)
    print(json.dumps(addresses), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
