"""`Backend`: one real grpcio server in a process of its own, as a test holds it."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tests.backends.addresses import Reservation, join, port_of
from tests.backends.process import BackendError, ServerCrashed, ServerProcess

KINDS = (
    *("sync", "aio", "no_health", "silent_watch", "answer_once", "watch_error"),
    *("garbage", "scripted_watch", "max_age", "hung_check"),
)
_OPTIONS = frozenset(
    {
        *("args", "workers", "tls", "require_metadata", "hosts", "ports", "code", "messages", "statuses"),
        "after",
        *("bare_health", "max_connection_age_ms", "max_connection_age_grace_ms"),
    }
)
_EXIT_SLACK = 20.0  # Seconds beyond the grace that a stopping server may take on a busy machine.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a server has seen in its present life (a restart begins anew), except for `ids`.

    Times are `time.monotonic()`, which on Linux is one clock for all processes.

    Attributes:
        executions: handlers started, by method: "Unary", "ServerStream", "ClientStream", "Bidi".
        ids: how often each `x-id` was executed, over all lives of this `Backend`.
        in_flight: handlers running now.
        cancelled: handlers whose client left before they were through.
        checks: Health/Check calls (those answered UNIMPLEMENTED by "no_health" too).
        watches_started: Health/Watch calls (those answered UNIMPLEMENTED by "no_health" too).
        watches_open: Health/Watch calls that have not ended.
        watches: Health/Watch calls by the service asked for (of "no_health": all under "").
        watch_times: when they started, the last 1,000.
        last_metadata: the metadata of the last call, by method; "Check" and "Watch" as well.
        peers: the client ends seen, by method, the last 1,000, oldest first: one connection, one peer.
        started_at: when this life began.
    """

    executions: Mapping[str, int]
    ids: Mapping[str, int]
    in_flight: int
    cancelled: int
    checks: int
    watches_started: int
    watches_open: int
    watches: Mapping[str, int]
    watch_times: Sequence[float]
    last_metadata: Mapping[str, Sequence[Sequence[str]]]
    peers: Mapping[str, Sequence[str]]
    started_at: float


class Backend:
    """One real grpcio server in a process of its own; every method may be called from any thread.

    Attributes:
        kind: what it does, see the package's docstring.
        name: what it answers.
        addresses: every address it listens on, kept over kill and restart.

    Args:
        kind: one of `KINDS`.
        name: what it answers and how it is called in errors.
        port: the port; 0 picks a free one.
        host: an IP address, a host name, "unix:/path", or "unix:" for a fresh path.
        services: the services that get `status`. grpcio's own health service says SERVING for "" besides.
        status: the serving status at the start, a name or a number.
        options: see the package's docstring.
        wait: False returns at once; `wait_ready` must follow.

    Raises:
        ValueError: the kind or an option does not exist.
        BackendError: the server did not start; the text holds its stderr.
    """

    def __init__(
        self,
        kind: str = "sync",
        *,
        name: str = "b0",
        port: int = 0,
        host: str = "127.0.0.1",
        services: Sequence[str] = ("",),
        status: str | int = "SERVING",
        options: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> None:
        """Start the server and return when it serves; the class says what the arguments mean."""
        options = dict(options or {})
        _validate(kind, options)
        self.kind = kind
        self.name = name
        hosts = options.pop("hosts", None) or [join(host, port)] * options.pop("ports", 1)
        self._settings: dict[str, Any] = {"services": list(services), "status": status, "options": options}
        self._reservation = Reservation(hosts)
        self._journal: IO[bytes] = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115 - closed by the finalizer
        self._finalizer = weakref.finalize(self, _release, self._reservation, self._journal, os.getpid())
        self.addresses = tuple(self._reservation.addresses)
        self._process = self._spawn()
        if wait:
            self.wait_ready()

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        """The first address' port; 0 for a unix socket."""
        return port_of(self.address)

    @property
    def pid(self) -> int:
        """The id of the present process, or of the last one."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._process.is_running()

    def wait_ready(self) -> None:
        """Wait for a start begun with `wait=False`."""
        try:
            self._process.wait_ready()
        except BackendError:
            self.close()
            raise

    def set(self, status: str | int, service: str = "") -> None:
        """Set the serving status and return once the server has applied it."""
        self._process.command("set", service=service, status=status)

    def behave(
        self,
        *,
        sleep: float | None = None,
        fail: str | None = None,
        details: str | None = None,
        pushback: int | str | None = None,
        trailer: str | None = None,
        report: str | None = None,
    ) -> None:
        """Steer every later call of /test.Echo as its metadata could; without arguments: back to normal.

        Args:
            sleep: seconds before the answer.
            fail: the name of the status code to fail with.
            details: the text to fail with.
            pushback: the value of the trailer `grpc-retry-pushback-ms`.
            trailer: the value of the trailer `x-trailer`.
            report: send a load report with every answer: queries per second and CPU utilization, `"100,0.5"`.
        """
        wanted = {"sleep": sleep, "fail": fail, "details": details, "pushback": pushback}
        self._process.command("behave", **wanted, trailer=trailer, report=report)

    def stats(self) -> Stats:
        """Return what the server has seen."""
        return Stats(ids=self.executed_ids(), **self._process.command("stats"))

    def executed_ids(self) -> Mapping[str, int]:
        """How often each `x-id` was executed, over all lives; works while the server is down or paused."""
        size = os.fstat(self._journal.fileno()).st_size
        return collections.Counter(os.pread(self._journal.fileno(), size, 0).decode().splitlines())

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._process.signal(signal.SIGKILL)
        self._process.wait_exit(_EXIT_SLACK)

    def begin_stop(self, grace: float | None = 0.5) -> None:
        """Stop gracefully: GOAWAY now, `grace` seconds for calls in flight, then the process ends. Does not wait."""
        if self.is_running():
            # A crash is a stop as well, if not a graceful one.
            with contextlib.suppress(ServerCrashed):
                self._process.command("stop", grace=grace)

    def stop(self, grace: float | None = 0.5) -> None:
        """Stop gracefully and wait until the process is gone."""
        self.begin_stop(grace)
        self.wait_exit((grace or 0.0) + _EXIT_SLACK)

    def wait_exit(self, timeout: float = _EXIT_SLACK) -> None:
        """Wait until the process is gone, as after `begin_stop`; raises BackendError after `timeout` seconds."""
        self._process.wait_exit(timeout)

    def pause(self) -> None:
        """SIGSTOP; returns when every thread of the process has stopped. Its sockets stay open, nobody answers."""
        self._process.signal(signal.SIGSTOP)
        self._process.wait_stopped(True)

    def resume(self) -> None:
        """SIGCONT; returns when the process runs again."""
        self._process.signal(signal.SIGCONT)
        self._process.wait_stopped(False)

    def restart(self, *, kind: str | None = None, status: str | int | None = None) -> None:
        """Start again on the same addresses, a running server being killed first; returns when it serves.

        A server that crashes in native code as it starts is started once more.

        Args:
            kind: come back as another kind (a server that was upgraded, say).
            status: come back with another status; default: the one it was made with.
        """
        if not self._finalizer.alive:
            raise BackendError(f"backend {self.name} was closed")
        _validate(kind or self.kind, self._settings["options"])
        self._process.close()
        self.kind = kind or self.kind
        changes = {} if status is None else {"status": status}
        self._process = self._spawn(**changes)
        try:
            self._process.wait_ready()
        except ServerCrashed:
            self._process = self._spawn(**changes)
            self._process.wait_ready()

    def stderr(self) -> str:
        """What the present process wrote to stderr."""
        return self._process.stderr()

    def close(self) -> None:
        """End the process whatever its state and leave nothing behind; may be called twice."""
        self._process.close()
        self._finalizer()

    def __enter__(self) -> Backend:
        """Return this backend."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Return something like `<Backend b0 sync 127.0.0.1:50123 running, pid 4711>`."""
        state = f"running, pid {self.pid}" if self.is_running() else "down"
        return f"<Backend {self.name} {self.kind} {self.address} {state}>"

    def _spawn(self, **others: Any) -> ServerProcess:
        settings = {"kind": self.kind, "name": self.name, "addresses": self.addresses, **self._settings, **others}
        return ServerProcess(settings, self._journal.fileno())


def start_backends(count: int, kind: str = "sync", **settings: Any) -> list[Backend]:
    """Start `count` backends in parallel, named b0, b1 and so on; if one fails to start, none is left.

    Args:
        count: how many.
        kind: the kind of all.
        settings: what `Backend` takes besides; `name` is a prefix here.
    """
    prefix = settings.pop("name", "b")
    backends: list[Backend] = []
    try:
        for index in range(count):
            backends.append(Backend(kind, name=f"{prefix}{index}", wait=False, **settings))
        for backend in backends:
            backend.wait_ready()
    except BaseException:
        for backend in backends:
            backend.close()
        raise
    return backends


def _validate(kind: str, options: Mapping[str, Any]) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    if unknown := sorted(set(options) - _OPTIONS):
        raise ValueError(f"options {', '.join(unknown)} are none of {', '.join(sorted(_OPTIONS))}")


def _release(reservation: Reservation, journal: IO[bytes], owner: int) -> None:
    if os.getpid() == owner:
        reservation.release()
    journal.close()
