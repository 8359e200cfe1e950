"""Texts that a server, a resolver or a plug-in chooses, searched for in all that a channel puts out."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.telemetry.logs import describe
from tests.lifecycle.support import eventually, eventually_async

PLANTED = "planted\x1b[2J\x1b]0;title\x07\r\nERROR: forged\u202e\x9b1m" + 100_000 * "x"


class Rude:
    """A server whose health service ends every Watch with the planted text."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        """Handle everything so."""
        # Longer texts do not fit in the headers that grpcio takes.
        return grpc.unary_stream_rpc_method_handler(lambda _, context: context.abort(self._code, PLANTED[:2000]))

    def stop(self) -> None:
        """Stop."""
        self._server.stop(0).wait()


class Plug:
    """A resolver, a picker factory and a listener, each of which raises the planted text now and then."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.has_failed = False

    async def resolve(self, update: Any) -> None:
        """Fail once, then give the address."""
        if not self.has_failed:
            self.has_failed = True
            raise ValueError(PLANTED)
        update([healthlb.Endpoint(self.address)])
        await asyncio.Event().wait()

    def build(self, ready: Any) -> Any:
        """Fail."""
        raise KeyError(PLANTED)

    def listen(self, fact: object) -> None:
        """Fail."""
        error = ValueError(PLANTED)
        error.add_note(PLANTED)
        raise error


@pytest.fixture(params=["UNAUTHENTICATED", "UNIMPLEMENTED"])
def rude(request: pytest.FixtureRequest) -> Iterator[Rude]:
    made = Rude(grpc.StatusCode[request.param])
    yield made
    made.stop()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what goes to the log, as a handler writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("healthlb")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def check(outputs: list[str], log: str) -> None:
    """No line of the log is forged, nothing steers a terminal, and nothing is endless."""
    assert any("planted" in text for text in outputs), outputs
    assert log.count("planted") > 2
    for text in (*outputs, *log.splitlines()):
        assert not [character for character in text if not (character.isprintable() or character == "\n")], text
        assert max(map(len, text.splitlines()), default=0) < 1000
    forged = [line for line in log.splitlines() if line.lstrip(" |").startswith("ERROR: forged")]
    assert forged == []


def outputs_of(subchannels: Any, facts: list[Any], *errors: BaseException) -> list[str]:
    """Return all texts."""
    shown = [text for sub in subchannels for text in (sub.reason, repr(sub))]
    return [*shown, *map(describe, facts), *(str(error) for error in errors)]


def test_no_text_of_others_reaches_an_output_as_it_is(rude: Rude, log: io.StringIO) -> None:
    plug, facts = Plug(rude.address), list[Any]()
    with healthlb.HealthAwareChannel(
        plug, "svc", picker=lambda: plug, listeners=[plug.listen, facts.append]
    ) as channel:
        with pytest.raises((grpc.RpcError, TimeoutError)) as first:
            channel.wait_until_ready(0.01)
        eventually(lambda: any("health" in fact.reason for fact in channel.subchannels()))
        eventually(lambda: log.getvalue().count("Plug.listen raised") > 2)
        check(outputs_of(channel.subchannels(), facts, first.value), log.getvalue())


async def test_no_text_of_others_reaches_an_output_as_it_is_aio(rude: Rude, log: io.StringIO) -> None:
    plug, facts = Plug(rude.address), list[Any]()
    async with healthlb.aio.HealthAwareChannel(
        plug, "svc", picker=lambda: plug, listeners=[plug.listen, facts.append]
    ) as channel:
        with pytest.raises((grpc.RpcError, TimeoutError)) as first:
            await channel.wait_until_ready(0.01)
        await eventually_async(lambda: any("health" in fact.reason for fact in channel.subchannels()))
        await eventually_async(lambda: log.getvalue().count("Plug.listen raised") > 2)
        check(outputs_of(channel.subchannels(), facts, first.value), log.getvalue())
