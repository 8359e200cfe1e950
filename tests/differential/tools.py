"""What programs are made of: serializers, requests of every kind, interceptors, credentials."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import pickle
import time
from collections import namedtuple
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from tests.differential.describe import describe_error, kind_of_seconds

if TYPE_CHECKING:
    from tests.differential.observer import Observer

USER: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
SINGLE = ("SingleThreadedUnaryStream", 1)

# --- serializers and deserializers -----------------------------------------------------------------


def joined(request: list[bytes]) -> bytes:
    """Serialize a list, which its caller may change."""
    return b"".join(request)


def user(request: list[bytes]) -> bytes:
    """Serialize a list, and who asks."""
    return b"".join(request) + b" for " + USER.get().encode()


def failing(value: Any) -> Any:
    """Serialize or deserialize nothing."""
    raise ValueError("no such message")


def nothing(value: Any) -> Any:
    """Serialize or deserialize into None."""


def text(value: Any) -> Any:
    """Deserialize into, or serialize wrongly into, a string."""
    return value.decode() if isinstance(value, bytes) else "text"


# --- iterators of requests -------------------------------------------------------------------------


def generator(see: Observer, lane: str, count: int) -> Iterator[list[bytes]]:
    """Yield requests, and note where, and what becomes of the generator."""
    try:
        for number in range(count):
            see.here(lane, f"yields {number}")
            yield [b"request %d" % number]
        see.here(lane, "exhausted")
    except GeneratorExit:
        see.note(lane, "closed")
        raise


async def agenerator(see: Observer, lane: str, count: int) -> AsyncIterator[list[bytes]]:
    """Yield requests, and note where, and what becomes of the generator."""
    token = USER.set(f"reader of {lane}")
    try:
        for number in range(count):
            see.here(lane, f"yields {number}")
            yield [b"request %d" % number]
        see.here(lane, "exhausted")
    finally:
        try:
            USER.reset(token)
            see.note(lane, "over")
        except ValueError:
            see.note(lane, "over in another context")


async def timed(see: Observer, lane: str) -> AsyncIterator[list[bytes]]:
    """Yield one request, wait for longer than is allowed, and yield another."""
    yield [b"before"]
    try:
        async with asyncio.timeout(0.03):
            await asyncio.sleep(5)
    except TimeoutError:
        see.note(lane, "timed out")
    yield [b"after"]


async def asleep(see: Observer, lane: str) -> AsyncIterator[list[bytes]]:
    """Yield one request and sleep; note that it was ended."""
    try:
        yield [b"before"]
        await asyncio.sleep(60)
    finally:
        see.note(lane, "over")


def slow(count: int) -> Iterator[list[bytes]]:
    """Yield requests, each a little late."""
    for number in range(count):
        time.sleep(0.01)
        yield [b"slow %d" % number]


async def aslow(count: int) -> AsyncIterator[list[bytes]]:
    """Yield requests, each a little late."""
    for number in range(count):
        await asyncio.sleep(0.01)
        yield [b"slow %d" % number]


def raising(count: int) -> Iterator[list[bytes]]:
    """Yield so many requests, and raise."""
    for number in range(count):
        yield [b"request %d" % number]
    raise ValueError("no more requests")


async def araising(count: int) -> AsyncIterator[list[bytes]]:
    """Yield so many requests, and raise."""
    for number in range(count):
        yield [b"request %d" % number]
    raise ValueError("no more requests")


class Countdown:
    """An iterator that is a class, of a list that it reuses."""

    def __init__(self, count: int) -> None:
        """Yield so many."""
        self._count = count
        self._request = [b""]

    def __iter__(self) -> Iterator[list[bytes]]:
        return self

    def __next__(self) -> list[bytes]:
        if not self._count:
            raise StopIteration
        self._count -= 1
        self._request[0] = b"%d left" % self._count
        return self._request


class AsyncCountdown:
    """An asynchronous iterator that is a class, of a list that it reuses."""

    def __init__(self, count: int) -> None:
        """Yield so many."""
        self._requests = Countdown(count)

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        return self

    async def __anext__(self) -> list[bytes]:
        for request in self._requests:
            return request
        raise StopAsyncIteration


# --- errors and calls ------------------------------------------------------------------------------


def pickled(error: Any) -> str:
    """Pickle `error`, and describe what is loaded."""
    return describe_error(pickle.loads(pickle.dumps(error)))


def copied(error: Any) -> str:
    """Describe a copy of `error`."""
    return describe_error(copy.copy(error))


def deepcopied(error: Any) -> str:
    """Describe a deep copy of `error`."""
    return describe_error(copy.deepcopy(error))


def remaining(call: Any) -> str:
    """Return how much time a call has left, coarsely."""
    return kind_of_seconds(call.time_remaining())


def some(call: Any, count: int) -> list[Any]:
    """Return the next responses."""
    return [next(call) for _ in range(count)]


async def asome(call: Any, count: int) -> list[Any]:
    """Return the next responses, and stop reading."""
    responses: list[Any] = []
    async for response in call:
        responses.append(response)
        if len(responses) == count:
            break
    return responses


async def alist(call: Any) -> list[Any]:
    """Return all responses."""
    return [response async for response in call]


async def aread(call: Any) -> list[Any]:
    """Return all responses, read one by one."""
    responses: list[Any] = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


async def awaited(call: Any) -> Any:
    """Await a call, as the coroutine of a task."""
    return await call


async def in_group(*calls: Any) -> list[Any]:
    """Await calls in a TaskGroup."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(awaited(call)) for call in calls]
    return [task.result() for task in tasks]


async def cancelled(call: Any, turns: int) -> Any:
    """Await a call in a task that is cancelled after some turns of the loop."""
    task = asyncio.ensure_future(awaited(call))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    return await task


async def as_user(name: str, make: Any) -> Any:
    """Make a call in a task of its own, in which USER is `name`."""
    USER.set(name)
    return make()


def collect() -> None:
    """Collect garbage."""
    gc.collect()


# --- credentials -----------------------------------------------------------------------------------


class Token(grpc.AuthMetadataPlugin):
    """Call credentials that give a token."""

    def __init__(self, token: str) -> None:
        """Give this one."""
        self._token = token

    def __call__(self, context: Any, callback: Any) -> None:
        callback((("authorization", self._token),), None)


class Refusing(grpc.AuthMetadataPlugin):
    """Call credentials that fail."""

    def __call__(self, context: Any, callback: Any) -> None:
        raise ValueError("no token")


def credentials(plugin: grpc.AuthMetadataPlugin) -> grpc.CallCredentials:
    """Return call credentials of `plugin`."""
    return grpc.metadata_call_credentials(plugin)


# --- interceptors ----------------------------------------------------------------------------------


class _Details(
    namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")),
    grpc.ClientCallDetails,
):
    """Call details of the sync face."""


class Intercepting(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Intercepts calls of all arities of the sync face."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self.intercept(continuation, details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return self.intercept(continuation, details, request)

    def intercept_stream_unary(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return self.intercept(continuation, details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return self.intercept(continuation, details, request_iterator)

    def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        """Go on."""
        return continuation(self.change(details), request)

    def change(self, details: Any) -> Any:
        """Return other details."""
        return details


def changed(details: Any, **fields: Any) -> Any:
    """Return details with other fields."""
    names = ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")
    return _Details(**{name: getattr(details, name, None) for name in names} | fields)


class Pairs(Intercepting):
    """Adds metadata."""

    def change(self, details: Any) -> Any:
        return changed(details, metadata=[*(details.metadata or ()), ("added", "by an interceptor")])


class Renaming(Intercepting):
    """Calls another method: `old` in its path becomes `new`."""

    def __init__(self, old: str, new: str) -> None:
        """Replace one text by another."""
        self._old, self._new = old, new

    def change(self, details: Any) -> Any:
        return changed(details, method=details.method.replace(self._old, self._new))


class Limiting(Intercepting):
    """Sets a timeout."""

    def __init__(self, timeout: float) -> None:
        """Set this one, in seconds."""
        self._timeout = timeout

    def change(self, details: Any) -> Any:
        return changed(details, timeout=self._timeout)


class Telling(Intercepting):
    """Notes what it is given."""

    def __init__(self, see: Observer, name: str) -> None:
        """Note it in a lane of the method."""
        self._see, self._name = see, name

    def change(self, details: Any) -> Any:
        path = details.method.split("/", 2)[2]
        self._see.here(f"interceptors of {path}", f"{self._name} {details.metadata}")
        return details


class Refused(Intercepting):
    """Raises."""

    def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        raise ValueError("refused by an interceptor")


class Twice(Intercepting):
    """Makes the call twice, if it is made with one request."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        continuation(details, request).exception()
        return continuation(details, request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        with contextlib.suppress(grpc.RpcError):
            list(continuation(details, request))
        return continuation(details, request)


class AsyncIntercepting:
    """Intercepts calls of one arity or more of the asyncio face; see `aio_interceptors`."""

    async def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        """Go on."""
        return await continuation(self.change(details), request)

    def change(self, details: Any) -> Any:
        """Return other details."""
        return details


class _AsyncUnaryUnary(AsyncIntercepting, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self.behind.intercept(continuation, details, request)  # type: ignore[attr-defined]


class _AsyncUnaryStream(AsyncIntercepting, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self.behind.intercept(continuation, details, request)  # type: ignore[attr-defined]


class _AsyncStreamUnary(AsyncIntercepting, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return await self.behind.intercept(continuation, details, request_iterator)  # type: ignore[attr-defined]


class _AsyncStreamStream(AsyncIntercepting, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return await self.behind.intercept(continuation, details, request_iterator)  # type: ignore[attr-defined]


_ASYNC_KINDS = (_AsyncUnaryUnary, _AsyncUnaryStream, _AsyncStreamUnary, _AsyncStreamStream)


def for_all(*interceptors: AsyncIntercepting) -> list[grpc.aio.ClientInterceptor]:
    """Return interceptors of each arity for each of these: grpc.aio takes one that has several kinds for one only."""
    made: list[Any] = []
    for interceptor in interceptors:
        for kind in _ASYNC_KINDS:
            one = kind()
            one.behind = interceptor  # type: ignore[attr-defined]
            made.append(one)
    return made


def achanged(details: Any, **fields: Any) -> Any:
    """Return details of the asyncio face with other fields."""
    return grpc.aio.ClientCallDetails(**details._asdict() | fields)


class AsyncPairs(AsyncIntercepting):
    """Adds metadata."""

    def change(self, details: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("added", "by an interceptor"))
        return achanged(details, metadata=metadata)


class AsyncRenaming(AsyncIntercepting):
    """Calls another method: `old` in its path becomes `new`."""

    def __init__(self, old: bytes, new: bytes) -> None:
        """Replace one text by another."""
        self._old, self._new = old, new

    def change(self, details: Any) -> Any:
        method = details.method if isinstance(details.method, bytes) else details.method.encode()
        return achanged(details, method=method.replace(self._old, self._new))


class AsyncLimiting(AsyncIntercepting):
    """Sets a timeout."""

    def __init__(self, timeout: float) -> None:
        """Set this one, in seconds."""
        self._timeout = timeout

    def change(self, details: Any) -> Any:
        return achanged(details, timeout=self._timeout)


class AsyncTelling(AsyncIntercepting):
    """Notes what it is given."""

    def __init__(self, see: Observer, name: str) -> None:
        """Note it in a lane of the method."""
        self._see, self._name = see, name

    def change(self, details: Any) -> Any:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        pairs = None if details.metadata is None else [tuple(pair) for pair in details.metadata]
        kinds = f"{type(details.method).__name__} {type(details.metadata).__name__} {details.wait_for_ready}"
        path = method.split("/", 2)[2]
        self._see.here(f"interceptors of {path}", f"{self._name} {pairs} {kinds}")
        return details


class AsyncRefused(AsyncIntercepting):
    """Raises."""

    async def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        raise ValueError("refused by an interceptor")


class AsyncOwn(AsyncIntercepting):
    """Answers itself, where one response is expected: awaits the call, and returns something else."""

    async def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)
        if isinstance(call, grpc.aio.UnaryUnaryCall | grpc.aio.StreamUnaryCall):
            return b"instead of " + await call
        return call


class AsyncTwice(AsyncIntercepting):
    """Makes the call twice, if it is made with one request."""

    async def intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        if isinstance(request, list):
            first = await continuation(details, request)
            await first.code() if isinstance(first, grpc.aio.UnaryUnaryCall) else first.cancel()
        return await continuation(details, request)


def names() -> Iterable[tuple[str, Any]]:
    """Return what programs may use by name."""
    return [(name, value) for name, value in globals().items() if not name.startswith("_")]
