"""One look at a name: the operating system's resolver, or DNS itself.

The one rule: whatever waits for the outside waits in a thread of its own or on the loop, so that
neither the loop nor the end of the process waits with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a look found.

    Attributes:
        addresses: IP addresses, as text, in any order.
        ttl: seconds for which the answer holds, or None where nobody says.
    """

    addresses: tuple[str, ...]
    ttl: float | None = None


Query = Callable[[str, tuple[str, int] | None], Awaitable[Answer]]


async def look_up(host: str, nameserver: tuple[str, int] | None) -> Answer:
    """Return the addresses of a host name.

    Args:
        host: a host name.
        nameserver: the address and port of the only DNS server to ask, or None for the system's.

    Raises:
        OSError: nobody knows an address.
    """
    if nameserver is not None:
        query = await in_daemon_thread(_import_query)
        return await query(host, nameserver)
    if has_dnspython() and not await in_daemon_thread(functools.partial(is_in_hosts_file, host)):
        query = await in_daemon_thread(_import_query)
        # The system has the last word: it may know the name from mDNS, NIS or a VPN.
        with contextlib.suppress(OSError):
            return await query(host, None)
    return await ask_system(host)


def has_dnspython() -> bool:
    """Whether dnspython is installed (the extra `dns`)."""
    return importlib.util.find_spec("dns") is not None


def is_in_hosts_file(host: str, path: Path | None = None) -> bool:
    """Whether the hosts file names `host`; its entries go before DNS on every system."""
    try:
        lines = (path or _hosts_path()).read_text(errors="replace").lower().splitlines()
    except OSError:
        return False
    name = host.lower().removesuffix(".")
    return any(name in line.partition("#")[0].split()[1:] for line in lines)


def _hosts_path() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "drivers", "etc", "hosts")
    return Path("/etc/hosts")


def _import_query() -> Query:
    from healthlb.resolvers._dnspython import query

    return query


async def ask_system(host: str) -> Answer:
    """Return the addresses that the operating system knows for a host name.

    Args:
        host: a host name.

    Raises:
        OSError: it knows none.
    """
    try:
        entries = await in_daemon_thread(functools.partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM))
    except OSError as error:
        raise OSError(f"cannot resolve {host!r}: {error.strerror}") from error
    return Answer(tuple(str(sockaddr[0]) for *_, sockaddr in entries))


async def in_daemon_thread(function: Callable[[], _Result]) -> _Result:
    """Return what `function` returns, or raise what it raises; it runs in a daemon thread.

    The loop's own executor would not do: `asyncio.run` and the interpreter join its threads at
    the end, and a getaddrinfo without a DNS server takes tens of seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(setter: Callable[..., None], value: object) -> None:
        if not future.done():
            setter(value)

    def work() -> None:
        setter: Callable[..., None]
        value: object
        try:
            setter, value = future.set_result, function()
        except Exception as error:
            setter, value = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, setter, value)

    threading.Thread(target=work, name="healthlb-lookup", daemon=True).start()
    return await future
