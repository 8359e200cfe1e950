"""The one control thread of the sync face: it hosts an event loop for all sync channels of a process.

The one rule: it lives while a channel uses it, and no call ever waits for it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from healthlb.control.grpc_transport import suspend_connections
from healthlb.control.poller import Patience, calls_ended
from healthlb.control.tasks import start_task
from healthlb.control.user_code import enter_control_thread
from healthlb.control.watchdog import Stall, Watchdog, find_user_code, keep_running
from healthlb.core.subchannel.dialling import Pace
from healthlb.errors import ChannelUnusable

_log = logging.getLogger("healthlb")

# Seconds:
_CLOSING = 1.0  # that channels which are closing have until the loop ends,
_LOOK = 0.005  # between two looks at what is waited for,
_LAST_WORDS = 0.1  # that C-core has to say what it still has to say to a loop,
_HALT_TIMEOUT = 5.0  # that the thread has to end at the interpreter's exit,
_HALT_PATIENCE = 0.5  # that a resolver or picker factory has then; it is left where it is, as daemon threads are,
_HALT_LOOK = 0.05  # between two looks at whether it has ended,
_PAUSE_BEGINS = 1.0  # that the thread has to begin a pause before a fork,
# and to close its connections, which takes longer than `calls_ended` waits: a fork in between loses what grpcio has yet
# to hear, for good.
_PAUSE_TIMEOUT = 6.0
# What grpcio's poller may raise when it looks at its loop for the last time.
_LAST_LOOKS = (errno.EBADF, errno.EAGAIN)
_NO_THREAD = (
    "the channel's control thread cannot be started: {}. In functions of atexit Python 3.12 starts none: use the "
    "channel before"
)


class ControlThread:
    """A daemon thread with a loop; `acquire` and `release` count its users.

    Attributes:
        loop: the event loop.
        pace: shared by the channels on it, so that their heartbeats are.
        is_halted: whether the interpreter ends, and the thread did before.
        movers: called with the reason where the thread is given up, so that its channels go to a fresh one.
    """

    _lock = threading.RLock()
    _current: ControlThread | None = None
    _running: set[ControlThread] = set()  # noqa: RUF012 - those that end as well
    _may_run = threading.Event()
    _may_run.set()
    _poller = Patience()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_handle_exception)
        self.pace = Pace()
        self.is_halted = False
        self.movers: list[Callable[[Stall], None]] = []
        self._is_ending = False
        self._is_finished = False
        self._is_given_up = False
        self._users = 0
        self._is_pausing = threading.Event()
        self._is_paused = threading.Event()
        self._pausing: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="healthlb-control", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.loop.close()
            raise ChannelUnusable(_NO_THREAD.format(error)) from error
        self._running.add(self)
        self._watchdog = Watchdog(self)

    @classmethod
    def acquire(cls, move: Callable[[Stall], None]) -> ControlThread:
        """Return the process's control thread, started where there is none.

        Args:
            move: called where the thread is given up, to acquire another one; from the watchdog's thread.
        """
        with cls._lock:
            if cls._current is None:
                cls._current = cls()
            cls._current._users += 1
            cls._current.movers.append(move)
            return cls._current

    def release(self, move: Callable[[Stall], None]) -> None:
        """Count a user out; the thread ends with its last."""
        cls = type(self)
        with cls._lock:
            self._users -= 1
            self.movers.remove(move)
            if self._users or cls._current is not self:
                return
            cls._current = None
        self._end()

    def give_up(self, stall: Stall) -> None:
        """Leave the thread to what holds it up; its channels go to a fresh one, and it ends when it can."""
        self._move_all(stall)
        self.run_soon(stall.is_over.set)
        self._end()

    def _move_all(self, stall: Stall) -> None:
        cls = type(self)
        self._is_given_up = True
        with cls._lock:
            if cls._current is self:
                cls._current = None
            movers = tuple(self.movers)
        for move in movers:
            move(stall)

    def _end(self) -> None:
        self._is_ending = True
        self._watchdog.wind_down()
        self.run_soon(self.loop.stop)

    @classmethod
    def halt(cls) -> None:
        """Stop at exit, channels still open; calls under way are left alone, as grpcio leaves them."""
        with cls._lock:
            thread, cls._current = cls._current, None
        if thread is not None:
            thread.is_halted = True
            thread._end()
            thread._join_at_exit()

    def _join_at_exit(self) -> None:
        # Code of the user's that blocks may never return, and what it holds up would not be done either way.
        began_at = free_at = time.monotonic()
        while self.is_alive() and time.monotonic() < began_at + _HALT_TIMEOUT:
            frame = sys._current_frames().get(self.ident or 0)
            if find_user_code(frame) is None:
                free_at = time.monotonic()
            elif time.monotonic() > free_at + _HALT_PATIENCE:
                return
            self._thread.join(_HALT_LOOK)

    @property
    def ident(self) -> int | None:
        """The thread's number, None before it runs."""
        return self._thread.ident

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    @property
    def is_held_up(self) -> bool:
        """Whether the user's code has kept it from all else for a while."""
        return self._watchdog.is_held_up

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def run_soon(self, work: Callable[[], object]) -> None:
        """Have `work` run on the loop, if it still does."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(work)

    @classmethod
    def pause_all(cls) -> None:
        """Have all of them close their connections and stand still until `resume_all`.

        Waits a second at most for one that is held up, six for one that has begun to close them.
        """
        with cls._lock:
            cls._may_run.clear()
            running = [thread for thread in cls._running if not (thread.is_current or thread._is_given_up)]
        for thread in running:
            thread._is_pausing.clear()
            thread._is_paused.clear()
            thread.run_soon(thread._start_pause)
        began_at = time.monotonic()
        for thread in running:
            while thread in cls._running and not thread._is_paused.wait(_LOOK):
                limit = _PAUSE_TIMEOUT if thread._is_pausing.is_set() else _PAUSE_BEGINS
                if time.monotonic() > began_at + limit:
                    _log.warning("a resolver or picker holds up the control thread: the process forks without waiting")
                    return

    @classmethod
    def resume_all(cls) -> None:
        """Have all of them open their connections again and go on."""
        cls._may_run.set()

    def _start_pause(self) -> None:
        # One that is under way answers for the next fork, too; a loop that runs no more needs none.
        if self._is_finished:
            return
        self._is_pausing.set()
        if self._pausing is None or self._pausing.done():
            self._pausing = start_task(self.loop, self._pause())

    async def _pause(self) -> None:
        if self._may_run.is_set():  # too late: the process has forked
            return
        suspended = await suspend_connections(self.loop)
        await calls_ended(self.loop)
        await self._poller.wait()
        self._wait_until_resumed()
        for connection in suspended:
            connection.resume()

    def _wait_until_resumed(self) -> None:
        while not self._may_run.is_set():
            self._is_paused.set()
            self._may_run.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._wait_until_resumed()
        enter_control_thread()
        try:
            keep_running(self.loop, lambda: self._is_ending)
            if not self._is_ending:
                _log.error("the control thread has ended: a fresh thread takes over its channels")
                self._watchdog.stop()
                self._move_all(Stall("the control thread has ended"))
            if self.is_halted:
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
            self._complete(self._finish())
            if not asyncio.all_tasks(self.loop):  # else one may be at work, and would complain
                self._complete(self.loop.shutdown_asyncgens())
        finally:
            self._watchdog.stop()
            asyncio.set_event_loop(None)
            self.loop.close()
            self._running.discard(self)

    def _complete(self, work: Coroutine[Any, Any, None]) -> None:
        # Not run_until_complete: the stop that `_end` has asked for may still be to come, where the thread is so young
        # that its loop has not run before; and the user's code may stop the loop at any time.
        task = self.loop.create_task(work)
        task.add_done_callback(lambda _: self.loop.stop())
        keep_running(self.loop, task.done)

    async def _finish(self) -> None:
        # Channels that are closing get a moment: a loop that is gone leaves their connections open. No task is held on
        # to, since one that has ended holds its call, and in C-core a call holds its channel.
        deadline = self.loop.time() + _CLOSING
        while len(asyncio.all_tasks()) > 1 and self.loop.time() < deadline:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(_LOOK)
        # grpcio has one poller for all loops: what C-core still says to a closed one raises in another (1.85.1).
        await asyncio.sleep(_LAST_WORDS)
        self._is_finished = True

    @classmethod
    def forget_after_fork(cls) -> None:
        """In a forked child no control thread exists."""
        cls._lock = threading.RLock()
        cls._current = None
        # Their loops share what they poll with the parent's, so they must not be collected.
        _inherited.extend(cls._running)
        cls._running = set()
        cls._may_run = threading.Event()
        cls._may_run.set()


def _handle_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a callback raised, as asyncio does, but for the last look of grpcio's poller.

    With the last asyncio channel of a process, whose loop may be another one, grpcio closes what its poller tells its
    loops by. It cancels their callbacks, but one that is due already still reads there: what is closed (1.85.3), or
    empty (1.68.1).
    """
    error, handle = context.get("exception"), context.get("handle")
    is_cancelled = isinstance(handle, asyncio.Handle) and handle.cancelled()
    if not (is_cancelled and isinstance(error, OSError) and error.errno in _LAST_LOOKS):
        loop.default_exception_handler(context)


class Alarm:
    """Work that is due at some time, on whichever control thread there is then.

    Args:
        at: monotonic seconds.
        work: runs on the loop, once.
        alarms: where it stands until it has rung or was cancelled.
    """

    __slots__ = ("_alarms", "_at", "_thread", "_timer", "_work")

    def __init__(self, at: float, work: Callable[[], object], alarms: dict[Alarm, None]) -> None:
        self._at = at
        # Let go of in the end: whoever set the alarm holds it, and what is due may hold that one.
        self._work: Callable[[], object] | None = work
        self._alarms = alarms
        self._thread: ControlThread | None = None
        self._timer: asyncio.TimerHandle | None = None
        alarms[self] = None

    def arm(self, thread: ControlThread) -> None:
        """Schedule the work on this control thread; from any thread."""
        self._thread = thread
        thread.run_soon(lambda: self._set(thread.loop))

    def cancel(self) -> None:
        """Cancel the work; from any thread."""
        if self._alarms.pop(self, self) is None and self._thread is not None:
            self._work = None
            self._thread.run_soon(self._unset)

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        if self in self._alarms:
            self._timer = loop.call_later(max(0.0, self._at - time.monotonic()), self._ring)

    def _unset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._alarms.pop(self, self) is None:
            work, self._work = self._work, None
            assert work is not None
            work()


_inherited: list[ControlThread] = []
atexit.register(ControlThread.halt)
