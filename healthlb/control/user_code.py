"""Runs the user's code so that whatever it raises is its own failure, and nobody else's.

Resolvers, pickers, listeners and callbacks share threads with healthlb and with each other. Each of them is run from
here, or told of here; `docs/user_code.md` is the contract.
"""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Callable

from healthlb.core.user_code import Guard, name_of
from healthlb.errors import ChannelUnusable
from healthlb.text import printable_traceback

_log = logging.getLogger("healthlb")


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception comes from outside the code that it came through, and must be raised on.

    That is Ctrl-C, and what a signal handler raises: both arrive wherever the main thread happens to be. Everything
    else, SystemExit included, is the code's own.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, KeyboardInterrupt) or _is_from_signal_handler(error)


def _is_from_signal_handler(error: BaseException) -> bool:
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = {getattr(getattr(handler, "func", handler), "__code__", None) for handler in handlers} - {None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


_here = threading.local()


def enter_control_thread() -> None:
    """Mark this thread as a control thread, which must not block."""
    _here.is_control_thread = True


def is_control_thread() -> bool:
    """Whether the caller runs on a control thread."""
    return getattr(_here, "is_control_thread", False)


def check_may_wait() -> None:
    """Raise where a blocking call would hold up the thread that it waits for.

    Raises:
        ChannelUnusable: a resolver or picker has made it on the control thread.
    """
    if is_control_thread():
        raise ChannelUnusable(
            "a resolver or a picker factory runs on the thread that follows health, so a blocking call in it would "
            "wait for itself: make the call in a thread of its own (asyncio.to_thread)"
        )


class LoggingGuard(Guard):
    """Logs what a picker factory does wrong, to the logger `healthlb`."""

    def is_interrupt(self, error: BaseException) -> bool:
        """Whether the exception is to be raised on."""
        return is_interrupt(error)

    def tell(self, text: str, error: BaseException | None = None) -> None:
        """Log an error with its traceback, else a warning."""
        log_guarded(logging.WARNING if error is None else logging.ERROR, text, error)


def run_guarded(what: str, code: Callable[[], object]) -> None:
    """Run a piece of the user's code; what it raises is logged.

    Args:
        what: a word for its kind, as "listener".
        code: takes no arguments; a `functools.partial` goes by the name of its function.
    """
    try:
        code()
    except BaseException as error:
        if is_interrupt(error):
            raise
        name = name_of(code.func if isinstance(code, functools.partial) else code)
        log_guarded(logging.ERROR, f"the {what} {name} raised", error)


def log_guarded(level: int, text: str, error: BaseException | None = None) -> None:
    """Log a text, and an exception's traceback, made printable; what a handler of the user's raises goes nowhere."""
    try:
        if error is None:
            _log.log(level, "%s", text)
        elif _log.isEnabledFor(level):
            _log.handle(_record(level, text, error))
    except BaseException as raised:
        if is_interrupt(raised):
            raise


def _record(level: int, text: str, error: BaseException) -> logging.LogRecord:
    path, line, function, _ = _log.findCaller(stacklevel=3)
    raised = (type(error), error, error.__traceback__)
    record = _log.makeRecord(_log.name, level, path, line, "%s", (text,), raised, function)
    # A formatter shows this where it is set; else it would show the exception's text as a peer may have chosen it.
    record.exc_text = printable_traceback(error)
    return record
