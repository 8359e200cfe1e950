"""Faults of real servers, and what they cost the calls: `python -m tests.benchmarks.faults`.

Each row is one fault of one of three servers (or of all). Each contestant makes 200 calls a second through it, open loop:
healthlb with its defaults and with the resilient preset, and grpcio's own round_robin with health checking and a
retryPolicy, all at the same time on the same servers. The methods are idempotent. Beside them healthlb makes calls of
methods that are not, of which none may be executed twice. What was executed is read from the servers' journals.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc

from healthlb import Failover, presets
from healthlb.core.messages import StateChange
from tests.backends import Backend, start_backends
from tests.backends.proxy import ChaosProxy
from tests.benchmarks.contestants import RETRYING_CONFIG, native_target
from tests.parity.aio_face import AioFace
from tests.parity.face import Asked, Client, Face, Facts, steering
from tests.parity.load import Load
from tests.parity.sync_face import SyncFace

RATE = 200
DEADLINES = (1.0, 0.3)
# Seconds: before the fault, and after its end.
BEFORE, AFTER = 1.5, 4.0
FAULT = 4.0
DEFAULTS, RESILIENT, NATIVE, CAREFUL = "healthlb", "resilient", "grpcio", "not idempotent"
SERVICE = "svc"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes:
        name: in words.
        begin: makes it happen, on three backends and the proxy before the first.
        end: ends it.
        seconds: between the two.
        kind, options: of the backends.
        is_one: whether it is the first backend's alone, which then may go out.
        is_cut: whether the way to it goes through the proxy.
        base: seconds that calls take without it.
    """

    name: str
    begin: Callable[[Sequence[Backend], ChaosProxy], object]
    end: Callable[[Sequence[Backend], ChaosProxy], object]
    seconds: float = FAULT
    kind: str = "sync"
    options: dict[str, Any] | None = None
    is_one: bool = True
    is_cut: bool = False
    base: float = 0.0


def _nothing(backends: Sequence[Backend], proxy: ChaosProxy) -> None:
    """Do nothing: the servers do it all the time, or it ends by itself."""


def _stop(backends: Sequence[Backend], proxy: ChaosProxy) -> None:
    backends[0].stop(grace=0.5)


def _keep_busy(backends: Sequence[Backend], proxy: ChaosProxy) -> None:
    def call() -> None:
        with grpc.insecure_channel(backends[0].address) as channel:
            channel.unary_unary("/test.Echo/Unary")(b"", metadata=(("x-sleep", "8"),), wait_for_ready=True)

    threading.Thread(target=call, daemon=True).start()


def _slow(seconds: float) -> Callable[[Sequence[Backend], ChaosProxy], None]:
    def behave(backends: Sequence[Backend], proxy: ChaosProxy) -> None:
        for backend in backends:
            backend.behave(sleep=seconds)

    return behave


ROWS = (
    Row("hangs (SIGSTOP)", lambda backends, proxy: backends[0].pause(), lambda backends, proxy: backends[0].resume()),
    Row("killed (SIGKILL)", lambda backends, proxy: backends[0].kill(), lambda backends, proxy: backends[0].restart()),
    Row(
        "cut off without a word",
        lambda backends, proxy: proxy.set_mode("blackhole"),
        lambda backends, proxy: proxy.set_mode("pass"),
        is_cut=True,
    ),
    Row("stops gracefully", _stop, lambda backends, proxy: backends[0].restart()),
    Row("its one thread is busy for 8 s", _keep_busy, _nothing, seconds=8.0, options={"workers": 1}),
    Row("all get ten times slower (5 to 50 ms)", _slow(0.05), _slow(0.005), is_one=False, base=0.005),
    Row(
        "connections end after 3 s",
        _nothing,
        _nothing,
        kind="max_age",
        options={"max_connection_age_ms": 3000},
        is_one=False,
    ),
    Row(
        "Watches end after 3 s",
        _nothing,
        _nothing,
        kind="watch_error",
        options={"messages": 1, "after": 3.0},
        is_one=False,
    ),
)  # fmt: skip


class Counted(Load):
    """A load each of whose calls servers know by an id of its own.

    Args:
        name: goes before the numbers.
        client: what is called.
        rate: calls a second.
        timeout: seconds, of each.
    """

    def __init__(self, name: str, client: Client, rate: float, timeout: float) -> None:
        """Prepare; nothing is called yet."""
        super().__init__(client, rate, timeout)
        self.name = name
        self.timeout = timeout

    def _run(self) -> None:
        due_at = time.monotonic()
        while not self._stop.wait(max(0.0, due_at - time.monotonic())):
            self._begun += 1
            metadata = steering({"id": f"{self.name}-{self._begun}"})
            self._client.fire(Asked(timeout=self.timeout, metadata=metadata), self._done)
            due_at += self._period


@dataclass(frozen=True, slots=True)
class Result:
    """What a fault came to for one contestant.

    Attributes:
        calls: that were made.
        lost: that failed.
        extra: executions beyond one for each call.
        twice: calls that were executed more than once.
        lost_until: seconds after the fault's beginning when the last call began that was lost, None for none.
        back: seconds after the fault's end when the first call began that the backend answered, None where there is no
            such thing.
        needless: exclusions of backends that nothing was wrong with, None where they are not told.
    """

    calls: int
    lost: int
    extra: int
    twice: int
    lost_until: float | None
    back: float | None
    needless: int | None


def clients_of(face: Face, addresses: Sequence[str]) -> dict[str, Client]:
    """Return the contestants' clients, READY."""
    config = RETRYING_CONFIG | {"healthCheckConfig": {"serviceName": SERVICE}}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    native = face._wrap(face._plain(native_target(addresses), options), Facts())
    face._clients.append(native)
    native.call(wait_for_ready=True)
    return {
        DEFAULTS: face.ready(addresses, failover=Failover(idempotent=True)),
        RESILIENT: face.ready(addresses, **presets.resilient(idempotent=True)),
        NATIVE: native,
        CAREFUL: face.ready(addresses),
    }


def play(row: Row, face: Face, deadline: float, before: float = BEFORE, after: float = AFTER) -> dict[str, Result]:
    """Let one fault happen and return what it came to for each contestant."""
    with ExitStack() as stack:
        backends = stack.enter_context(_backends(row))
        proxy = stack.enter_context(ChaosProxy(backends[0].address))
        addresses = [backend.address for backend in backends]
        if row.is_cut:
            addresses[0] = proxy.address
        clients = clients_of(face, addresses)
        loads = {
            name: Counted(name, client, RATE / 4 if name == CAREFUL else RATE, deadline)
            for name, client in clients.items()
        }
        with ExitStack() as running:
            for load in loads.values():
                running.enter_context(load)
            time.sleep(before)
            began_at = time.monotonic()
            row.begin(backends, proxy)
            time.sleep(max(0.0, began_at + row.seconds - time.monotonic()))
            row.end(backends, proxy)
            ended_at = time.monotonic()
            time.sleep(after)
        executed = sum((Counter(backend.executed_ids()) for backend in backends), Counter())
        at_fault = addresses[:1] if row.is_one else []
        results = {
            name: _result(load, clients[name], executed, at_fault, began_at, ended_at) for name, load in loads.items()
        }
        for client in clients.values():
            client.close()
        return results


@contextmanager
def _backends(row: Row) -> Iterator[list[Backend]]:
    backends = start_backends(3, row.kind, services=(SERVICE,), options=row.options)
    try:
        if row.base:
            _slow(row.base)(backends, None)  # type: ignore[arg-type]
        yield backends
    finally:
        for backend in backends:
            backend.close()


def _result(
    load: Counted, client: Client, executed: Counter[str], at_fault: Sequence[str], began_at: float, ended_at: float
) -> Result:
    lost = [outcome.began_at for outcome in load.failed()]
    counts = [count for call, count in executed.items() if call.rpartition("-")[0] == load.name]
    back = [o.began_at for o in load.outcomes if o.backend == "b0" and o.began_at >= ended_at]
    changes = [fact for fact in client.facts.of(StateChange) if fact.at / 1e9 >= began_at - BEFORE / 2]
    out = [fact for fact in changes if fact.new.name == "TRANSIENT_FAILURE" and fact.address not in at_fault]
    return Result(
        calls=len(load.outcomes),
        lost=len(lost),
        extra=sum(counts) - len(counts),
        twice=sum(count > 1 for count in counts),
        lost_until=max(lost) - began_at if lost else None,
        back=min(back) - ended_at if back and at_fault else None,
        needless=None if load.name == NATIVE else len(out),
    )


# --- the table -----------------------------------------------------------------------------------------


HEAD = (
    "| fault | face, deadline | lost: healthlb | resilient | grpcio | not idempotent: lost, executed twice "
    "| more executions: healthlb, resilient, grpcio | back after: healthlb, resilient, grpcio "
    "| needless exclusions: healthlb, resilient |\n" + "|---" * 9 + "|"
)


def line(row: str, face: str, deadline: float, results: Mapping[str, Result]) -> str:
    """Return a line of the table."""
    ours, resilient, native, careful = (results[name] for name in (DEFAULTS, RESILIENT, NATIVE, CAREFUL))
    cells = [
        row,
        f"{face}, {deadline:g} s",
        *(f"{result.lost} of {result.calls}" for result in (ours, resilient, native)),
        f"{careful.lost} of {careful.calls}, {careful.twice}",
        ", ".join(f"{100 * result.extra / max(1, result.calls):.1f} %" for result in (ours, resilient, native)),
        ", ".join(_seconds(result.back) for result in (ours, resilient, native)),
        f"{ours.needless}, {resilient.needless}",
    ]
    return f"| {' | '.join(cells)} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{max(0.0, value):.1f} s"


def main() -> None:
    """Play the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", type=int, action="append", help="number of a row, from 0; all where there is none")
    parser.add_argument("--face", choices=("sync", "aio"), action="append")
    parser.add_argument("--deadline", type=float, action="append")
    parser.add_argument("--json", help="a file for the figures")
    given = parser.parse_args()
    logging.getLogger("healthlb").setLevel(logging.CRITICAL)
    rows = ROWS if given.row is None else [ROWS[number] for number in given.row]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}", flush=True)
    print(HEAD, flush=True)
    figures = []
    for row in rows:
        for face_class in (SyncFace, AioFace):
            if given.face and face_class.name not in given.face:
                continue
            for deadline in given.deadline or DEADLINES:
                face = face_class()
                try:
                    results = play(row, face, deadline)
                finally:
                    face.close()
                print(line(row.name, face_class.name, deadline, results), flush=True)
                for name, result in results.items():
                    figures.append([row.name, face_class.name, deadline, name, *_values(result)])
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if given.json:
        with open(given.json, "w") as out:
            json.dump(figures, out)


def _values(result: Result) -> list[Any]:
    return [getattr(result, name) for name in Result.__slots__]


if __name__ == "__main__":
    main()
