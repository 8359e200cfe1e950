"""eventlet and gevent: what cannot work says so at its first use, and what can works. The real packages, in processes.

With threads replaced, plain sync channels of grpcio work by luck, and its servers and asyncio channels hang (1.85.3).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.lifecycle.support import PATIENCE

SCRIPT = """
    import sys, warnings
    warnings.simplefilter("ignore")
    targets, package, when, parts = sys.argv[1].split(","), sys.argv[2], sys.argv[3], eval(sys.argv[4])
    def patch():
        if package == "eventlet":
            import eventlet
            eventlet.monkey_patch(**parts)
        else:
            from gevent import monkey
            monkey.patch_all(**parts)
    if when == "before":
        patch()
    import asyncio
    import healthlb, healthlb.aio, healthlb.server
    from healthlb.cli import probe
    if when == "after":
        patch()

    def tell(name, use):
        try:
            result = use()
        except healthlb.ChannelUnusable as error:
            result = f"refused: {error}"
        print(name, result, flush=True)

    def sync():
        with healthlb.HealthAwareChannel(targets, "svc") as channel:
            unary = channel.unary_unary("/test.Echo/Unary")
            return len(unary(b"", timeout=20)) + len(unary.future(b"", timeout=20).result())

    async def aio():
        async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
            return len(await channel.unary_unary("/test.Echo/Unary")(b"", timeout=20))

    servicer = []
    tell("sync", sync)
    tell("aio", lambda: asyncio.run(aio()))
    tell("servicer", lambda: servicer.append(healthlb.server.HealthServicer()))
    tell("aio-servicer", lambda: servicer.append(healthlb.aio.HealthServicer()))
    if not servicer:
        tell("manager", lambda: healthlb.server.HealthManager(None, {"x": healthlb.server.Check(probe=print)}))
        tell("probe", lambda: probe.main(["-addr", targets[0]]))
        tell("client", lambda: healthlb.HealthClient(targets[0]).check())
        tell("aio-client", lambda: asyncio.run(healthlb.aio.HealthClient(targets[0]).check()))
"""
USES = ("sync", "aio", "servicer", "aio-servicer", "manager", "probe", "client", "aio-client")


def patched(targets: list[str], package: str, when: str, **parts: bool) -> dict[str, str]:
    """Return what came of each use in a process in which these parts are (not) patched, before or after the import."""
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), ",".join(targets), package, when, repr(parts)]
    environment = os.environ | {"EVENTLET_NO_GREENDNS": "yes"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * PATIENCE, env=environment, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("package", ["eventlet", "gevent"])
def test_without_threads_all_is_refused(package: str, when: str, targets: list[str]) -> None:
    uses = patched(targets, package, when)

    assert tuple(uses) == USES
    for result in uses.values():
        assert result.startswith(f"refused: {package} has replaced Python's threads")
        assert "thread=False" in result


def test_eventlet_without_its_threads(targets: list[str]) -> None:
    assert patched(targets, "eventlet", "before", thread=False) == {
        "sync": "4", "aio": "2", "servicer": "None", "aio-servicer": "None"
    }  # fmt: skip


def test_gevent_without_its_threads(targets: list[str]) -> None:
    """Its selector does not wake up for another thread, so what runs a loop in a thread of its own would hang."""
    sync, aio, servicer, _ = patched(targets, "gevent", "before", thread=False, queue=False).values()

    assert sync.startswith("refused: gevent has replaced the selector of event loops")
    assert "select=False" in sync
    assert (aio, servicer) == ("2", "None")


def test_gevent_without_its_threads_and_selectors(targets: list[str]) -> None:
    sync, aio, *servicers = patched(targets, "gevent", "after", thread=False, select=False).values()

    assert (sync, aio) == ("4", "2")
    assert all(text.startswith("refused: gevent has replaced queue.SimpleQueue") for text in servicers[:2])
