"""How asyncio programs end while a channel is open: as with a plain `grpc.aio` channel, in time and without a word.

Each script runs with both channels, in asyncio's debug mode and with warnings as errors; the nursery fails those that
print to stderr or do not end.
"""

from __future__ import annotations

import textwrap

import pytest

from tests.lifecycle.support import Nursery

START = """
    import asyncio, signal, sys
    import grpc, healthlb.aio
    targets, kind = sys.argv[1].split(","), sys.argv[2]
    def make():
        if kind == "plain":
            return grpc.aio.insecure_channel(targets[0])
        return healthlb.aio.HealthAwareChannel(targets, "svc")
    async def call(channel):
        await channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
    async def use(channel):
        # All backends are connected and watched, which is what stands in the way of an end.
        await call(channel)
        if kind == "ours":
            await channel.wait_until_ready(20, min_ready=len(targets))
    async def make_and_use():
        channel = make()
        await use(channel)
        return channel
    def others():
        return asyncio.all_tasks() - {asyncio.current_task()}
"""
ENDS = {
    "nothing runs": """
    async def main():
        channel = make()
        await use(channel)
        print(len(others()))
    asyncio.run(main())
    """,
    "gather over all tasks": """
    async def main():
        channel = make()
        await use(channel)
        print(await asyncio.gather(*others(), return_exceptions=True))
    asyncio.run(main())
    """,
    "wait for all tasks, calls among them": """
    async def main():
        channel = make()
        await use(channel)
        calls = [asyncio.create_task(call(channel)) for _ in range(10)]
        await asyncio.wait(others())
        print(sum(task.done() for task in calls))
    asyncio.run(main())
    """,
    "all tasks are cancelled, and the channel goes on": """
    async def main():
        channel = make()
        await use(channel)
        sleeping = asyncio.create_task(asyncio.sleep(60))
        for task in others():
            task.cancel()
        await asyncio.gather(*others(), return_exceptions=True)
        print(sleeping.cancelled(), await call(channel))
    asyncio.run(main())
    """,
    "a task group": """
    async def main():
        channel = make()
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(use(channel))
        print("done")
    asyncio.run(main())
    """,
    "a task group that fails": """
    async def fail(channel):
        await use(channel)
        raise ValueError("as asked for")
    async def main():
        channel = make()
        async with asyncio.TaskGroup() as group:
            group.create_task(use(channel))
            group.create_task(fail(channel))
            group.create_task(asyncio.sleep(60))
    try:
        asyncio.run(main())
    except* ValueError as errors:
        print(errors.exceptions)
    """,
    "exit": """
    async def main():
        await use(make())
        sys.exit(0)
    asyncio.run(main())
    """,
    "Ctrl-C": """
    async def main():
        channel = make()
        await use(channel)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """,
    "a runner": """
    with asyncio.Runner() as runner:
        channel = runner.run(make_and_use())
        runner.run(call(channel))
    print("done")
    """,
    "closed while others connect, in one loop after the other": """
    async def main():
        async with make() as channel:
            await call(channel)
    for _ in range(30):
        asyncio.run(main())
    print("done")
    """,
    "the loop is closed": """
    loop = asyncio.new_event_loop()
    channel = loop.run_until_complete(make_and_use())
    loop.close()
    print("done")
    """,
    "the loop is closed after its generators": """
    loop = asyncio.new_event_loop()
    channel = loop.run_until_complete(make_and_use())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    print("done")
    """,
    "the loop is left": """
    loop = asyncio.new_event_loop()
    channel = loop.run_until_complete(make_and_use())
    loop.close = lambda: None  # asyncio warns of any loop that was not closed
    print("done")
    """,
    "a task factory of the program's own": """
    made = []
    def factory(loop, work, **options):
        made.append(work.__qualname__)
        return asyncio.Task(work, loop=loop, **options)
    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        channel = make()
        await use(channel)
        await asyncio.create_task(call(channel))
        await asyncio.gather(*others())
        print(made.count("call"), asyncio.get_running_loop().get_task_factory() is factory)
    asyncio.run(main())
    """,
    # A plain channel hangs at the end if its state is waited for, so that is not done here.
    "a channel that C-core cannot make": """
    import logging
    logging.getLogger("healthlb").disabled = True
    OPTIONS = [("grpc.preferred_transport_protocols", "none of them")]
    async def main():
        if kind == "plain":
            channel = grpc.aio.insecure_channel(targets[0], options=OPTIONS)
        else:
            channel = healthlb.aio.HealthAwareChannel(targets, "svc", options=OPTIONS)
            try:
                await channel.wait_until_ready(0.5)
            except TimeoutError as error:
                assert "Unknown transport 'none of them'. What to do: " in str(error), error
        try:
            await call(channel)
        except grpc.RpcError as error:
            print("Unknown transport 'none of them'" in error.details())
        await channel.close()
    asyncio.run(main())
    """,
    "uvloop": """
    import uvloop
    async def main():
        channel = make()
        await use(channel)
        print(await asyncio.gather(*others(), return_exceptions=True))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    """,
}


# Versions before do not know the argument, and connect.
_NEW = pytest.mark.needs("grpcio", "1.85", reason="channels that cannot be made")


@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=_NEW if end == "a channel that C-core cannot make" else ()) for end in ENDS]
)
def test_as_a_plain_channel(end: str, targets: list[str], nursery: Nursery) -> None:
    script = textwrap.dedent(START) + textwrap.dedent(ENDS[end])
    plain, ours = (nursery.run(script, ",".join(targets), kind) for kind in ("plain", "ours"))

    assert ours == plain
