"""A server that answers and is done before its client has said all: as with a plain asyncio channel, nothing hangs.

C-core tells the status of a call once its responses are read, so a client that only writes must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.aio.grpcio import InternalError
from healthlb.aio.streams import BalancedStream

METHOD = "/test.Early/Talk"
UPLOAD = "/test.Early/Upload"
TIMEOUT = 30.0
PATIENCE = 10.0  # much less than the deadline, which a call that hangs ends by

CHANNELS: dict[str, Callable[[str], Any]] = {
    "plain": grpc.aio.insecure_channel,
    "no failover": lambda address: healthlb.aio.HealthAwareChannel([address], service=None, failover=None),
    "defaults": lambda address: healthlb.aio.HealthAwareChannel([address], service=None),
    "idempotent": lambda address: healthlb.aio.HealthAwareChannel(
        [address], service=None, failover=healthlb.Failover(idempotent=True)
    ),
}


async def start_server(responses: int, code: grpc.StatusCode | None) -> tuple[Any, str]:
    async def talk(_requests: Any, context: Any) -> AsyncIterator[bytes]:
        for number in range(responses):
            yield b"response %d" % number
        if code is not None:
            await context.abort(code, "enough")

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(talk)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Early", {"Talk": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def told(work: Any) -> str:
    try:
        return str(await asyncio.wait_for(work, PATIENCE))
    except Exception as error:
        return f"{type(error).__name__} {getattr(error, 'code', str)()}"


async def until_done(call: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not call.done():
            await asyncio.sleep(0.01)


async def write_then_read(call: Any, responses: int) -> list[str]:
    """Write until that fails, then read until that ends."""
    seen: list[str] = []
    if responses == 0:  # then the server's status is told to who does not read
        await until_done(call)
    while len(seen) < 1:
        await asyncio.sleep(0.1)
        found = await told(call.write(b"request"))
        seen += [found] if found != "None" else []
    while not seen[-1].startswith(("<EOF", "AioRpcError", "EOF")) and len(seen) < 9:
        seen.append(await told(call.read()))
    return [*seen, await told(call.code())]


async def iterate_late(call: Any) -> list[str]:
    """Read only after the requests could not be sent."""
    seen = []
    try:
        await until_done(call)
        async with asyncio.timeout(PATIENCE):
            async for response in call:
                seen.append(str(response))
    except Exception as error:
        seen.append(await told(asyncio.sleep(0, f"{type(error).__name__}")))
    return [*seen, await told(call.code())]


async def requests() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"request"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
@pytest.mark.parametrize("responses", [0, 1, 3])
@pytest.mark.parametrize("form", ["write", "iterate"])
async def test_as_plain(form: str, responses: int, code: grpc.StatusCode | None) -> None:
    """The writer hears at once that its request could not be sent; what was answered can be read, if one iterates."""
    server, address = await start_server(responses, code)
    seen = {}
    for name, make in CHANNELS.items():
        async with make(address) as channel:
            method = channel.stream_stream(METHOD)
            if form == "write":
                seen[name] = await write_then_read(method(timeout=TIMEOUT), responses)
            else:
                seen[name] = await iterate_late(method(requests(), timeout=TIMEOUT))
    await server.stop(None)

    plain = seen.pop("plain")
    assert "TimeoutError" not in str(plain)
    assert seen == dict.fromkeys(seen, plain)


async def start_refusing_server() -> tuple[Any, str]:
    async def upload(_requests: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")

    server = grpc.aio.server()
    handler = grpc.stream_unary_rpc_method_handler(upload)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Early", {"Upload": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def upload(method: Any) -> tuple[grpc.StatusCode, str]:
    async def requests() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(20_000)

    try:
        await method(requests(), timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("name", [name for name in CHANNELS if name != "plain"])
async def test_an_upload_that_is_refused_midway_hears_the_servers_status(name: str) -> None:
    """grpcio's own says INTERNAL now and then, where a request was on its way (1.85.3)."""
    server, address = await start_refusing_server()
    async with CHANNELS[name](address) as channel:
        method = channel.stream_unary(UPLOAD)
        told = [end for _ in range(5) for end in await asyncio.gather(*(upload(method) for _ in range(20)))]
    await server.stop(None)

    assert set(told) == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")}


@pytest.mark.parametrize("late", [0.0, 0.1, 0.6])
async def test_an_answer_that_comes_while_a_request_cannot_be_sent_is_read(
    late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads already when it is looked for gets it as well as who reads later."""

    async def cannot_send(call: Any, attempt: Any, log: Any, message: bytes) -> bool:
        log.append(message)
        if await call._has_answered(attempt):
            raise InternalError("not sent")
        return False

    async def talk(_requests: Any, context: Any) -> AsyncIterator[bytes]:
        await asyncio.sleep(0.3)
        yield b"response"
        await context.abort(grpc.StatusCode.UNAVAILABLE, "enough")

    monkeypatch.setattr(BalancedStream, "_send_at_once", cannot_send)
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(talk)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Early", {"Talk": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with CHANNELS["defaults"](f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD)(requests(), timeout=TIMEOUT)
        await asyncio.sleep(late)
        responses = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for response in call:
                responses.append(response)
    await server.stop(None)

    assert (responses, caught.value.code()) == ([b"response"], grpc.StatusCode.UNAVAILABLE)
