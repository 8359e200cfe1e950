"""Chunks of work, and processes on this machine to do them, each at the other end of a pipe of its own.

No worker outlives us, and none takes anything along: who works on what is known, so a worker that is
killed costs one chunk, and is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Work = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk that is finished or lost.

    Attributes:
        chunk: that was given.
        answer: what the function returned.
        lost: why there is no answer, as "its worker was ended by signal 9", or "".
    """

    chunk: Any
    answer: Any = None
    lost: str = ""


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Have the processes that are started meanwhile ignore Ctrl-C."""
    # It goes to the whole process group, and what is ignored stays so in a new process, from its first moment on.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Pool:
    """Spawned worker processes.

    Attributes:
        workers: how many.
    """

    def __init__(self, jobs: int) -> None:
        self.workers = jobs
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Any]] = {}

    def imap_unordered(self, fn: Work, chunks: Iterable[Any]) -> Iterator[Done]:
        """Yield each chunk when it is done; a worker that ends before its chunk is replaced."""
        waiting = iter(chunks)
        self._hand_out(fn, waiting)
        while self._busy:
            for pipe in wait(list(self._busy)):
                yield self._collected(pipe)  # type: ignore[arg-type]
            self._hand_out(fn, waiting)

    def _hand_out(self, fn: Work, waiting: Iterator[Any]) -> None:
        while len(self._busy) < self.workers:
            chunk = next(waiting, None)
            if chunk is None:
                return
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy[worker.pipe] = (worker, chunk)
            # Whoever died while idle is found out where its answer is waited for.
            with contextlib.suppress(BrokenPipeError):
                worker.pipe.send((fn, chunk))

    def _collected(self, pipe: Connection) -> Done:
        worker, chunk = self._busy.pop(pipe)
        try:
            answer, error = pipe.recv()
        except (EOFError, ConnectionResetError):
            return Done(chunk, lost=worker.buried())
        self._idle.append(worker)
        if error is not None:
            raise error
        return Done(chunk, answer)

    def close(self) -> None:
        """End all workers."""
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        self._idle, self._busy = [], {}
        for worker in workers:
            # One that stands still does not hear a request to end.
            worker.process.kill()
        for worker in workers:
            worker.buried()


class _Worker:
    """A process that runs chunks, and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with interrupts_ignored():
            self.process.start()
        theirs.close()

    def buried(self) -> str:
        """Wait for a process that has ended, release what it held here, and say how it ended."""
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode or 0
        return f"its worker was ended by signal {-code}" if code < 0 else f"its worker ended with exit code {code}"


def _serve(pipe: Connection) -> None:
    # At the end of the pipe, the parent is gone.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            fn, chunk = pipe.recv()
            try:
                pipe.send((fn(chunk), None))
            except Exception as error:
                pipe.send((None, error))
