"""The server of the differential tests: a process of its own, which does what the path of a method says.

A path is `/<run>/<arity>/<step>/<step>/...`; runs whose name begins with "s" are served slowly. The steps are done in
their order:

    call=0            does nothing; tells calls of one run apart
    head              send initial metadata
    sleep=20          wait for so many milliseconds
    hold              wait until the run is released, or the call is over
    stay              wait until the call is over
    early             answer without reading the requests (arities with a stream of requests)
    n=3               send so many responses (arities with a stream of responses); two without it
    trail             set trailing metadata
    code=NOT_FOUND    end with this status, by `set_code` and `set_details`
    abort=NOT_FOUND   end with this status, by `abort`
    raise             raise a ValueError
    fails=2:ABORTED   end the first two executions of this path with this status

With two streams, the requests are echoed after these steps, but before the last four.

Commands come as lines of JSON on standard input, and are answered on standard output: `report`, `started`,
`over`, `idle`, `release`.
Each has a number, so that they can be answered in any order.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

ENDS = ("code", "abort", "raise", "fails")
LONGEST_HOLD = 8.0
THREADS = 64


class Run:
    """What the server has seen of one run.

    Attributes:
        executions: a dictionary each, in the order in which they began.
        ongoing: how many of them are not over.
        held: how many have got to where they are held.
        is_released: whether those that are held may go on.
    """

    def __init__(self) -> None:
        """Have seen nothing."""
        self.executions: list[dict[str, Any]] = []
        self.ongoing = self.held = 0
        self.is_released = False
        self.by_path: dict[str, int] = defaultdict(int)


class Runs:
    """All runs, under one condition."""

    def __init__(self) -> None:
        """Know of none."""
        self.changed = threading.Condition()
        self._runs: dict[str, Run] = defaultdict(Run)

    def begin(self, run: str, path: str, context: grpc.ServicerContext) -> tuple[dict[str, Any], int]:
        """Note an execution; return its record, and the how manieth of its path it is, from 1."""
        record = {
            "path": path,
            "metadata": sorted([key, _text(value)] for key, value in context.invocation_metadata()),
            "deadline": _deadline(context.time_remaining()),
            "payloads": [],
            "end": "open",
        }
        with self.changed:
            entry = self._runs[run]
            entry.executions.append(record)
            entry.ongoing += 1
            entry.by_path[path] += 1
            number = entry.by_path[path]
            self.changed.notify_all()
        return record, number

    def end(self, record: dict[str, Any], how: str) -> None:
        """Note how an execution ended; the first word counts."""
        with self.changed:
            if record["end"] == "open":
                record["end"] = how

    def forget(self, run: str) -> None:
        """Note that a call is over."""
        with self.changed:
            self._runs[run].ongoing -= 1
            self.changed.notify_all()

    def hold(self, run: str, context: grpc.ServicerContext, *, may_go_on: bool) -> None:
        """Wait until the call is over or, where it may go on, the run is released."""
        entry = self._runs[run]
        with self.changed:
            entry.held += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: (may_go_on and entry.is_released) or not context.is_active(), LONGEST_HOLD)

    def report(self, run: str, count: int, patience: float) -> list[dict[str, Any]]:
        """Wait until `count` executions have begun and all are over; return and forget them all."""
        entry = self._runs[run]
        with self.changed:
            entry.is_released = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(entry.executions) >= count and not entry.ongoing, patience)
            return self._runs.pop(run).executions

    def started(self, run: str, count: int, patience: float) -> bool:
        """Wait until `count` executions have begun."""
        entry = self._runs[run]
        with self.changed:
            return self.changed.wait_for(lambda: len(entry.executions) >= count, patience)

    def held(self, run: str, count: int, patience: float) -> bool:
        """Wait until so many executions are held, or were."""
        entry = self._runs[run]
        with self.changed:
            return self.changed.wait_for(lambda: entry.held >= count, patience)

    def over(self, run: str, count: int, patience: float) -> bool:
        """Wait until `count` executions are over."""
        entry = self._runs[run]
        with self.changed:
            return self.changed.wait_for(lambda: len(entry.executions) - entry.ongoing >= count, patience)

    def idle(self, run: str, patience: float) -> bool:
        """Wait until no execution is under way; one that is held stays so."""
        entry = self._runs[run]
        with self.changed:
            return self.changed.wait_for(lambda: not entry.ongoing, patience)

    def release(self, run: str) -> None:
        """Let those that are held go on."""
        with self.changed:
            self._runs[run].is_released = True
            self.changed.notify_all()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _deadline(remaining: float | None) -> str:
    if remaining is None:
        return "none"
    return "within 2 s" if remaining <= 2 else "within 60 s" if remaining <= 60 else "far"


class Handler(grpc.GenericRpcHandler):
    """Serves every method whose path has an arity in its second place."""

    def __init__(self, runs: Runs) -> None:
        """Keep the runs."""
        self._runs = runs

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what the path says."""
        _, run, arity, *steps = [*details.method.split("/", 3), "", ""][:4]
        if arity not in ("uu", "us", "su", "ss"):
            return None
        execution = Execution(self._runs, run, f"{arity}/{steps[0]}")
        return {
            "uu": grpc.unary_unary_rpc_method_handler,
            "us": grpc.unary_stream_rpc_method_handler,
            "su": grpc.stream_unary_rpc_method_handler,
            "ss": grpc.stream_stream_rpc_method_handler,
        }[arity](execution.stream if arity.endswith("s") else execution.unary)


class Execution:
    """One execution of a method."""

    def __init__(self, runs: Runs, run: str, path: str) -> None:
        """Read the path."""
        self._runs, self._run, self._path = runs, run, path
        arity, *steps = path.split("/")
        self._reads_stream = arity.startswith("s")
        self._is_duplex = arity == "ss"
        self._steps: list[tuple[str, str]] = [step.partition("=")[::2] for step in steps if step]
        self._names = dict(self._steps)

    def unary(self, request: Any, context: grpc.ServicerContext) -> bytes:
        """Answer once."""
        return b"|".join(self._execute(request, context))

    def stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answer as often as the path says."""
        yield from self._execute(request, context)

    def _execute(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        if self._run.startswith("s"):
            time.sleep(0.02)
        record, number = self._runs.begin(self._run, self._path, context)
        if not context.add_callback(lambda: self._over(record)):
            self._over(record)
        try:
            yield from self._answers(request, context, record, number)
            self._runs.end(record, "answered")
        except GeneratorExit:
            raise
        except BaseException:
            self._runs.end(record, "failed")
            raise

    def _over(self, record: dict[str, Any]) -> None:
        self._runs.end(record, "cancelled")
        self._runs.forget(self._run)

    def _answers(
        self, request: Any, context: grpc.ServicerContext, record: dict[str, Any], number: int
    ) -> Iterator[bytes]:
        payloads = record["payloads"]
        if self._is_duplex and "early" not in self._names:
            for argument in self._do(context, number, [step for step in self._steps if step[0] not in ENDS]):
                yield b"first:%d" % argument
            for message in request:
                payloads.append(_text(message))
                yield b"echo:" + message
            yield from self._do(context, number, [step for step in self._steps if step[0] in ENDS])
            return
        if "early" not in self._names:
            for message in request if self._reads_stream else (request,):
                payloads.append(_text(message))
        for argument in self._do(context, number, self._steps):
            yield b"%d:%s" % (argument, "+".join(payloads).encode("latin-1"))

    def _do(self, context: grpc.ServicerContext, number: int, steps: list[tuple[str, str]]) -> Iterator[int]:
        """Do steps; yield a number for each response."""
        sent = False
        for name, argument in steps:
            if name == "n":
                yield from range(int(argument))
                sent = True
            else:
                self._step(name, argument, context, number)
        if not sent and not self._is_duplex:
            yield from range(2 if self._path.startswith(("us", "ss")) else 1)

    def _step(self, name: str, argument: str, context: grpc.ServicerContext, number: int) -> None:
        match name:
            case "head":
                context.send_initial_metadata((("head", "of the server"),))
            case "sleep":
                time.sleep(int(argument) / 1000)
            case "hold" | "stay":
                if "head" in self._names:
                    # Where it may go on at once, as after "sleep": plain loses initial metadata if the status follows.
                    time.sleep(0.02)
                self._runs.hold(self._run, context, may_go_on=name == "hold")
            case "trail":
                context.set_trailing_metadata((("trail", "of the server"), ("trail-bin", b"\x00\xff")))
            case "code":
                context.set_code(grpc.StatusCode[argument])
                context.set_details(f"set to {argument}")
            case "abort":
                context.abort(grpc.StatusCode[argument], f"aborted with {argument}")
            case "raise":
                raise ValueError("raised by the handler")
            case "fails":
                times, code = argument.split(":")
                if number <= int(times):
                    context.abort(grpc.StatusCode[code], f"execution {number} fails")


def serve(certificates: Path) -> None:
    """Serve on two ports, print them, and obey commands until standard input ends."""
    runs = Runs()
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), handlers=(Handler(runs),))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    pair = [((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())]
    ports = [
        server.add_insecure_port("127.0.0.1:0"),
        server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair)),
    ]
    server.start()
    print(json.dumps(ports), flush=True)
    lock = threading.Lock()
    for line in sys.stdin:
        threading.Thread(target=_obey, args=(runs, json.loads(line), lock), daemon=True).start()
    server.stop(None).wait(5)


def _obey(runs: Runs, command: list[Any], lock: threading.Lock) -> None:
    number, name, *arguments = command
    do: Callable[..., Any] = getattr(runs, name)
    answer = json.dumps([number, do(*arguments)])
    with lock:
        print(answer, flush=True)


if __name__ == "__main__":
    import logging

    logging.disable()
    serve(Path(sys.argv[1]))
