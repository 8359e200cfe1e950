"""Calls of every arity, kept up while backends come to harm, and what became of each.

One rule: what was executed is read from the servers, never taken from what clients say.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb import Failover
from tests.backends import Backend
from tests.backends.clients import eventually
from tests.parity.aio_face import AioClient
from tests.parity.face import ARITIES, METHODS, Client

_REQUESTS = (b"a", b"b")
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Made:
    """One call that has ended.

    Attributes:
        call_id: counted on the servers.
        arity: grpcio's name.
        responses: what came.
        code: how it ended.
        details: the text that it ended with.
        attempts: how many attempts the error tells of.
        has_begun: whether initial metadata came, and with it the response had begun.
    """

    call_id: str
    arity: str
    responses: tuple[bytes, ...]
    code: grpc.StatusCode
    details: str = ""
    attempts: int = 0
    has_begun: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether it ended with OK."""
        return self.code is grpc.StatusCode.OK

    @property
    def is_lost(self) -> bool:
        """Whether it failed though another backend could have served it.

        That is not one whose answer had begun: with a message of a stream, or with headers of its own (gRFC A6).
        """
        return not self.is_ok and not (self.responses if self.arity.endswith("stream") else self.has_begun)

    @property
    def is_whole(self) -> bool:
        """Whether the responses are what one backend would say, in order."""
        name, _, first = self.responses[0].partition(b":") if self.responses else (b"", b"", b"")
        wanted = {
            "unary_unary": (name,),
            "unary_stream": tuple(name + b":%d" % index for index in range(3)),
            "stream_unary": (name + b":%d" % len(_REQUESTS),),
            "stream_stream": tuple(name + b":" + request for request in _REQUESTS),
        }[self.arity]
        return self.responses == wanted if self.is_ok else self.responses == wanted[: len(self.responses)]


class Caller:
    """Makes calls of all arities one after the other, on lines of its own.

    Args:
        name: goes before the number in each call's id.
        client: what is called.
        lines: calls at a time.
        sleep: seconds that the server takes for each, in turn.
        pause: seconds between two calls of a line.
    """

    def __init__(
        self, name: str, client: Client, lines: int = 2, sleep: Sequence[float] = (0.0, 0.01), pause: float = 0.005
    ) -> None:
        """Prepare; nothing is called yet."""
        self.name = name
        self.client = client
        self.made: list[Made] = []
        self._lines = lines
        self._pause = pause
        self._sleeps = itertools.cycle(sleep)
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to call."""
        run = self._run_aio if isinstance(self.client, AioClient) else self._run_sync
        count = 1 if isinstance(self.client, AioClient) else self._lines
        self._threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no more calls."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the last call."""
        for thread in self._threads:
            thread.join(3 * _TIMEOUT)
            assert not thread.is_alive(), f"a call of {self.name} hangs"

    def _next(self) -> tuple[str, str, tuple[tuple[str, str], ...], int]:
        number = next(self._numbers)
        call_id = f"{self.name}-{number}"
        metadata = (("x-id", call_id), ("x-sleep", str(next(self._sleeps))))
        return call_id, ARITIES[number % 4], metadata, number // 4

    def _keep(self, call_id: str, arity: str, responses: list[bytes], error: Any) -> None:
        if error is None:
            self.made.append(Made(call_id, arity, tuple(responses), grpc.StatusCode.OK))
        else:
            attempts = len(getattr(error, "attempts", ()))
            details = error.details() or ""
            begun = bool(error.initial_metadata())
            self.made.append(Made(call_id, arity, tuple(responses), error.code(), details, attempts, begun))

    def _run_sync(self) -> None:
        channel = self.client.channel
        methods = {arity: getattr(channel, arity)(method) for arity, method in METHODS.items()}
        while not self._stop.is_set():
            call_id, arity, metadata, turn = self._next()
            responses: list[bytes] = []
            error = None
            try:
                for response in _call(methods[arity], arity, turn, metadata):
                    responses.append(response)
            except grpc.RpcError as failed:
                error = failed
            self._keep(call_id, arity, responses, error)
            self._stop.wait(self._pause)

    def _run_aio(self) -> None:
        self.client.run(lambda: asyncio.gather(*(self._line() for _ in range(self._lines))))

    async def _line(self) -> None:
        channel = self.client.channel
        methods = {arity: getattr(channel, arity)(method) for arity, method in METHODS.items()}
        while not self._stop.is_set():
            call_id, arity, metadata, turn = self._next()
            responses: list[bytes] = []
            error = None
            try:
                await _aio_call(methods[arity], arity, turn, metadata, responses)
            except grpc.RpcError as failed:
                error = failed
            self._keep(call_id, arity, responses, error)
            await asyncio.sleep(self._pause)


def _call(method: Any, arity: str, turn: int, metadata: Any) -> Any:
    request: Any = iter(_REQUESTS) if arity.startswith("stream") else b"ping"
    if arity.endswith("stream"):
        return method(request, timeout=_TIMEOUT, metadata=metadata)
    form = (method, method.future, lambda *a, **k: method.with_call(*a, **k)[0])[turn % 3]
    result = form(request, timeout=_TIMEOUT, metadata=metadata)
    return [result.result() if turn % 3 == 1 else result]


async def _aio_call(method: Any, arity: str, turn: int, metadata: Any, responses: list[bytes]) -> None:
    # Iterators and generators one time, one by one the other.
    if not arity.startswith("stream"):
        call = method(b"ping", timeout=_TIMEOUT, metadata=metadata)
    elif turn % 2:
        call = method(_generated(), timeout=_TIMEOUT, metadata=metadata)
    else:
        call = method(timeout=_TIMEOUT, metadata=metadata)
        try:
            for request in _REQUESTS:
                await call.write(request)
            await call.done_writing()
        except asyncio.InvalidStateError:
            # The call is over; what becomes of it is told below.
            pass
    if not arity.endswith("stream"):
        responses.append(await call)
    elif turn % 2:
        async for response in call:
            responses.append(response)
    else:
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)


async def _generated() -> Any:
    for request in _REQUESTS:
        yield request


class Ledger:
    """What callers and servers say after a storm.

    Args:
        backends: all that may have executed something.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        """Read the servers' journals."""
        self.executions: Counter[str] = Counter()
        for backend in backends:
            self.executions.update(backend.executed_ids())

    def twice(self, caller: Caller) -> list[tuple[Made, int]]:
        """Return the calls that were executed more than once."""
        return [(made, self.executions[made.call_id]) for made in caller.made if self.executions[made.call_id] > 1]

    def unserved(self, caller: Caller) -> list[Made]:
        """Return the calls that ended with OK and that no server knows of."""
        return [made for made in caller.made if made.is_ok and not self.executions[made.call_id]]


def storm(callers: Sequence[Caller], seconds: float, harm: Callable[[], None]) -> None:
    """Keep all callers calling while `harm` is done over and over, for about so long, and wait for their ends."""
    for caller in callers:
        caller.start()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            harm()
    finally:
        for caller in callers:
            caller.stop()
        for caller in callers:
            caller.join()


def view(client: Client, failover: Failover | None) -> Client:
    """Return a client of the same channel whose calls are tried by another policy."""
    viewed = copy.copy(client)
    viewed.channel = client.channel.with_failover(failover)
    return viewed


def in_flight(client: Client) -> int:
    """Return how many calls a channel counts as under way, over all its subchannels."""
    return sum(status.in_flight for status in client.subchannels())


def comes_to_rest(client: Client) -> None:
    """Wait until no call is counted as under way."""
    eventually(lambda: in_flight(client) == 0)


def told(calls: Sequence[Made]) -> Counter[tuple[str, str, str]]:
    """Count calls by arity, code and text, to be read in a failed test."""
    return Counter((made.arity, made.code.name, made.details[:90]) for made in calls)
