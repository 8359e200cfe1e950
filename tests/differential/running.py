"""Runs a program on a channel and returns what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from tests.differential.describe import pending_tasks, scrub
from tests.differential.observer import PATIENCE, STEPS, Observer
from tests.differential.peer import Peer, Server
from tests.differential.program import Observation, Program, stray_errors
from tests.differential.subject import Subject

LIMIT = 4.0  # seconds that a run of a plain channel may take; longer ones are not compared
LATER_LIMIT = 8.0
FIRST_PATIENCE = 0.6  # seconds in which the first run waits for executions that may go on for ever
POLL = 0.002  # seconds between two looks at what a run has seen


class Pace(Enum):
    """What may be slower than usual in a run, so that what time decides comes out otherwise."""

    USUAL = "usual"
    SLOW_SERVER = "slow server"
    BUSY_CLIENT = "busy client"


@contextlib.contextmanager
def _disturbed(pace: Pace) -> Iterator[None]:
    """Keep the interpreter busy on another thread, if that is the pace."""
    if pace is not Pace.BUSY_CLIENT:
        yield
        return
    is_over = threading.Event()

    def spin() -> None:
        while not is_over.is_set():
            sum(range(100))

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class SyncRunner:
    """Runs programs of the sync face, each on a thread of its own.

    Args:
        server: whom they call.
    """

    is_eager = False

    def __init__(self, server: Server) -> None:
        """Open no channel yet."""
        self._server = server
        self._shared: dict[Any, Any] = {}

    def run(
        self, program: Program, kind: str, before: Observation | None = None, pace: Pace = Pace.USUAL
    ) -> Observation:
        """Run it; `before` is what an earlier run has seen."""
        with _disturbed(pace):
            return self._run(program, kind, before, self._server.peer(slow=pace is Pace.SLOW_SERVER))

    def _run(self, program: Program, kind: str, before: Observation | None, peer: Peer) -> Observation:
        subject = Subject(self._server, "sync", kind, self._shared)
        see, limit = Observer(), LIMIT if before is None else LATER_LIMIT

        def work() -> None:
            see.begin()
            try:
                program.function()(subject.open, see, peer)
            except Exception as error:
                see.note("end", f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=work, daemon=True)
        with stray_errors(see.note):
            thread.start()
            thread.join(limit)
            if thread.is_alive():
                see.note("end", f"hangs in line {see.line}")
            peer.release()
            ended = time.monotonic()
            while not see.is_settled(before, time.monotonic() - ended):
                time.sleep(POLL)
            executions = _executions(peer, see, before)
            closing = threading.Thread(target=subject.close, daemon=True)
            closing.start()
            closing.join(limit)
            if closing.is_alive():
                see.note("end", "close hangs")
            # Calls that only the close has ended: their callbacks run on another thread, behind it.
            ended = time.monotonic()
            while not see.is_settled(before, time.monotonic() - ended):
                time.sleep(POLL)
        return _observation(see, executions)

    def renew(self) -> None:
        """Close the connected channels; later runs make new ones."""
        for channel in self._shared.values():
            threading.Thread(target=channel.close, daemon=True).start()
        self._shared.clear()

    def close(self) -> None:
        """Close the connected channels."""
        for channel in self._shared.values():
            channel.close()


class AioRunner:
    """Runs programs of the asyncio face on one event loop.

    Args:
        server: whom they call.
        new_loop: makes the loop.

    Attributes:
        is_eager: whether tasks begin at once.
    """

    def __init__(
        self, server: Server, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        """Make the loop."""
        self._server = server
        self._shared: dict[Any, Any] = {}
        self._loop = new_loop()
        factory = self._loop.get_task_factory()
        self.is_eager = factory is not None and factory is getattr(asyncio, "eager_task_factory", None)

    def run(
        self, program: Program, kind: str, before: Observation | None = None, pace: Pace = Pace.USUAL
    ) -> Observation:
        """Run it; `before` is what an earlier run has seen."""
        peer = self._server.peer(slow=pace is Pace.SLOW_SERVER)
        with _disturbed(pace):
            return self._loop.run_until_complete(self._run(program, kind, before, peer))

    async def _run(self, program: Program, kind: str, before: Observation | None, peer: Peer) -> Observation:
        subject = Subject(self._server, "aio", kind, self._shared)
        see, limit = Observer(), LIMIT if before is None else LATER_LIMIT
        with stray_errors(see.note):
            task = asyncio.create_task(program.function()(subject.aopen, see, peer))
            await asyncio.wait({task}, timeout=limit)
            if not task.done():
                see.note("end", f"hangs in line {see.line}")
                see.is_over = True
                task.cancel()
                await asyncio.wait({task}, timeout=1)
            elif not task.cancelled() and (error := task.exception()) is not None:
                see.note("end", f"{type(error).__name__}: {error}")
            await asyncio.to_thread(peer.release)
            ended = time.monotonic()
            while not see.is_settled(before, time.monotonic() - ended):
                await asyncio.sleep(POLL)
            executions = await asyncio.to_thread(_executions, peer, see, before)
            task = see.error = None  # type: ignore[assignment]
            gc.collect()
            closing = asyncio.create_task(subject.aclose())
            await asyncio.wait({closing}, timeout=limit)
            if not closing.done():
                see.note("end", "close hangs")
                closing.cancel()
            ended = time.monotonic()
            while not see.is_settled(before, time.monotonic() - ended):
                await asyncio.sleep(POLL)
        return _observation(see, executions)

    def renew(self) -> None:
        """Close the connected channels; later runs make new ones."""
        for channel in self._shared.values():
            self._loop.run_until_complete(asyncio.wait([self._loop.create_task(channel.close())], timeout=2))
        self._shared.clear()

    def close(self) -> None:
        """Close the connected channels and the loop; what plain calls have left behind is cancelled."""
        self.renew()
        self._loop.run_until_complete(_cancel_all())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def _cancel_all() -> None:
    left = list(pending_tasks())
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


Runner = SyncRunner | AioRunner


def _executions(peer: Peer, see: Observer, before: Observation | None) -> tuple[str, ...] | None:
    expected = 0 if before is None or before.server is None else len(before.server)
    patience = 0.0 if see.is_blind else FIRST_PATIENCE if before is None else PATIENCE
    executions = peer.report(expected, patience)
    return None if see.is_blind else tuple(sorted(scrub(json.dumps(_shown(execution))) for execution in executions))


def _shown(execution: dict[str, Any]) -> dict[str, Any]:
    metadata = [pair for pair in execution["metadata"] if pair[0] != "user-agent"]
    return {**execution, "metadata": metadata}


def _observation(see: Observer, executions: tuple[str, ...] | None) -> Observation:
    lanes = {name: tuple(scrub(text) for _, text in notes) for name, notes in see.lanes.items() if name != STEPS}
    if "stray" in lanes:
        lanes["stray"] = tuple(sorted(lanes["stray"]))
    steps, others = tuple(see.lanes[STEPS]), tuple(sorted(lanes.items()))
    return Observation(steps, others, executions, see.noted, max(see.awaited, 0))
