"""The channel is closed while calls wait between two attempts: each ends as on a plain channel with a retryPolicy."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

import healthlb
from healthlb import Failover
from tests.failover.local import Local
from tests.parity.face import METHODS

PATIENCE = 20.0
LATER = (("grpc-retry-pushback-ms", "15000"),)
POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.005s",
    "maxBackoff": "0.005s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
CONFIG = ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]}))
FORMS: dict[str, Callable[[Any], Any]] = {
    "call": lambda channel: channel.unary_unary(METHODS["unary_unary"])(b"", PATIENCE),
    "with_call": lambda channel: channel.unary_unary(METHODS["unary_unary"]).with_call(b"", PATIENCE),
    "future": lambda channel: channel.unary_unary(METHODS["unary_unary"]).future(b"", PATIENCE).result(),
    "stream": lambda channel: channel.stream_unary(METHODS["stream_unary"])(iter([b""]), PATIENCE),
}


def refuse(request: Any, context: grpc.ServicerContext) -> bytes:
    """Fail, and ask to be tried again much later."""
    context.set_trailing_metadata(LATER)
    context.abort(grpc.StatusCode.UNAVAILABLE, "busy")


def closed_meanwhile(channel: Any, form: str, server: Local) -> tuple[grpc.RpcError, float]:
    """Make a call, close the channel after its first attempt, and return how it ended, and after how many seconds."""
    caught: list[grpc.RpcError] = []
    grpc.channel_ready_future(channel).result(PATIENCE)
    seen = server.calls

    def call() -> None:
        try:
            FORMS[form](channel)
        except grpc.RpcError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while server.calls == seen:
        time.sleep(0.001)
    time.sleep(0.2)  # the status is back: nothing of a plain channel tells of it
    begun = time.monotonic()
    channel.close()
    thread.join(PATIENCE)
    return caught[0], time.monotonic() - begun


@pytest.mark.parametrize("form", FORMS)
def test_the_call_is_cancelled(form: str) -> None:
    with Local(unary_unary=refuse, stream_unary=refuse) as server:
        plain, _ = closed_meanwhile(grpc.insecure_channel(server.address, options=[CONFIG]), form, server)
        channel = healthlb.HealthAwareChannel([server.address], None, failover=Failover(idempotent=True))
        ours, seconds = closed_meanwhile(channel, form, server)
        calls = server.calls

    assert (ours.code(), ours.details()) == (plain.code(), plain.details())
    assert [(attempt.code, attempt.details) for attempt in healthlb.attempts_of(ours)] == [
        (grpc.StatusCode.UNAVAILABLE, "busy")
    ]
    assert seconds < 10.0
    assert calls == 2
