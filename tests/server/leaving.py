"""A server that leaves as a lame duck: `python -m tests.server.leaving sync|aio|hybrid PORT DRAIN`.

It answers /test.Echo/Unary with its process id after 20 ms, says "ready", and on SIGTERM does what the documentation
tells servers to do.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from healthlb.server import HealthServicer, serve_until_signal
from healthlb.server import aio as server_aio

_WORK = 0.02
_PATIENCE = 30.0


def wait_until_caught(pid: int) -> None:
    """Wait until a process has a handler for SIGTERM: before that the signal would just kill it."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError(f"process {pid} does not handle SIGTERM")


def main() -> None:
    """Serve until SIGTERM."""
    kind, port, drain = sys.argv[1], sys.argv[2], float(sys.argv[3])
    if kind == "sync":
        _serve(port, drain)
    else:
        # A program that is being moved to asyncio may still have the sync servicer.
        health = server_aio.HealthServicer() if kind == "aio" else HealthServicer()
        asyncio.run(_serve_aio(health, port, drain))


def _serve(port: str, drain: float) -> None:
    def answer(request: bytes, context: Any) -> bytes:
        time.sleep(_WORK)
        return request

    health = HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handler(answer),))
    health.add_to_server(server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    print(serve_until_signal(server, health, drain=drain, grace=10).name, flush=True)


async def _serve_aio(health: Any, port: str, drain: float) -> None:
    async def answer(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(_WORK)
        return request

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_handler(answer),))
    health.add_to_server(server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    received = await server_aio.serve_until_signal(server, health, drain=drain, grace=10)
    print(received.name, flush=True)


def _handler(answer: Any) -> Any:
    return grpc.method_handlers_generic_handler("test.Echo", {"Unary": grpc.unary_unary_rpc_method_handler(answer)})


if __name__ == "__main__":
    main()
