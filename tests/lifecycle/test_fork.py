"""Forks: a channel that was used before says so in the child; one that was not works there."""

from __future__ import annotations

import pytest

from tests.lifecycle.support import Nursery

START = """
    import asyncio, faulthandler, os, signal, sys, time
    import healthlb, healthlb.aio
    faulthandler.disable()
    targets = sys.argv[1].split(",")
    UNARY = "/test.Echo/Unary"

    def quiet_fork():
        # C-core has its say about forks, and last words.
        loud, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)
        pid = os.fork()
        if pid:
            os.dup2(loud, 2)
        os.close(loud)
        os.close(silence)
        return pid

    def try_in_child(work):
        # Run `work` in a fork; return how its process ended, and how `work` did.
        reader, writer = os.pipe()
        pid = quiet_fork()
        if not pid:
            try:
                result = work()
            except BaseException as error:
                result = type(error).__name__ + ": " + str(error)
            os.write(writer, str(result).encode())
            os._exit(0)
        os.close(writer)
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        result = os.read(reader, 10000).decode()
        os.close(reader)
        return os.waitstatus_to_exitcode(ended[1]), result

    def in_child(work):
        # A thread of C-core's own crashes one child in four, with plain channels too (1.85.1): another is made then.
        crashes = (-signal.SIGSEGV, -signal.SIGABRT)
        status = crashes[0]
        while status in crashes:
            status, result = try_in_child(work)
        print(result if status == 0 else f"ended with {status}", flush=True)
"""


def test_channel_that_was_used_before(targets: list[str], nursery: Nursery) -> None:
    script = """
    channel = healthlb.HealthAwareChannel(targets, "svc")
    unary = channel.unary_unary(UNARY)
    unary(b"")
    in_child(lambda: unary(b"", timeout=5))
    in_child(lambda: unary.future(b"", timeout=5))
    in_child(lambda: channel.unary_stream("/test.Echo/ServerStream")(b"", timeout=5))
    in_child(lambda: channel.wait_until_ready(5))
    in_child(lambda: channel.subscribe(lambda state: None, try_to_connect=True))
    in_child(channel.state)
    in_child(channel.close)
    print(unary(b"") in (b"b0", b"b1"))
    """
    *uses, state, close, parent = nursery.run(START + script, ",".join(targets))

    assert len(uses) == 5
    assert all(line.startswith("ChannelUnusable: this channel was used before the process forked") for line in uses)
    assert all("fork before any channel is used" in line for line in uses)
    assert (state, close, parent) == ("ChannelConnectivity.IDLE", "None", "True")


def test_channel_that_was_not_used_before(targets: list[str], nursery: Nursery) -> None:
    script = """
    channel = healthlb.HealthAwareChannel(targets, "svc")
    unary = channel.unary_unary(UNARY)
    in_child(lambda: unary(b"", timeout=20, wait_for_ready=True))
    in_child(lambda: unary.future(b"", timeout=20, wait_for_ready=True).result())
    in_child(lambda: (unary(b"", timeout=20), channel.close()))
    print(unary(b""))
    """
    first, second, third, parent = nursery.run(START + script, ",".join(targets))

    assert {first, second, parent} <= {"b'b0'", "b'b1'"}
    assert third in ("(b'b0', None)", "(b'b1', None)")


def test_channel_made_in_the_child(targets: list[str], nursery: Nursery) -> None:
    script = """
    def work():
        with healthlb.HealthAwareChannel(targets, "svc") as channel:
            return channel.unary_unary(UNARY)(b"", timeout=20)
    in_child(work)
    """
    (answer,) = nursery.run(START + script, ",".join(targets))

    assert answer in ("b'b0'", "b'b1'")


@pytest.mark.parametrize("made", ["before", "after"])
def test_unused_channel_where_another_was_used(made: str, targets: list[str], nursery: Nursery) -> None:
    """grpc.aio in the parent does not survive a fork, so no channel works in such a child; it says so."""
    script = """
    used = healthlb.HealthAwareChannel(targets, "svc")
    used.unary_unary(UNARY)(b"")
    before = healthlb.HealthAwareChannel(targets, "svc")
    def work():
        channel = before if sys.argv[2] == "before" else healthlb.HealthAwareChannel(targets, "svc")
        return channel.unary_unary(UNARY)(b"", timeout=5)
    in_child(work)
    print(used.unary_unary(UNARY)(b"") in (b"b0", b"b1"))
    """
    child, parent = nursery.run(START + script, ",".join(targets), made)

    assert child.startswith("ChannelUnusable: grpc.aio was at work when this process was forked")
    assert parent == "True"


def test_aio_channel_that_was_used_before(targets: list[str], nursery: Nursery) -> None:
    script = """
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    async def main():
        await channel.unary_unary(UNARY)(b"")
        in_child(lambda: channel.unary_unary(UNARY)(b"", timeout=5))
        in_child(lambda: asyncio.run(channel.wait_until_ready(5)))
        print(await channel.unary_unary(UNARY)(b"") in (b"b0", b"b1"))
        await channel.close()
    asyncio.run(main())
    """
    first, second, parent = nursery.run(START + script, ",".join(targets))

    assert first.startswith("ChannelUnusable")
    assert second.startswith(("ChannelUnusable", "RuntimeError: asyncio.run() cannot be called"))
    assert parent == "True"


def test_aio_channel_that_was_not_used_before(targets: list[str], nursery: Nursery) -> None:
    script = """
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    async def main():
        async with channel:
            return await channel.unary_unary(UNARY)(b"", timeout=20)
    in_child(lambda: asyncio.run(main()))
    print(asyncio.run(main()))
    """
    child, parent = nursery.run(START + script, ",".join(targets))

    assert {child, parent} <= {"b'b0'", "b'b1'"}


def test_fork_after_all_were_closed(targets: list[str], nursery: Nursery) -> None:
    """Then nothing of grpc.aio is left, and the child may begin anew."""
    script = """
    import gc, threading
    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.unary_unary(UNARY)(b"")
    del channel
    deadline = time.monotonic() + 20
    while threading.active_count() > 1 and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    def work():
        with healthlb.HealthAwareChannel(targets, "svc") as channel:
            return channel.unary_unary(UNARY)(b"", timeout=20)
    in_child(work)
    """
    (answer,) = nursery.run(START + script, ",".join(targets))

    assert answer in ("b'b0'", "b'b1'")


def test_multiprocessing_fork(targets: list[str], nursery: Nursery) -> None:
    """A pool of forked workers, each with the module's channel, as web servers do it."""
    script = """
    import multiprocessing
    channel = healthlb.HealthAwareChannel(targets, "svc")
    def work(number):
        return channel.unary_unary(UNARY)(b"", timeout=20).decode()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(sorted(set(pool.map(work, range(8), chunksize=1))))
    """
    (answers,) = nursery.run(START + script, ",".join(targets))

    assert answers in ("['b0', 'b1']", "['b0']", "['b1']")


GEVENT = """
    import sys, types
    gevent, monkey = types.ModuleType("gevent"), types.ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: name in patched
    patched = set()
    gevent.monkey = monkey
    sys.modules.update({"gevent": gevent, "gevent.monkey": monkey})
    import asyncio
    import healthlb, healthlb.aio
    targets = sys.argv[1].split(",")
    def attempt():
        try:
            with healthlb.HealthAwareChannel(targets, "svc") as channel:
                return channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
        except healthlb.ChannelUnusable as error:
            return error
    async def attempt_aio():
        try:
            async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
                return await channel.unary_unary("/test.Echo/Unary")(b"", timeout=20)
        except healthlb.ChannelUnusable as error:
            return error
    print(attempt(), asyncio.run(attempt_aio()))
    patched.add("threading")
    print(attempt())
    print(asyncio.run(attempt_aio()))
"""


def test_gevent(targets: list[str], nursery: Nursery) -> None:
    imported, patched, patched_aio = nursery.run(GEVENT, ",".join(targets))

    assert set(imported.split()) <= {"b'b0'", "b'b1'"}
    for error in (patched, patched_aio):
        assert "gevent" in error
        assert "real threads" in error
