"""One backend of the demo: a plain grpcio server with the stock health service, in its own process.

    python backend.py NAME PORT

Commands come as JSON lines on stdin, each answered by a line on stdout:
`{"set": "NOT_SERVING"}` changes the serving status, `{"stop": 1.0}` stops gracefully.

End of file on stdin ends the process, so that it never outlives its parent.
It imports nothing of healthlb: it is the kind of server that healthlb meets elsewhere. It is an
asyncio server because the stock servicer for threads (grpcio-health-checking 1.85.1) can lock its
whole server up: one thread sends a status under the servicer's lock and waits for the serving
thread, which waits for that lock to clean up after another Watch (grpc#43403). A backend that
wakes from SIGSTOP, with an old Watch ending and a new one beginning, is such a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "demo"


class Backend:
    """The server and its serving status."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name.encode()
        self._health = health.aio.HealthServicer()
        # The parent holds the port with SO_REUSEPORT, so that nobody takes it while we are down.
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        say = grpc.unary_unary_rpc_method_handler(self._say)  # type: ignore[var-annotated]
        echo = grpc.method_handlers_generic_handler("healthlb.demo.Echo", {"Say": say})
        self._server.add_generic_rpc_handlers((echo,))
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    async def start(self) -> None:
        """Serve, with the status SERVING."""
        await self.set_status("SERVING")
        await self._server.start()

    async def set_status(self, status: str) -> None:
        """Tell the watchers of the service, and of the whole server, a new status."""
        value = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        for service in ("", SERVICE):
            await self._health.set(service, value)

    async def stop(self, grace: float) -> None:
        """Take no more calls, and wait up to `grace` seconds for those in flight."""
        await self._server.stop(grace)

    async def _say(self, request: bytes, context: object) -> bytes:
        return self._name + b" " + request


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def serve(name: str, port: int) -> None:
    """Serve until told to stop, or until stdin ends."""
    backend = Backend(name, port)
    await backend.start()
    commands = await _commands()
    _answer({"ready": port})
    while line := await commands.readline():
        match json.loads(line):
            case {"set": str(status)}:
                await backend.set_status(status)
                _answer({"set": status})
            case {"stop": float(grace) | int(grace)}:
                await backend.stop(grace)
                break


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent died between a command and its answer
        asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
    # Not sys.exit: nothing that is still open, a Watch for one, may keep the process alive.
    os._exit(0)
