"""The statuses of a server's services, and who watches them: what both servicers stand on.

A watcher has no queue: its mailbox is the status of the name it watches, and it remembers only what it was given last.
So the latest status always wins (P34), a slow watcher costs no memory (P44), equal statuses are not repeated, and
`set` takes the same time however many watch.

Two rules: the lock is held for a few lines of bookkeeping, never while anything is sent or called (P36); and changes
are queued before they are made, so that a signal handler may make one in the middle of another.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server.limits import WatchCounts, WatchLimits, WatchRefused
from healthlb.text import printable

_log = logging.getLogger("healthlb.server")


class Courier(Protocol):
    """What brings changes to its watchers: the senders of a `grpc.server`, or one event loop."""

    def announce(self, name: str) -> None:
        """Wake `Registry.watchers(name, self)`, soon.

        Called outside the lock, from any thread or signal handler, after the status changed; must not block. Of
        several changes in between one is announced.
        """


class Watcher:
    """One open Watch, made by `Registry.watch`.

    Attributes:
        name: the service it watches.
        client: who opened it, as `contexts.client_of` has it.
        courier: what calls `wake`.
        wake: what the courier calls when there may be news; the maker of the Watch sets it. It must not block.
    """

    __slots__ = ("_is_gone", "_last", "_registry", "_unknown_name", "client", "courier", "name", "wake")

    def __init__(
        self, registry: Registry, name: str, client: str, *, courier: Courier, unknown_name: str | None
    ) -> None:
        self.name: str = name
        self.client: str = client
        self.courier: Courier = courier
        self.wake: Callable[[], None] = _do_nothing
        self._registry = registry
        self._unknown_name = unknown_name
        self._last: int | None = None
        self._is_gone = False

    def __repr__(self) -> str:
        return f"<Watcher of {self.name!r} from {self.client}, last told {self._last}>"

    def take(self) -> int | None:
        """Return the status to tell next, None where the last one still holds. One caller at a time."""
        status = None if self._is_gone else self._registry.current(self.name)
        if status == self._last:
            return None
        self._last = status
        return status

    @property
    def is_gone(self) -> bool:
        """Whether `leave` was called."""
        return self._is_gone

    @property
    def has_news(self) -> bool:
        """Whether there is something to do: a status to tell, or the end."""
        return self.is_ended or (not self._is_gone and self._registry.current(self.name) != self._last)

    @property
    def is_ended(self) -> bool:
        """Whether the registry was closed under a watcher that is still here: it is told the last status and ends."""
        return self._registry.is_closed and not self._is_gone

    def leave(self) -> None:
        """Stop watching; any number of times."""
        self._registry.remove(self)


class Registry:
    """Names, their statuses and their watchers. Thread-safe, and safe in signal handlers.

    Args:
        limits: what clients may hold.

    Raises:
        ConfigError: `limits` is none.
    """

    def __init__(self, limits: WatchLimits) -> None:
        if not isinstance(limits, WatchLimits):
            raise ConfigError(f"limits must be a WatchLimits, not {limits!r}")
        self._limits = limits
        # Re-entrant: a signal handler may call `set` on a thread that is in the middle of something here.
        self._lock = threading.RLock()
        self._changes: deque[Callable[[], None]] = deque()
        self._is_changing = False
        self._statuses: dict[str, int] = {"": ServingStatus.SERVING}
        self._watchers: dict[str, dict[Courier, dict[Watcher, None]]] = {}
        self._announced: set[tuple[str, Courier]] = set()
        self._due: deque[tuple[str, Courier]] = deque()
        self._counts = WatchCounts(limits)
        self._warnings: deque[str] = deque()
        self._is_shut_down = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "shut down" if self._is_shut_down else "open"
        return f"<Registry {state}, {len(self._statuses)} services, {self._counts!r}>"

    @property
    def is_closed(self) -> bool:
        """Whether Watches are to end."""
        return self._is_closed

    @property
    def is_shut_down(self) -> bool:
        """Whether every service is shown as NOT_SERVING."""
        return self._is_shut_down

    def get(self, name: str) -> int | None:
        """Return the status that clients see, None where the name was never set."""
        return self._visible(name)

    def current(self, name: str) -> int:
        """Return what a watcher is told: SERVICE_UNKNOWN where the name was never set."""
        # Without the lock, or `set` would queue up behind every sender: whatever changes meanwhile is announced after
        # it changed, and then read again.
        status = self._visible(name)
        return ServingStatus.SERVICE_UNKNOWN if status is None else status

    def wanted(self, name: str) -> int | None:
        """Return what the name was last set to, shut down or not."""
        return self._statuses.get(name)

    def statuses(self) -> dict[str, int]:
        """Return every service with the status that clients see."""
        with self._lock:
            if self._is_shut_down:
                return dict.fromkeys(self._statuses, ServingStatus.NOT_SERVING)
            return dict(self._statuses)

    def set(self, name: str, status: int) -> None:
        """Set a status. While shut down it is kept for `resume` and not shown (P42).

        Raises:
            ConfigError: the name or the status is not valid, or nobody could watch the name.
        """
        self.check_name(name)
        _check_status(name, status)
        self._change(lambda: self._put(name, int(status)))
        if self._is_shut_down:
            _log.info("%r set to %s while shut down: clients see NOT_SERVING", name, ServingStatus(status).name)

    def check_name(self, name: object) -> None:
        """Refuse the name of a service that cannot be set.

        Raises:
            ConfigError: it is no string that UTF-8 can hold, or longer than `WatchLimits.name_length`, so that every
                Watch of it would be refused.
        """
        if not isinstance(name, str):
            raise ConfigError(f"service must be a string, not {name!r}")
        try:
            length = len(name.encode())
        except UnicodeEncodeError as error:
            raise ConfigError(f"service must be a string that UTF-8 can hold, not {name!r}") from error
        most = self._limits.name_length
        if length > most:
            raise ConfigError(
                f"service must be a name of at most {most} bytes (WatchLimits.name_length), not one of {length}, "
                f"{printable(name, 60)!r}: nobody could watch it"
            )

    def shut_down(self) -> None:
        """Show every service as NOT_SERVING, whatever is set, until `resume`."""
        self._change(lambda: self._switch(is_shut_down=True, is_closed=self._is_closed))

    def close(self) -> None:
        """Shut down and have every Watch end, those of unknown names too (P41); new ones are refused."""
        self._change(lambda: self._switch(is_shut_down=True, is_closed=True))

    def resume(self) -> None:
        """Undo `shut_down` and `close`: every service shows what it was last set to."""
        self._change(lambda: self._switch(is_shut_down=False, is_closed=False))

    def watch(self, name: str, client: str, courier: Courier) -> Watcher:
        """Register a watcher. What it takes first is the status at this moment or a later one (P33).

        Args:
            name: the service.
            client: who watches, as `contexts.client_of` has it.
            courier: what wakes it.

        Raises:
            WatchRefused: the registry is closed, the name too long, or a limit reached.
        """
        length = len(name.encode(errors="surrogatepass"))
        if length > self._limits.name_length:
            raise WatchRefused("INVALID_ARGUMENT", f"a service name of {length} bytes, not {self._limits.name_length}")
        admitted: list[Watcher | WatchRefused] = []
        self._change(lambda: admitted.append(self._admit(name, client, courier)))
        self._warn()
        if isinstance(admitted[0], WatchRefused):
            raise admitted[0]
        return admitted[0]

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher; any number of times."""
        self._change(lambda: self._forget(watcher))

    def watchers(self, name: str, courier: Courier) -> tuple[Watcher, ...]:
        """Return whom a courier must wake for an announced name."""
        with self._lock:
            self._announced.discard((name, courier))
            return tuple(self._watchers.get(name, {}).get(courier, ()))

    def watcher_count(self) -> int:
        """Return the number of open Watches."""
        with self._lock:
            return self._counts.watchers

    def _change(self, change: Callable[[], None]) -> None:
        """Make a change, after those that were asked for before it, and have it announced.

        A signal handler (or the garbage collector, which may end a Watch) that interrupts a change leaves its own in
        the queue, and the interrupted call makes it before it returns. No change may raise.
        """
        self._changes.append(change)
        while self._changes:
            with self._lock:
                if self._is_changing:
                    return
                try:
                    self._is_changing = True
                    while self._changes:
                        self._changes.popleft()()
                finally:
                    self._is_changing = False
        with contextlib.suppress(IndexError):
            while True:
                name, courier = self._due.popleft()
                courier.announce(name)

    def _warn(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                _log.warning("%s", self._warnings.popleft())

    def _admit(self, name: str, client: str, courier: Courier) -> Watcher | WatchRefused:
        if self._is_closed:
            return WatchRefused("UNAVAILABLE", "the server is shutting down")
        unknown_name = None if name in self._statuses else name
        try:
            self._counts.join(client, unknown_name)
        except WatchRefused as refused:
            return refused
        self._warnings.extend(self._counts.warnings())
        watcher = Watcher(self, name, client, courier=courier, unknown_name=unknown_name)
        self._watchers.setdefault(name, {}).setdefault(courier, {})[watcher] = None
        return watcher

    def _forget(self, watcher: Watcher) -> None:
        if watcher._is_gone:
            return
        watcher._is_gone = True
        watcher.wake = _do_nothing
        self._counts.leave(watcher.client, watcher._unknown_name)
        couriers = self._watchers[watcher.name]
        others = couriers[watcher.courier]
        del others[watcher]
        # P39: names are the clients' choice, so an empty entry must not stay.
        if not others:
            del couriers[watcher.courier]
            self._announced.discard((watcher.name, watcher.courier))
        if not couriers:
            del self._watchers[watcher.name]

    def _put(self, name: str, status: int) -> None:
        self._statuses[name] = status
        self._mark(name)

    def _switch(self, *, is_shut_down: bool, is_closed: bool) -> None:
        self._is_shut_down, self._is_closed = is_shut_down, is_closed
        for name in self._watchers:
            self._mark(name)

    def _mark(self, name: str) -> None:
        for courier in self._watchers.get(name, ()):
            if (name, courier) not in self._announced:
                self._announced.add((name, courier))
                self._due.append((name, courier))

    def _visible(self, name: str) -> int | None:
        status = self._statuses.get(name)
        return ServingStatus.NOT_SERVING if self._is_shut_down and status is not None else status


def _do_nothing() -> None:
    """Wake nobody."""


def _check_status(name: str, status: object) -> None:
    if isinstance(status, bool) or not isinstance(status, int) or status not in list(ServingStatus):
        known = ", ".join(f"{known.name} ({known.value})" for known in ServingStatus)
        raise ConfigError(f"status of {name!r} must be one of {known}, not {status!r}")
