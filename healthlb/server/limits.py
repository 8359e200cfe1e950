"""How much of the server's memory the clients of the health service may hold.

The one rule: what a client chooses is counted before it is stored, and uncounted when it leaves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from healthlb.config import check_count


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """Caps on what clients may open. A Watch beyond one is refused with RESOURCE_EXHAUSTED.

    A client is an IP address (its ports do not count), or all of a Unix socket: so behind a sidecar or a NAT many
    programs are one client.

    Attributes:
        watchers: open Watches in total; at least 1.
        watchers_per_client: open Watches of one client; at least 1.
        unknown_names: different names in total that are watched and were not set when the Watch began; at least 1.
        unknown_names_per_client: the same of one client; at least 1.
        name_length: bytes of UTF-8 that a watched name may have; at least 1. Beyond it: INVALID_ARGUMENT.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    watchers: int = 20_000
    watchers_per_client: int = 5_000
    unknown_names: int = 1_000
    unknown_names_per_client: int = 100
    name_length: int = 1024

    def __post_init__(self) -> None:
        for option in ("watchers", "watchers_per_client", "unknown_names", "unknown_names_per_client", "name_length"):
            check_count(f"WatchLimits.{option}", getattr(self, option), low=1)


class WatchRefused(Exception):
    """A Watch that is not opened.

    Attributes:
        code: the name of the gRPC status it gets.
    """

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


class Census:
    """Who holds how many Watches, and of which unknown names. Not thread-safe: the registry's lock guards it."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._watchers: Counter[str] = Counter()
        self._total = 0
        self._names: Counter[str] = Counter()
        self._names_of: dict[str, Counter[str]] = {}

    def __repr__(self) -> str:
        return f"<Census {self._total} watchers of {len(self._watchers)} clients, {len(self._names)} unknown names>"

    @property
    def watchers(self) -> int:
        """Open Watches."""
        return self._total

    @property
    def unknown_names(self) -> int:
        """Different names that are watched and were not set when their Watch began."""
        return len(self._names)

    def join(self, client: str, name: str | None) -> None:
        """Count a Watch; `name` only where it is unknown.

        Raises:
            WatchRefused: it is one too many; nothing was counted.
        """
        limits = self._limits
        self._refuse_beyond(limits.watchers, self._total, "watchers")
        self._refuse_beyond(limits.watchers_per_client, self._watchers[client], f"watchers of {client}")
        if name is not None:
            own = self._names_of.get(client, Counter())
            if name not in self._names:
                self._refuse_beyond(limits.unknown_names, len(self._names), "unknown names watched")
            if name not in own:
                self._refuse_beyond(limits.unknown_names_per_client, len(own), f"unknown names watched by {client}")
            self._names_of.setdefault(client, own)[name] += 1
            self._names[name] += 1
        self._watchers[client] += 1
        self._total += 1

    def leave(self, client: str, name: str | None) -> None:
        """Uncount what `join` counted."""
        self._total -= 1
        _decrement(self._watchers, client)
        if name is not None:
            _decrement(self._names, name)
            own = self._names_of[client]
            _decrement(own, name)
            if not own:
                del self._names_of[client]

    @staticmethod
    def _refuse_beyond(limit: int, held: int, what: str) -> None:
        if held >= limit:
            raise WatchRefused("RESOURCE_EXHAUSTED", f"too many {what}: the limit is {limit}")


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def client_of(peer: str) -> str:
    """Return the client that a grpcio peer ("ipv4:10.0.0.7:50514") belongs to: the same without the port."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
