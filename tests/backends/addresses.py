"""Addresses for test servers that stay theirs over kill and restart."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

_OURS = 20000  # Ports below the range of clients.
_HELD = 100  # Servers with more ports are for benchmarks, where nobody restarts and descriptors are dear.


class Reservation:
    """A set of addresses, free when reserved, that nobody else is handed while it lasts.

    The test process keeps a socket bound to each port, never listening: connecting to it is refused while the server
    is down, the kernel gives the port to nobody else (nor lets a client's own end have it, which would connect to
    itself), and a server may still bind it, since both sides set SO_REUSEADDR.
    """

    def __init__(self, hosts: list[str]) -> None:
        """Reserve `host:port`, `[ipv6]:port` (port 0: a free one), `unix:/path` or `unix:` (a fresh path)."""
        self._sockets: list[socket.socket] = []
        self._folder: str | None = None
        self._paths: list[str] = []
        self.addresses: list[str] = []
        try:
            self.addresses.extend(self._reserve(host) for host in hosts)
        except BaseException:
            self.release()
            raise
        if len(self._sockets) > _HELD:
            self._close_sockets()

    def release(self) -> None:
        """Let go of the ports and remove the sockets' files."""
        self._close_sockets()
        for path in self._paths:
            if os.path.exists(path):
                os.unlink(path)
        self._paths.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _close_sockets(self) -> None:
        for reserved in self._sockets:
            reserved.close()
        self._sockets.clear()

    def _reserve(self, host: str) -> str:
        if host.startswith("unix:"):
            return self._reserve_path(host.removeprefix("unix:"))
        name, _, port = host.rpartition(":")
        found = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, _, _, _, where = found[0]
        reserved = socket.socket(family, socket.SOCK_STREAM)
        self._sockets.append(reserved)
        if where[1]:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(where)
        else:
            bind_free(reserved, where)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return f"{name}:{reserved.getsockname()[1]}"

    def _reserve_path(self, path: str) -> str:
        if not path:
            self._folder = self._folder or tempfile.mkdtemp(prefix="backend-")
            path = os.path.join(self._folder, f"{len(self._paths)}.sock")
        self._paths.append(path)
        return f"unix:{path}"


def bind_free(reserved: socket.socket, where: tuple[Any, ...]) -> None:
    """Bind to a free port below those that the kernel gives to clients.

    On a machine with tens of thousands of connections a client may get a reserved port after all, where another had it
    before, and then no server can have it.
    """
    first = _first_of_clients()
    for port in random.sample(range(first - _OURS, first), 100):
        try:
            # Without SO_REUSEADDR: nobody else may have it, not even reserved.
            reserved.bind((where[0], port, *where[2:]))
        except OSError:
            continue
        return
    reserved.bind(where)


def _first_of_clients() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def join(host: str, port: int) -> str:
    """Return host and port as one address; `unix:...` stays what it is."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(address: str) -> int:
    """Return the port of an address, 0 for a unix one."""
    return 0 if address.startswith("unix:") else int(address.rpartition(":")[2])
