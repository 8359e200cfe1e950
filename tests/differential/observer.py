"""`Observer`, which a program calls `see`: it runs steps of the program and notes what came of them.

What happens on the program's own thread or task, and what happens elsewhere, is noted in lanes of their own, since
only within a lane is the order told.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from tests.differential.describe import describe, describe_error
from tests.differential.program import Observation
from tests.differential.tools import USER

STEPS = "steps"
UNEXPECTED = ("stray", "end")  # lanes of what no run waits for
QUIET = 0.25  # seconds that a run waits for callbacks that may never come
PATIENCE = 2.0  # seconds that a run waits for as much as an earlier one has seen


class Observer:
    """Notes what a program sees.

    Attributes:
        lanes: what was noted; the lane of steps has pairs of the line's number and what came of it.
        error: what the last step that failed has raised.
        is_blind: the server's view of this run depends on time, and is not compared.
        awaited: how many callbacks have not come yet.
        noted: how much was noted, but for the steps and for what is logged.
        line: of the step that was begun last.
    """

    def __init__(self) -> None:
        """Have seen nothing."""
        self.lanes: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.error: BaseException | None = None
        self.is_blind = False
        self.is_over = False
        self.line = 0
        self.awaited = 0
        self.noted = 0
        self._thread = threading.current_thread()
        self._tasks: dict[str, list[object]] = defaultdict(list)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Take this thread for the program's."""
        self._thread = threading.current_thread()

    def __call__(self, do: Callable[[], Any]) -> Any:
        """Do a step, note what it returns or raises, and return what it returned."""
        line = self.line = sys._getframe(1).f_lineno
        try:
            value = do()
        except Exception as error:
            return self._raised(line, error)
        return self._returned(line, value)

    async def wait(self, do: Callable[[], Awaitable[Any]]) -> Any:
        """Do a step and await what it returns; note what comes of it, and return it."""
        line = self.line = sys._getframe(1).f_lineno
        try:
            value = await do()
        except asyncio.CancelledError as error:
            if self.is_over:
                raise
            return self._raised(line, error)
        except Exception as error:
            return self._raised(line, error)
        return self._returned(line, value)

    def thread(self, do: Callable[[], Any]) -> Any:
        """Do a step on another thread, and wait for it."""
        line = sys._getframe(1).f_lineno
        outcome: list[Any] = []

        def step() -> None:
            try:
                outcome.append(self._returned(line, do()))
            except Exception as error:
                self._raised(line, error)

        thread = threading.Thread(target=step, daemon=True)
        thread.start()
        thread.join()
        return outcome[0] if outcome else None

    def blind(self) -> None:
        """Do not compare what the server has seen of this run."""
        self.is_blind = True

    def callback(self, name: str, lane: str = "") -> Callable[..., None]:
        """Return a callback; those of one lane that run on the same side are compared with their order.

        Between the program's thread and others there is no order: in plain channels too, a callback that another thread
        runs after a cancellation comes before or after what the program does next.
        """
        with self._lock:
            self.awaited += 1

        def called(*arguments: Any) -> None:
            states = [f"{describe(argument)} done={argument.done()}" for argument in arguments]
            self.note(f"callbacks {lane} {self._where()}", f"{name} {states}")
            with self._lock:
                self.awaited -= 1

        return called

    def noting(self, name: str, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return `convert` as a serializer or deserializer that notes where it is called."""

        def converted(value: Any) -> Any:
            if name.startswith("deserializer") and threading.current_thread() is not self._thread:
                # A channel's thread has the context of whichever call has started it, and ends when no call is under
                # way (grpcio's ForkManagedThread and channel_spin, 1.85.3): not that of the call whose response it is.
                self.note(name, f"{describe(value)} {self._where()}")
            else:
                self.here(name, describe(value))
            return convert(value)

        return converted

    def here(self, lane: str, text: str) -> None:
        """Note `text`, in which context, and on which thread and task."""
        self.note(lane, f"{text} user={USER.get()} {self._where()} {self._task(lane)}")

    def note(self, lane: str, text: str) -> None:
        """Note `text` in a lane."""
        with self._lock:
            self.lanes[lane].append((0, text))
            self.noted += lane not in UNEXPECTED

    def is_settled(self, before: Observation | None, waited: float) -> bool:
        """Whether all has come that an earlier run has seen, or else each callback; or `waited` seconds were enough."""
        if before is not None and self.noted < before.noted:
            return waited > PATIENCE
        is_complete = before is not None and not before.missing
        return is_complete or self.awaited <= 0 or waited > QUIET

    def _returned(self, line: int, value: Any) -> Any:
        self.lanes[STEPS].append((line, describe(value)))
        return value

    def _raised(self, line: int, error: BaseException) -> None:
        self.lanes[STEPS].append((line, f"raises {describe_error(error)}"))
        # Its frames would keep alive what the program drops.
        self.error = error.with_traceback(None)
        error.__context__ = error.__cause__ = None

    def _where(self) -> str:
        return "here" if threading.current_thread() is self._thread else "on another thread"

    def _task(self, lane: str) -> str:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return ""
        known = self._tasks[lane]
        if task not in known:
            known.append(task)
        return f"task {known.index(task)}" if task else "no task"
