"""X9: a peer that ends each connection as soon as it is up, beside a backend that is well."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import pytest

from tests.lifecycle.hostile_peer import HostilePeer
from tests.lifecycle.support import Nursery

_SECONDS = 5
# With its jitter the backoff (0.2 s, times 1.6, 1 s) gives 15 attempts at most in 9 s. Each may be three connections: the
# control connection, one that a Watch begins which finds it gone, and one for calls.
_MOST_DIALS = 3 * 15

_LIMIT = "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))"

_BEGIN = """
    import asyncio, json, logging, os, resource, sys, time
    import grpc, healthlb, healthlb.aio

    hostile, good, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    service = "svc" if sys.argv[4] == "checked" else None
    lines, reasons = [], set()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("healthlb").addHandler(handler)
    logging.getLogger("healthlb").setLevel(logging.INFO)

    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def report(channel, began, before, calls, failures):
        used = time.process_time() - began
        told = [line for line in lines if hostile in line]
        print(json.dumps([calls, failures, used, memory() - before, len(told), sorted(reasons)]))
"""

_SYNC = (
    _BEGIN
    + """
    with healthlb.HealthAwareChannel([hostile, good], service) as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        call(b"", timeout=30, wait_for_ready=True)
        began, before, calls, failures, end = time.process_time(), memory(), 0, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            calls += 1
            try:
                call(b"", timeout=10)
            except grpc.RpcError:
                failures += 1
            reasons |= {one.reason for one in channel.subchannels() if one.address == hostile}
            time.sleep(0.05)
        report(channel, began, before, calls, failures)
    """
)

_AIO = (
    _BEGIN
    + """
    async def main():
        async with healthlb.aio.HealthAwareChannel([hostile, good], service) as channel:
            call = channel.unary_unary("/test.Echo/Unary")
            await call(b"", timeout=30, wait_for_ready=True)
            began, before, calls, failures, end = time.process_time(), memory(), 0, 0, time.monotonic() + seconds
            while time.monotonic() < end:
                calls += 1
                try:
                    await call(b"", timeout=10)
                except grpc.RpcError:
                    failures += 1
                reasons.update(one.reason for one in channel.subchannels() if one.address == hostile)
                await asyncio.sleep(0.05)
            report(channel, began, before, calls, failures)

    asyncio.run(main())
    """
)


@pytest.fixture
def hostile() -> Iterator[HostilePeer]:
    """Start a peer that ends all connections."""
    peer = HostilePeer()
    yield peer
    peer.close()


@pytest.mark.parametrize("script", [pytest.param(_SYNC, id="sync"), pytest.param(_AIO, id="aio")])
def test_x9_connections_that_serve_nothing_are_dialled_with_backoff(
    nursery: Nursery, hostile: HostilePeer, targets: list[str], script: str
) -> None:
    (output,) = nursery.run(script, hostile.address, targets[0], str(_SECONDS), "checked")
    calls, failures, used, grown, told, reasons = json.loads(output)

    # C-core may go on saying CONNECTING of a connection that ends as it begins; a fresh one is dialled after the backoff then.
    assert {"connection closed before anything was served", "connecting"} & set(reasons)
    assert 3 <= hostile.dials() <= _MOST_DIALS
    assert told <= 2
    assert calls > 20
    assert failures == 0
    assert used < 0.3 * _SECONDS
    assert grown < 50


@pytest.mark.parametrize("script", [pytest.param(_SYNC, id="sync"), pytest.param(_AIO, id="aio")])
def test_x9_without_health_checking(nursery: Nursery, hostile: HostilePeer, targets: list[str], script: str) -> None:
    # Without health checking such a connection takes calls for a moment, as in gRPC.
    (output,) = nursery.run(script, hostile.address, targets[0], str(_SECONDS), "unchecked")
    calls, _, used, grown, told, _ = json.loads(output)

    assert 3 <= hostile.dials() <= _MOST_DIALS
    assert told <= 2 * 15 + 2
    assert calls > 20
    assert used < 0.3 * _SECONDS
    assert grown < 50


def test_x9_a_goaway_that_leaves_the_connection_open(nursery: Nursery, targets: list[str]) -> None:
    """grpc.aio may go on trying a Watch, with the interpreter's lock held: memory has a limit here, should it do so."""
    own_connections = 'options=[("grpc.use_local_subchannel_pool", 1)]'
    script = textwrap.dedent(_SYNC).replace("with healthlb.H", f"{_LIMIT}\nwith healthlb.H", 1)
    script = script.replace("good], service)", f"good], service, {own_connections})")
    peer = HostilePeer(stays_open=True)
    try:
        (output,) = nursery.run(script, peer.address, targets[0], "3", "checked")
    finally:
        peer.close()
    calls, failures, used, grown, *_ = json.loads(output)

    assert calls > 10
    assert failures == 0
    assert used < 1.5
    assert grown < 50
