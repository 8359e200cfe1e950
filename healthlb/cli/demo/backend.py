"""One backend of the demo: a plain grpcio server with the stock health service, in its own process.

    python backend.py NAME PORT

Commands come as JSON lines on stdin, each answered by a line on stdout:
`{"set": "NOT_SERVING"}` changes the serving status, `{"stop": 1.0}` stops gracefully.

The one rule: end of file on stdin ends the process, so that it never outlives its parent.
It imports nothing of healthlb: it is the kind of server that healthlb meets elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "demo"
WORKERS = 16


class Backend:
    """The server and its serving status."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name.encode()
        self._health = health.HealthServicer()
        # The parent holds the port with SO_REUSEPORT, so that nobody takes it while we are down.
        self._server = grpc.server(ThreadPoolExecutor(WORKERS), options=(("grpc.so_reuseport", 1),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        say: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._say)
        echo = grpc.method_handlers_generic_handler("healthlb.demo.Echo", {"Say": say})
        self._server.add_generic_rpc_handlers((echo,))
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    def start(self) -> None:
        """Serve, with the status SERVING."""
        self.set_status("SERVING")
        self._server.start()

    def set_status(self, status: str) -> None:
        """Tell the watchers of the service, and of the whole server, a new status."""
        value = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        for service in ("", SERVICE):
            self._health.set(service, value)

    def stop(self, grace: float) -> None:
        """Take no more calls, and wait up to `grace` seconds for those in flight."""
        self._server.stop(grace).wait()

    def _say(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        return self._name + b" " + request


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(name: str, port: int) -> None:
    """Serve until told to stop, or until stdin ends."""
    backend = Backend(name, port)
    backend.start()
    _answer({"ready": port})
    for line in sys.stdin:
        match json.loads(line):
            case {"set": str(status)}:
                backend.set_status(status)
                _answer({"set": status})
            case {"stop": float(grace) | int(grace)}:
                backend.stop(grace)
                break


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent died between a command and its answer
        serve(sys.argv[1], int(sys.argv[2]))
    # Not sys.exit: that would wait for the worker threads, and so for calls nobody wants any more.
    os._exit(0)
