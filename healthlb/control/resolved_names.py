"""Which addresses a host name in a list stands for, as evidence of where a refused call was going.

An unresolved name never proves a refusal.
"""

from __future__ import annotations

import asyncio

from healthlb.control.tasks import start_task
from healthlb.resolvers._lookup import ask_system
from healthlb.resolvers.addresses import is_ip, join_port, split_port

_MOST_ADDRESSES = 64
_MOST_LOOKUPS = 4


class ResolvedNames:
    """The addresses of a channel's host names. Learned on the control loop, read from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(_MOST_LOOKUPS)

    def start_afresh(self) -> None:
        """Learn on another loop from now on."""
        self._turn = asyncio.Semaphore(_MOST_LOOKUPS)

    def addresses(self, address: str) -> frozenset[str]:
        """Return the IP addresses with port that `host:port` stands for; others stand for themselves."""
        if _is_name(address):
            return self._known.get(address, frozenset())
        return frozenset((address,))

    def learn(self, address: str) -> None:
        """Look the host name up again, if it is one; what it stood for before stays known."""
        if _is_name(address):
            task = start_task(asyncio.get_running_loop(), self._learn(address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _learn(self, address: str) -> None:
        host, port = split_port(address)
        try:
            async with self._turn:
                answer = await ask_system(host)
        except OSError:
            return
        found = frozenset(join_port(ip, port or 0) for ip in answer.addresses)
        known = self._known.get(address, frozenset()) | found
        self._known[address] = known if len(known) <= _MOST_ADDRESSES else found


def _is_name(address: str) -> bool:
    return not address.startswith("unix") and not is_ip(split_port(address)[0].strip("[]"))
