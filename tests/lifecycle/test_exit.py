"""The interpreter ends while channels are open: no hang, no noise, whatever they are doing."""

from __future__ import annotations

import time

import pytest

from tests.lifecycle.support import Nursery

SYNC = """
    import sys, threading
    import healthlb
    channel = healthlb.HealthAwareChannel(sys.argv[1].split(","), "svc")
    unary = channel.unary_unary("/test.Echo/Unary")
"""
AIO = """
    import asyncio, sys
    import healthlb.aio
    channel = healthlb.aio.HealthAwareChannel(sys.argv[1].split(","), "svc")
    unary = channel.unary_unary("/test.Echo/Unary")
"""
SYNC_ENDS = {
    "unused": "",
    "connecting": "channel.subscribe(print, try_to_connect=True)",
    "used": "unary(b'')",
    "subscribed": "channel.subscribe(lambda state: None, True); unary(b'')",
    "listening": "channel.add_listener(lambda fact: None); unary(b'')",
    "stuck listener": "channel.add_listener(lambda fact: threading.Event().wait()); unary(b'')",
    "future under way": "unary(b''); future = unary.future(b'', metadata=(('x-sleep', '60'),))",
    "future waiting": "future = unary.future(b'', wait_for_ready=True)",
    "stream under way": """
    stream = channel.unary_stream("/test.Echo/ServerStream")(b"", metadata=(("x-count", "9999"), ("x-interval", "0.01")))
    next(stream)
    """,
    "bidirectional": """
    stream = channel.stream_stream("/test.Echo/Bidi")(iter([b"x"]), metadata=(("x-sleep", "60"),))
    """,
    "call in a thread": """
    thread = threading.Thread(target=unary, args=(b"",), kwargs={"metadata": (("x-sleep", "60"),)}, daemon=True)
    thread.start()
    while not sum(status.in_flight for status in channel.subchannels()):
        pass
    """,
    "in a cycle": "cycle = [channel]; cycle.append(cycle); unary(b''); del channel, unary, cycle",
    "many": "many = [healthlb.HealthAwareChannel(sys.argv[1].split(',')) for _ in range(8)]\n"
    "    for other in many: other.unary_unary('/test.Echo/Unary')(b'')",
    "exception": "unary(b''); sys.exit(0)",
    "closed at exit": "import atexit; atexit.register(channel.close); unary(b'')",
    "used before and at exit": "import atexit; atexit.register(lambda: unary(b'')); unary(b'')",
    "first used at exit": """
    import atexit
    @atexit.register
    def use():
        try:
            unary(b"")
        except healthlb.ChannelUnusable as error:
            assert sys.version_info[:2] == (3, 12) and "use the channel before" in str(error), error
    """,
}
AIO_ENDS = {
    "unused": "",
    "asyncio.run": """
    async def main():
        await unary(b"")
    asyncio.run(main())
    """,
    "asyncio.run with a call under way": """
    async def main():
        global call
        await unary(b"")
        call = unary(b"", metadata=(("x-sleep", "60"),))
        await asyncio.sleep(0)
    asyncio.run(main())
    """,
    "asyncio.run while connecting": """
    async def main():
        channel.get_state(try_to_connect=True)
        await asyncio.sleep(0)
    asyncio.run(main())
    """,
    "closed loop": """
    loop = asyncio.new_event_loop()
    async def main():
        await unary(b"")
    loop.run_until_complete(main())
    loop.close()
    """,
    "closed loop while connecting": """
    loop = asyncio.new_event_loop()
    async def main():
        channel.get_state(try_to_connect=True)
        await asyncio.sleep(0)
    loop.run_until_complete(main())
    loop.close()
    """,
    "closed loop, then collected": """
    import gc
    loop = asyncio.new_event_loop()
    async def main():
        await unary(b"")
    loop.run_until_complete(main())
    loop.close()
    del channel, unary, main
    gc.collect()
    """,
    "closed loop with a call that waits": """
    import gc
    loop = asyncio.new_event_loop()
    async def main():
        global call
        call = unary(b"", wait_for_ready=True)
    loop.run_until_complete(main())
    loop.close()
    del channel, unary, main, call
    gc.collect()
    """,
    "first used at exit": """
    import atexit
    async def main():
        try:
            async with channel:
                await unary(b"")
        except healthlb.ChannelUnusable as error:
            assert sys.version_info[:2] == (3, 12) and "use the channel before" in str(error), error
    atexit.register(lambda: asyncio.run(main()))
    """,
    "loop in a thread": """
    import threading
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    async def main():
        await unary(b"")
    asyncio.run_coroutine_threadsafe(main(), loop).result()
    """,
}


@pytest.mark.parametrize("end", SYNC_ENDS)
def test_exit_with_a_sync_channel(end: str, targets: list[str], nursery: Nursery) -> None:
    started = time.monotonic()
    nursery.run(SYNC + "    " + SYNC_ENDS[end], ",".join(targets))

    assert time.monotonic() - started < 30


def test_exit_does_not_wait_for_a_resolver_that_blocks(targets: list[str], nursery: Nursery) -> None:
    """The limit for all else is put so far away that a wait for it would be a hang."""
    program = """
    import asyncio, sys, threading
    import healthlb
    from healthlb.control import thread
    thread._HALT_TIMEOUT = 3600.0
    blocks = threading.Event()
    class Resolver:
        async def resolve(self, update):
            update([healthlb.Endpoint(address) for address in sys.argv[1].split(",")])
            await asyncio.sleep(0.3)
            blocks.set()
            threading.Event().wait()
    channel = healthlb.HealthAwareChannel(Resolver(), "svc")
    channel.unary_unary("/test.Echo/Unary")(b"")
    blocks.wait()
    """
    nursery.run(program, ",".join(targets))


@pytest.mark.parametrize("end", AIO_ENDS)
def test_exit_with_an_aio_channel(end: str, targets: list[str], nursery: Nursery) -> None:
    started = time.monotonic()
    nursery.run(AIO + "    " + AIO_ENDS[end], ",".join(targets))

    assert time.monotonic() - started < 30
