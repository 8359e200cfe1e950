"""Looks after the control thread: whether it stands still in the user's code, and what is done about it then.

Resolvers and picker factories run on one thread for all sync channels of a process. One of them that blocks would hold
up the health of every other channel. A thread cannot be ended from outside; so it is left to what blocks it, and a
fresh one takes over.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from healthlb.control.user_code import log_guarded
from healthlb.core.load import Subchannel
from healthlb.core.pickers import Picker, PickerBuilder, hook
from healthlb.core.publication import Publisher
from healthlb.core.user_code import words
from healthlb.resolvers import Resolver
from healthlb.resolvers.base import Update

_log = logging.getLogger("healthlb")

LOOK = 1.0
"""Seconds between two looks at the thread."""

_WARN_AFTER = 2
_REPLACE_AFTER = 5
_OURS = ("healthlb", "grpc", "asyncio")


@dataclass(frozen=True)
class Stall:
    """Why a control thread was given up.

    Attributes:
        text: what happened, for errors.
        culprit: the object in whose frame the user's code was called, None where there is none.
        is_in_picker: whether it is the code of a picker factory, rather than of a resolver.
        is_over: whether the code has returned since.
    """

    text: str
    culprit: object = None
    is_in_picker: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)


class Watched(Protocol):
    """A thread with a loop."""

    @property
    def ident(self) -> int | None:
        """Its number, None before it runs."""

    def is_alive(self) -> bool:
        """Whether it runs."""

    def run_soon(self, work: Callable[[], object]) -> None:
        """Have `work` run on its loop."""

    def give_up(self, stall: Stall) -> None:
        """Leave it, and let a fresh one take over."""


class Watchdog:
    """Asks a thread for a sign of life once a second, from a thread of its own.

    Args:
        watched: the thread.

    Attributes:
        is_held_up: whether the thread has been in the user's code for a while, so that nobody should wait for it.
    """

    def __init__(self, watched: Watched) -> None:
        self.is_held_up = False
        self._watched = watched
        self._is_over = threading.Event()
        self._is_ending = False
        self._has_answered = threading.Event()
        threading.Thread(target=self._run, name="healthlb-watchdog", daemon=True).start()

    def wind_down(self) -> None:
        """Replace the thread no more, since it is to end, but see and say whether it is held up on its way there."""
        self._is_ending = True

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()

    def _run(self) -> None:
        silent = 0
        suspect: object = None
        self._watched.run_soon(self._has_answered.set)
        while not self._is_over.wait(LOOK):
            if not self._watched.is_alive():
                if not self._is_ending:
                    self._give_up(Stall("the control thread has ended"))
                return
            if self._has_answered.is_set():
                silent, suspect = 0, None
                self.is_held_up = False
                self._has_answered.clear()
                self._watched.run_soon(self._has_answered.set)
                continue
            silent += 1
            frame = sys._current_frames().get(self._watched.ident or 0)
            code = find_user_code(frame)
            if silent == _WARN_AFTER:
                suspect = code
                where = "".join(traceback.format_stack(frame, 8)).rstrip()
                _log.warning("the control thread stands still, and no health is followed meanwhile:\n%s", where)
            # After the warning: whoever waits goes on now, and the log is to say why.
            self.is_held_up = silent >= _WARN_AFTER and code is not None
            if silent < _REPLACE_AFTER:
                continue
            if self._is_ending:
                return  # `is_held_up` stays as it is for those who wait.
            if code is not None and suspect is not None:
                name = code.f_code.co_qualname.rpartition("<locals>.")[2]
                text = f"{name} has held up the control thread for {silent * LOOK:.0f} s"
                self._give_up(Stall(text, *caller_of(code)))
                return

    def _give_up(self, stall: Stall) -> None:
        _log.error("%s: a fresh thread takes over its channels", stall.text)
        self._watched.give_up(stall)


def find_user_code(frame: FrameType | None) -> FrameType | None:
    """Return the outermost frame of the user's code that this frame is in, None where it is in none."""
    found = None
    while frame is not None:
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root in _OURS:
            # From here outwards all is ours.
            return found
        if root not in sys.stdlib_module_names or root == "__main__":
            found = frame
        frame = frame.f_back
    return None


def caller_of(frame: FrameType) -> tuple[object, bool]:
    """Return the driver that what runs in this frame was called by, over however many calls, None for none; and whether
    that was to build a picker."""
    outer = frame.f_back
    is_in_picker = False
    while outer is not None:
        found = outer.f_locals.get("self")
        if getattr(found, "abandon", None) is not None:
            return found, is_in_picker
        is_in_picker = is_in_picker or isinstance(found, Publisher)
        outer = outer.f_back
    return None, False


def keep_running(loop: asyncio.AbstractEventLoop, is_ending: Callable[[], bool]) -> None:
    """Run a loop until it is stopped, whatever the user's tasks and callbacks raise through it."""
    while not is_ending():
        try:
            loop.run_forever()
        except BaseException as error:
            # asyncio lets SystemExit and KeyboardInterrupt through; on this thread neither means to end anything.
            text = f"a task or callback raised {words(error)} on the control thread, which goes on"
            log_guarded(logging.ERROR, text, error)


class StalledResolver:
    """Stands for a resolver that holds up a thread: it is asked again once it has returned.

    Args:
        resolver: the user's.
        stall: what is known.
    """

    def __init__(self, resolver: Resolver, stall: Stall) -> None:
        self._resolver = resolver
        self._stall = stall
        self._is_reported = False

    @property
    def refresh(self) -> Callable[[], object] | None:
        """The resolver's own method, if it has one and is back."""
        return getattr(self._resolver, "refresh", None) if self._stall.is_over.is_set() else None

    async def resolve(self, update: Update) -> None:
        """Fail once, so that the channel says why; then wait for the resolver."""
        if not self._is_reported:
            self._is_reported = True
            raise TimeoutError(self._stall.text)
        while not self._stall.is_over.is_set():  # noqa: ASYNC110 - nothing on this loop says so
            await asyncio.sleep(LOOK)
        await self._resolver.resolve(update)


class StalledFactory:
    """Stands for a picker factory that holds up a thread: builds nothing until it has returned.

    Args:
        factory: the user's.
        stall: what is known.
    """

    def __init__(self, factory: PickerBuilder, stall: Stall) -> None:
        self._factory = factory
        self._stall = stall

    @property
    def endpoints(self) -> Callable[..., object] | None:
        """The factory's own method, if it has one and is back."""
        return hook(self._factory, "endpoints") if self._stall.is_over.is_set() else None

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        """Return the factory's picker.

        Raises:
            TimeoutError: it has not returned yet.
        """
        if not self._stall.is_over.is_set():
            raise TimeoutError(self._stall.text)
        return self._factory.build(ready)
