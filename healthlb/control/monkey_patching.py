"""What programs put in the place of threads and event loops, and healthlb cannot work with.

eventlet and gevent replace them on request, wholly or in part, before or after healthlb is imported. So it is looked at
what stands there at first use, whoever has put it there.
"""

from __future__ import annotations

import _thread
import queue
import selectors
import sys
import threading

from healthlb.errors import ChannelUnusable

# Named as 3.11 to 3.13 have them. All are builtins of `_thread`, and so is the class that 3.13 has for a lock.
_THREADS = (
    (_thread, "start_new_thread"),
    (_thread, "allocate_lock"),
    (_thread, "get_ident"),
    (threading, "_start_new_thread"),
    (threading, "_start_joinable_thread"),
    (threading, "_allocate_lock"),
    (threading, "Lock"),
)


def check_threads(who: str) -> None:
    """Raise where threads or locks are not Python's own: everything would hang, past any deadline.

    Args:
        who: needs them.

    Raises:
        ChannelUnusable: eventlet, gevent or another package has replaced them.
    """
    for module, name in _THREADS:
        found = getattr(module, name, None)
        if found is not None and found.__module__ != "_thread":
            raise ChannelUnusable(
                f"{_package(found)} has replaced Python's threads, which {who} needs: patch everything but threads "
                "(thread=False), or use it in a process without monkey patching"
            )


def check_server_half() -> None:
    """Raise where a health service would not tell its changes.

    Raises:
        ChannelUnusable: eventlet, gevent or another package has replaced threads, locks or queues.
    """
    check_threads("a health service")
    if queue.SimpleQueue.__module__ not in ("_queue", "queue"):  # the latter is the same in Python
        raise ChannelUnusable(
            f"{_package(queue.SimpleQueue)} has replaced queue.SimpleQueue, by which a health service and grpc.server "
            "hand work to threads: patch neither threads nor queues, or serve in a process without monkey patching"
        )


def check_selector() -> None:
    """Raise where event loops would wait by a package's own means, which do not wake up for other threads.

    Raises:
        ChannelUnusable: gevent has replaced `selectors.DefaultSelector`.
    """
    found = selectors.DefaultSelector
    if found.__module__ != "selectors" and "gevent" in sys.modules:
        raise ChannelUnusable(
            f"{_package(found)} has replaced the selector of event loops, and a sync channel follows health on one in "
            "a thread of its own: patch everything but threads and select (thread=False, select=False), or use the "
            "channel in a process without monkey patching"
        )


def _package(found: object) -> str:
    module: str = getattr(found, "__module__", None) or "a package"
    return module.partition(".")[0]
