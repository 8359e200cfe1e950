"""One backend of a calibration: a grpcio server that works as the simulator's does, in its own process.

    python server.py NUMBER PORT

A request is its work in nanoseconds: it waits for one of the slots, sleeps for its work, and is answered with how long
it was here in all, and how long in its slot. Commands come as JSON lines on stdin, each answered by a line on stdout:
`{"slots": 4}`, `{"errors": 16}` (each sixteenth call fails at once), `{"set": "NOT_SERVING"}`, `{"stop": 1.0}`.

End of file on stdin ends the process, so that it never outlives its parent. It imports nothing of
healthlb.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
import time
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "calibration"


class Server:
    """The server, its slots and its serving status."""

    def __init__(self, port: int) -> None:
        self._errors = self._calls = 0
        self._slots = asyncio.Semaphore(1)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        work = grpc.unary_unary_rpc_method_handler(self._work)  # type: ignore[var-annotated]
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("healthlb.Work", {"Do": work}),))
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    async def start(self) -> None:
        """Serve, with the status SERVING."""
        await self.obey({"set": "SERVING"})
        await self._server.start()

    async def obey(self, command: dict[str, Any]) -> bool:
        """Do as told; false for an order to stop."""
        match command:
            case {"slots": int(slots)}:
                self._slots = asyncio.Semaphore(slots)
            case {"errors": int(each)}:
                self._errors = each
            case {"set": str(status)}:
                value = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
                for service in ("", SERVICE):
                    await self._health.set(service, value)
            case {"stop": float(grace) | int(grace)}:
                await self._server.stop(grace)
                return False
        return True

    async def _work(self, request: bytes, context: Any) -> bytes:
        came_at = time.monotonic_ns()
        (work,) = struct.unpack("<Q", request)
        self._calls += 1
        # Evenly, not at random: the number of failures is to be no matter of luck.
        if self._errors and self._calls % self._errors == 0:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it was told to")
        async with self._slots:
            began_at = time.monotonic_ns()
            await asyncio.sleep(work / 1e9)
            ended_at = time.monotonic_ns()
        return struct.pack("<QQ", time.monotonic_ns() - came_at, ended_at - began_at)


async def serve(port: int) -> None:
    """Serve until told to stop, or until stdin ends."""
    server = Server(port)
    await server.start()
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    _answer({"ready": port})
    while line := await commands.readline():
        command = json.loads(line)
        if not await server.obey(command):
            break
        _answer(command)


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent died between a command and its answer
        asyncio.run(serve(int(sys.argv[2])))
    # Not sys.exit: nothing that is still open, a Watch for one, may keep the process alive.
    os._exit(0)
