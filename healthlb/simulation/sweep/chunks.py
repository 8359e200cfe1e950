"""What executors have in common: chunks of work, and processes that leave Ctrl-C to the one that started them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
