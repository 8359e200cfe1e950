"""X7: thousands of addresses that refuse connections, and two that are well; X10: lists that change all the time."""

from __future__ import annotations

import json

import pytest

from tests.lifecycle.support import Nursery

_BEGIN = """
    import asyncio, json, logging, resource, sys, time
    import grpc, healthlb, healthlb.aio

    # That the addresses refuse connections is told of, as it should be.
    logging.getLogger("healthlb").setLevel(logging.ERROR)
    good, count, seconds = sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])
    # Nothing listens on port 1 of the loopback network.
    dead = [f"127.1.{number // 250}.{number % 250 + 1}:1" for number in range(count)]
    addresses = [*dead[: count // 2], good[0], *dead[count // 2 :], good[1]]

    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
"""

_SYNC = (
    _BEGIN
    + """
    before, failures = memory(), 0
    with healthlb.HealthAwareChannel(good[:1], "svc") as other:
        other.wait_until_ready(30)
        beside = other.unary_unary("/test.Echo/Unary")
        with healthlb.HealthAwareChannel(addresses, "svc") as channel:
            call = channel.unary_unary("/test.Echo/Unary")
            call(b"", timeout=seconds, wait_for_ready=True)
            used, end = time.process_time(), time.monotonic() + 5
            while time.monotonic() < end:
                for one in (call, beside):
                    try:
                        one(b"", timeout=5)
                    except grpc.RpcError:
                        failures += 1
                time.sleep(0.05)
            print(json.dumps([failures, time.process_time() - used, memory() - before, len(channel.subchannels())]))
    """
)

_AIO = (
    _BEGIN
    + """
    async def main():
        before, failures = memory(), 0
        async with (
            healthlb.aio.HealthAwareChannel(good[:1], "svc") as other,
            healthlb.aio.HealthAwareChannel(addresses, "svc") as channel,
        ):
            await other.wait_until_ready(30)
            beside, call = (one.unary_unary("/test.Echo/Unary") for one in (other, channel))
            await call(b"", timeout=seconds, wait_for_ready=True)
            used, end = time.process_time(), time.monotonic() + 5
            while time.monotonic() < end:
                for one in (call, beside):
                    try:
                        await one(b"", timeout=5)
                    except grpc.RpcError:
                        failures += 1
                await asyncio.sleep(0.05)
            print(json.dumps([failures, time.process_time() - used, memory() - before, len(channel.subchannels())]))

    asyncio.run(main())
    """
)

_LISTS = """
    import asyncio, json, sys, time
    import grpc, healthlb, healthlb.aio

    class Swaps:
        count = 0

        async def resolve(self, update):
            lists = [[healthlb.Endpoint(address)] for address in sys.argv[1:3]]
            while True:
                for _ in range(100):
                    update(lists[self.count % 2])
                    self.count += 1
                self.count += 1  # so that each turn ends with another one
                await asyncio.sleep(0)

    async def main():
        resolver, used = Swaps(), time.process_time()
        async with healthlb.aio.HealthAwareChannel(resolver, "svc") as channel:
            call = channel.unary_unary("/test.Echo/Unary")
            for _ in range(20):
                await call(b"", timeout=20, wait_for_ready=True)
                await asyncio.sleep(0.05)
            print(json.dumps([resolver.count, max(one.id for one in channel._subchannels._driver.snapshot.views)]))

    asyncio.run(main())
"""


@pytest.mark.parametrize("script", [pytest.param(_SYNC, id="sync"), pytest.param(_AIO, id="aio")])
def test_x7_thousands_of_dead_addresses(nursery: Nursery, targets: list[str], script: str) -> None:
    (output,) = nursery.run(script, *targets[:2], "1000", "30")
    failures, used, grown, subchannels = json.loads(output)

    assert failures == 0
    assert used < 5
    assert grown < 200
    assert subchannels > 500


def test_x10_lists_that_change_at_every_look(nursery: Nursery, targets: list[str]) -> None:
    (output,) = nursery.run(_LISTS, *targets[:2])
    lists, subchannels = json.loads(output)

    assert lists > 5000
    # Ten at once, then two a second.
    assert subchannels < 100
