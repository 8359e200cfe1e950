"""One look at a name: the operating system's resolver, or DNS itself.

The one rule: whatever waits for the outside waits in a thread of its own or on the loop, so that
neither the loop nor the end of the process waits with it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from healthlb.resolvers._answer import Answer, in_daemon_thread

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
