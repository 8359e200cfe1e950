"""Streams of the sync face on a channel that is not READY yet, and with their events taken in by one thread."""

from __future__ import annotations

import gc
from typing import Any

import grpc
import pytest
from grpc import experimental

import healthlb
from tests.lifecycle.support import PATIENCE, eventually
from tests.versions import LATE_POLLER

STREAM = "/test.Echo/ServerStream"
MANY = (("x-count", "100"), ("x-interval", "0.01"))


@pytest.mark.parametrize("reads", [1, 2])
@pytest.mark.parametrize("end", ["cancel", "drop"])
@pytest.mark.parametrize(
    "failover", [healthlb.Failover(), healthlb.Failover(idempotent=True)], ids=["default", "idempotent"]
)
def test_a_stream_that_had_to_wait_ends_without_a_word(
    failover: healthlb.Failover, end: str, reads: int, targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its events end once: what was told by us for grpcio's operations is not told again by C-core."""
    for _ in range(5):
        with healthlb.HealthAwareChannel(targets, "svc", failover=failover) as channel:
            made: Any = channel.unary_stream(STREAM)
            call = made(b"", metadata=MANY, timeout=PATIENCE)
            for _ in range(reads):
                assert next(call)
            if end == "cancel":
                assert call.cancel()
                assert call.done()
            del call
            gc.collect()
            eventually(lambda: not any(status.in_flight for status in channel.subchannels()))

    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [text for text in errors if not LATE_POLLER or LATE_POLLER not in text] == []


@pytest.mark.parametrize("is_ready", [False, True])
def test_headers_of_a_single_threaded_stream_can_be_asked_for_first(is_ready: bool, targets: list[str]) -> None:
    options = [(experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
    with healthlb.HealthAwareChannel(targets, "svc", options=options) as channel:
        if is_ready:
            channel.wait_until_ready(PATIENCE)
        made: Any = channel.unary_stream(STREAM)
        call = made(b"", metadata=(("x-headers", "1"),), timeout=PATIENCE)

        assert dict(call.initial_metadata())["x-backend"] in ("b0", "b1")
        assert len(list(call)) == 3
        assert call.code() is grpc.StatusCode.OK
