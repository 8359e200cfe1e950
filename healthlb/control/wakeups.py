"""What a forked child shares with its parent in C-core, and should not: the descriptor that wakes threads which wait.

C-core has fork handlers of its own, but they sit out where a thread of the process is inside gRPC, as one in a blocking
call is. The child then waits on the parent's epoll instance and takes wakeups that were meant for the parent, where a
thread waits for ever: calls are never told their end, and with grpc.aio nothing is told any more (seen on 1.85.3).
The one rule: only descriptors that are C-core's for certain are touched, and only in a child.
"""

from __future__ import annotations

import os
import platform
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_OWN = Path("/proc/self")
_ADD = 1  # EPOLL_CTL_ADD
# struct epoll_event: its events and data, which are packed on x86-64 only.
_EVENT = struct.Struct("=IQ" if platform.machine() == "x86_64" else "@IQ")


class Wakeup(NamedTuple):
    """An eventfd that an epoll instance watches.

    Attributes:
        epoll: descriptor of the epoll instance.
        event: descriptor of the eventfd.
        mask: the events that are watched.
        data: what the instance returns with them: an address in the library that waits.
    """

    epoll: int
    event: int
    mask: int
    data: int


def prepare() -> None:
    """Import, before a fork, what only a child needs: there, the lock of an import may be a dead thread's."""
    import ctypes  # noqa: F401 - not at the start of each program: few fork


def part_from_parent() -> None:
    """Give this forked child wakeups of its own, where C-core's are its parent's; on Linux only."""
    if not _OWN.exists():
        return
    for wakeup in find_wakeups(library="cygrpc"):
        _replace(wakeup)


def find_wakeups(library: str) -> list[Wakeup]:
    """Return those of a library of this process: their data are addresses of its own variables."""
    ranges = _ranges(library)
    return [
        wakeup
        for epoll in _descriptors("anon_inode:[eventpoll]")
        for wakeup in _watched(epoll)
        if any(wakeup.data in one for one in ranges) and _target(wakeup.event) == "anon_inode:[eventfd]"
    ]


def _replace(wakeup: Wakeup) -> None:
    import ctypes

    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    os.dup2(event, wakeup.event, inheritable=False)
    os.close(event)
    with select.epoll() as instance:
        os.dup2(instance.fileno(), wakeup.epoll, inheritable=False)
    watched = _EVENT.pack(wakeup.mask, wakeup.data)
    ctypes.CDLL(None).epoll_ctl(wakeup.epoll, _ADD, wakeup.event, watched)


def _descriptors(target: str) -> Iterator[int]:
    return (number for number in map(int, os.listdir(_OWN / "fd")) if _target(number) == target)


def _target(descriptor: int) -> str:
    try:
        return os.readlink(_OWN / "fd" / str(descriptor))
    except OSError:  # that of the list itself
        return ""


def _watched(epoll: int) -> Iterator[Wakeup]:
    # "tfd:        7 events: 80000019 data:     7f7a19458308  pos:0 ino:12 sdev:10"
    for line in (_OWN / "fdinfo" / str(epoll)).read_text().splitlines():
        if line.startswith("tfd:"):
            _, event, _, mask, _, data, *_ = line.split()
            yield Wakeup(epoll, int(event), int(mask, 16), int(data, 16))


def _ranges(library: str) -> list[range]:
    # A library's variables lie in its last mapping, or in the one without a name right behind it.
    ranges, end = [], 0
    for line in (_OWN / "maps").read_text().splitlines():
        addresses, _, _, _, _, *name = line.split(maxsplit=5)
        first, last = (int(text, 16) for text in addresses.split("-"))
        if (name and library in name[0]) or (not name and first == end):
            ranges.append(range(first, last))
            end = last
    return ranges
