"""`ChaosProxy`: a TCP proxy in a thread that breaks connections on demand.

One rule: what was read is never dropped, only held; a network that comes back delivers late, and so does this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar, get_args

from tests.backends.addresses import Reservation

Mode = Literal["pass", "blackhole", "half_up", "half_down", "drop_new", "reset", "close", "refuse", "delay"]
_Direction = Literal["up", "down"]
_MODES: tuple[str, ...] = get_args(Mode)
_HOLDS: dict[_Direction, frozenset[str]] = {
    "up": frozenset({"blackhole", "half_down"}),
    "down": frozenset({"blackhole", "half_up"}),
}
_NOT_ACCEPTING = frozenset({"drop_new", "refuse"})
_CHUNK = 65536
_CHUNKS_AHEAD = 64  # What one direction holds at most, in chunks; past it TCP pushes back.
_PATIENCE = 10.0
_T = TypeVar("_T")


class ChaosProxy:
    """A proxy between clients and one backend, whose `mode` applies to open connections too.

    Modes:
        pass: forward both ways.
        blackhole: stop reading and forwarding both ways; sockets stay open, new connections are accepted and held.
            Back in "pass", what was held goes on, as after a network outage.
        half_up, half_down: only that direction works (up is from client to backend), the other is held.
        drop_new: open connections work, new ones are not accepted: they wait in the accept queue.
        reset: RST to both ends of every connection, and to each new one.
        close: FIN to both ends of every connection, and to each new one.
        refuse: the listener is closed, every connection reset: what a client sees of a dead process.
        delay: forward both ways, `seconds` late.

    Attributes:
        address: where clients connect ("127.0.0.1:port"); the same for the proxy's whole life.
    """

    def __init__(self, target: str) -> None:
        """Listen on a free port and forward to `target`: "host:port", "[ipv6]:port" or "unix:/path"."""
        self._target = target
        self._reservation = Reservation(["127.0.0.1:0"])
        self.address = self._reservation.addresses[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self._is_closed = False
        self._shell = self._run(self._make())

    @property
    def mode(self) -> Mode:
        """The mode in force."""
        return self._shell.mode

    @property
    def connections(self) -> int:
        """How many client connections are open now."""
        return self._run(self._shell.count())

    @property
    def accepted(self) -> int:
        """How many client connections were accepted so far."""
        return self._shell.accepted

    def set_mode(self, mode: Mode, seconds: float = 0.0) -> None:
        """Switch, from any thread; returns once the mode is in force on every connection.

        Args:
            mode: see the class.
            seconds: how late "delay" forwards.

        Raises:
            ValueError: there is no such mode.
        """
        if mode not in _MODES:
            raise ValueError(f"mode {mode!r} is none of {', '.join(_MODES)}")
        self._run(self._shell.switch(mode, seconds))

    def close(self) -> None:
        """Close every socket, end the thread; may be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._run(self._shell.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()
        self._reservation.release()

    def __enter__(self) -> ChaosProxy:
        """Return this proxy."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._loop.is_closed():
            coroutine.close()
            raise RuntimeError("the proxy was closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)

    async def _make(self) -> _Listener:
        listener = _Listener(self.address, self._target)
        await listener.switch("pass", 0.0)
        return listener


class _Listener:
    """What runs on the loop: the listening socket, the mode, and the open connections."""

    def __init__(self, address: str, target: str) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self._target = target
        self._socket: socket.socket | None = None
        self._is_accepting = False
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._switching = asyncio.Lock()
        self.changed = asyncio.Condition()
        self.mode: Mode = "pass"
        self.delay = 0.0
        self.accepted = 0

    async def count(self) -> int:
        return len(self._links)

    async def switch(self, mode: Mode, seconds: float) -> None:
        async with self._switching:
            await self._switch(mode, seconds)

    async def _switch(self, mode: Mode, seconds: float) -> None:
        async with self.changed:
            self.mode, self.delay = mode, seconds if mode == "delay" else 0.0
            self.changed.notify_all()
        self._stop_accepting()
        if mode in ("reset", "close", "refuse"):
            await self._end_links(is_reset=mode != "close")
        if mode == "refuse":
            self._close_socket()
            return
        if self._socket is None:
            self._socket = self._listen()
        if mode not in _NOT_ACCEPTING:
            self._is_accepting = True
            asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)

    async def close(self) -> None:
        self._stop_accepting()
        await self._end_links(is_reset=False)
        self._close_socket()

    async def until_open(self, direction: _Direction) -> None:
        """Return when the mode lets this direction through."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.mode not in _HOLDS[direction])

    def _listen(self) -> socket.socket:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(self._where)
        listening.listen(1024)
        return listening

    def _accept(self, listening: socket.socket) -> None:
        # Not `sock_accept`: one that is cancelled just then loses the connection that it has accepted.
        try:
            client, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client.setblocking(False)
        self.accepted += 1
        if self.mode in ("reset", "close"):
            _close(client, is_reset=self.mode == "reset")
            return
        link = _Link(client, self._target, self)
        self._links[link] = asyncio.create_task(link.run())
        self._links[link].add_done_callback(lambda _: self._links.pop(link, None))

    def _stop_accepting(self) -> None:
        if self._is_accepting:
            assert self._socket is not None
            asyncio.get_running_loop().remove_reader(self._socket)
            self._is_accepting = False

    async def _end_links(self, is_reset: bool) -> None:
        for link, task in list(self._links.items()):
            await _cancelled(task)
            link.close(is_reset)

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Link:
    """One client connection and its own connection to the backend."""

    def __init__(self, client: socket.socket, target: str, listener: _Listener) -> None:
        client.setblocking(False)
        self._client = client
        self._target = target
        self._listener = listener
        self._backend: socket.socket | None = None

    async def run(self) -> None:
        """Forward until both ends have finished; an error of one end is an RST to the other."""
        try:
            await self._listener.until_open("up")
            self._backend = await _connected(self._target)
            async with asyncio.TaskGroup() as group:
                for one, other, direction in self._directions(self._client, self._backend):
                    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_AHEAD)
                    group.create_task(self._read(one, chunks, direction))
                    group.create_task(self._write(other, chunks, direction))
        except (OSError, ExceptionGroup):
            self.close(is_reset=True)
        else:
            self.close(is_reset=False)

    def close(self, is_reset: bool) -> None:
        """Close both sockets, by FIN or by RST."""
        for end in (self._client, self._backend):
            if end is not None:
                _close(end, is_reset)

    @staticmethod
    def _directions(
        client: socket.socket, backend: socket.socket
    ) -> tuple[tuple[socket.socket, socket.socket, _Direction], ...]:
        return (client, backend, "up"), (backend, client, "down")

    async def _read(
        self, end: socket.socket, chunks: asyncio.Queue[tuple[float, bytes]], direction: _Direction
    ) -> None:
        loop = asyncio.get_running_loop()
        chunk = b"."
        while chunk:
            await self._listener.until_open(direction)
            chunk = await loop.sock_recv(end, _CHUNK)
            await chunks.put((loop.time() + self._listener.delay, chunk))

    async def _write(
        self, end: socket.socket, chunks: asyncio.Queue[tuple[float, bytes]], direction: _Direction
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at, chunk = await chunks.get()
            await asyncio.sleep(due_at - loop.time())
            await self._listener.until_open(direction)
            if not chunk:
                end.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(end, chunk)


async def _connected(target: str) -> socket.socket:
    if target.startswith("unix:"):
        where: Any = target.removeprefix("unix:")
        end = socket.socket(socket.AF_UNIX)
    else:
        host, _, port = target.rpartition(":")
        name = host.strip("[]")
        end = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
        where = (name, int(port))
    end.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(end, where)
    except BaseException:
        end.close()
        raise
    return end


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _close(end: socket.socket, is_reset: bool) -> None:
    if end.fileno() == -1:
        return
    if is_reset:
        # Lingering for zero seconds is how a socket is closed by RST.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        # Closing with unread bytes would be an RST too.
        with contextlib.suppress(OSError):
            while end.recv(_CHUNK):
                pass
    end.close()
