"""The statuses of a server's services, and who watches them: what both servicers stand on.

A watcher has no queue: its mailbox is the status of the name it watches, and it remembers only what it was given last.
So the latest status always wins (P34), a slow watcher costs no memory (P44), equal statuses are not repeated, and
`set` takes the same time however many watch.

The one rule: the lock is held for a few lines of bookkeeping, never while anything is sent or called (P36).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server.limits import Census, WatchLimits, WatchRefused, client_of

_log = logging.getLogger("healthlb.server")

Announce = Callable[[str], None]


class Watcher:
    """One open Watch, made by `Registry.watch`.

    Attributes:
        name: the service it watches.
        wake: what whoever delivers calls when there may be news; the maker of the Watch sets it. It must not block.
    """

    __slots__ = ("_client", "_is_gone", "_last", "_registry", "_unknown_name", "name", "wake")

    def __init__(self, registry: Registry, name: str, client: str, unknown_name: str | None) -> None:
        self.name = name
        self.wake: Callable[[], None] = _do_nothing
        self._registry = registry
        self._client = client
        self._unknown_name = unknown_name
        self._last: int | None = None
        self._is_gone = False

    def __repr__(self) -> str:
        return f"<Watcher of {self.name!r} from {self._client}, last told {self._last}>"

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
    """Names, their statuses and their watchers. Thread-safe.

    Args:
        announce: called with a name, outside the lock, after its status changed: whoever delivers then asks
            `watchers(name)`. It must not block. Of several changes in between one is announced.
        limits: what clients may hold.

    Raises:
        ConfigError: `limits` is none.
    """

    def __init__(self, announce: Announce, limits: WatchLimits) -> None:
        if not isinstance(limits, WatchLimits):
            raise ConfigError(f"limits must be a WatchLimits, not {limits!r}")
        self._announce = announce
        self._limits = limits
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = {"": ServingStatus.SERVING}
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._announced: set[str] = set()
        self._census = Census(limits)
        self._is_shut_down = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "shut down" if self._is_shut_down else "open"
        return f"<Registry {state}, {len(self._statuses)} services, {self._census!r}>"

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
            ConfigError: the name or the status is not valid.
        """
        _check(name, status)
        with self._lock:
            self._statuses[name] = int(status)
            is_hidden = self._is_shut_down
            must_announce = self._mark(name)
        if must_announce:
            self._announce(name)
        if is_hidden:
            _log.info("%r set to %s while shut down: clients see NOT_SERVING", name, ServingStatus(status).name)

    def shut_down(self) -> None:
        """Show every service as NOT_SERVING, whatever is set, until `resume`."""
        self._switch(is_shut_down=True, is_closed=self._is_closed)

    def close(self) -> None:
        """Shut down and have every Watch end, those of unknown names too (P41); new ones are refused."""
        self._switch(is_shut_down=True, is_closed=True)

    def resume(self) -> None:
        """Undo `shut_down` and `close`: every service shows what it was last set to."""
        self._switch(is_shut_down=False, is_closed=False)

    def watch(self, name: str, peer: str) -> Watcher:
        """Register a watcher. What it takes first is the status at this moment or a later one (P33).

        Args:
            name: the service.
            peer: as grpcio's `context.peer()` gives it.

        Raises:
            WatchRefused: the registry is closed, the name too long, or a limit reached.
        """
        length = len(name.encode(errors="surrogatepass"))
        if length > self._limits.name_length:
            raise WatchRefused("INVALID_ARGUMENT", f"a service name of {length} bytes, not {self._limits.name_length}")
        client = client_of(peer)
        with self._lock:
            if self._is_closed:
                raise WatchRefused("UNAVAILABLE", "the server is shutting down")
            unknown_name = None if name in self._statuses else name
            self._census.join(client, unknown_name)
            watcher = Watcher(self, name, client, unknown_name)
            self._watchers.setdefault(name, {})[watcher] = None
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher; any number of times."""
        with self._lock:
            if watcher._is_gone:
                return
            watcher._is_gone = True
            watcher.wake = _do_nothing
            self._census.leave(watcher._client, watcher._unknown_name)
            others = self._watchers[watcher.name]
            del others[watcher]
            # P39: names are the clients' choice, so an empty entry must not stay.
            if not others:
                del self._watchers[watcher.name]

    def watchers(self, name: str) -> tuple[Watcher, ...]:
        """Return who is to hear of an announced name."""
        with self._lock:
            self._announced.discard(name)
            return tuple(self._watchers.get(name, ()))

    def watcher_count(self) -> int:
        """Return the number of open Watches."""
        with self._lock:
            return self._census.watchers

    def _visible(self, name: str) -> int | None:
        status = self._statuses.get(name)
        return ServingStatus.NOT_SERVING if self._is_shut_down and status is not None else status

    def _mark(self, name: str) -> bool:
        if name in self._announced or name not in self._watchers:
            return False
        self._announced.add(name)
        return True

    def _switch(self, *, is_shut_down: bool, is_closed: bool) -> None:
        with self._lock:
            self._is_shut_down, self._is_closed = is_shut_down, is_closed
            names = [name for name in self._watchers if self._mark(name)]
        for name in names:
            self._announce(name)


def _do_nothing() -> None:
    """Wake nobody."""


def _check(name: object, status: object) -> None:
    if not isinstance(name, str):
        raise ConfigError(f"service must be a string, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"service must be a string that UTF-8 can hold, not {name!r}") from error
    if isinstance(status, bool) or not isinstance(status, int) or status not in list(ServingStatus):
        known = ", ".join(f"{known.name} ({known.value})" for known in ServingStatus)
        raise ConfigError(f"status of {name!r} must be one of {known}, not {status!r}")
