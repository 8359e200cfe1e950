"""A program: some lines of Python that call a channel, and how they are run."""

from __future__ import annotations

import asyncio
import contextlib
import linecache
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any

import grpc
import grpc.aio

from tests.differential import tools

FORMS = ("none", "defaults", "idempotent", "hedged")
FACES = ("sync", "aio")
_NAMES = {"grpc": grpc, "asyncio": asyncio, **dict(tools.names())}


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and the channel on which it is compared.

    Attributes:
        face: "sync" or "aio".
        form: the failover of our channel: "none", "defaults", "idempotent" or "hedged".
        lines: its body. `open` makes a channel, `see` does a step and notes what comes of it, and `peer` is the
            server.
    """

    face: str
    form: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The program as it is run, and as it may be run again: `python -m tests.differential FILE`."""
        head = "async def" if self.face == "aio" else "def"
        body = "\n".join(f"    {line}" for line in self.lines)
        return f"# face: {self.face}, form: {self.form}\n{head} program(open, see, peer):\n{body}\n"

    @property
    def code(self) -> CodeType:
        """Its code, whose lines can be found in tracebacks."""
        name = f"<program {hash(self.lines) & 0xFFFFFFFF:08x}>"
        linecache.cache[name] = (len(self.text), None, self.text.splitlines(keepends=True), name)
        return compile(self.text, name, "exec")

    def function(self) -> Any:
        """Return it as a function."""
        names = dict(_NAMES)
        exec(self.code, names)
        return names["program"]

    def line(self, number: int) -> str:
        """Return a line by its number."""
        return self.text.splitlines()[number - 1].strip()

    def without(self, index: int) -> Program:
        """Return it without one of its lines."""
        return replace(self, lines=self.lines[:index] + self.lines[index + 1 :])


def parse(text: str) -> Program:
    """Return the program that `Program.text` has written."""
    lines = text.strip().splitlines()
    head = dict(part.strip().split(": ") for part in lines[0].lstrip("# ").split(","))
    start = next(index for index, line in enumerate(lines) if "def program" in line)
    return Program(head["face"], head["form"], tuple(line[4:] for line in lines[start + 1 :]))


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run of a program was seen to do.

    Attributes:
        steps: line number and outcome of each step.
        lanes: what happened elsewhere, by lane, in order.
        server: the executions that the server has seen; None where that depends on time.
        noted: how much later runs wait for.
        missing: how many callbacks have not come.
    """

    steps: tuple[tuple[int, str], ...]
    lanes: tuple[tuple[str, tuple[str, ...]], ...]
    server: tuple[str, ...] | None
    noted: int = field(default=0, compare=False)
    missing: int = field(default=0, compare=False)


@contextlib.contextmanager
def stray_errors(note: Any) -> Iterator[None]:
    """Note what is logged as an error, and what is raised where nobody can catch it."""
    import logging
    import sys
    import threading

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note("stray", f"{record.name}: {record.levelname} {str(record.msg)[:60]}")

    handler = Handler(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("grpc", "asyncio", "healthlb", "concurrent")]
    kept = sys.unraisablehook, threading.excepthook, [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    sys.unraisablehook = lambda args: note("stray", f"unraisable {type(args.exc_value).__name__}")
    threading.excepthook = lambda args: note("stray", f"of a thread {type(args.exc_value).__name__}")
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook, propagate = kept
        for logger, was in zip(loggers, propagate, strict=True):
            logger.removeHandler(handler)
            logger.propagate = was
