"""How much of the server's memory the clients of the health service may hold.

Two rules: what a client chooses is counted before it is stored, and uncounted when it leaves; and what is nearly used
up is refused first to those who hold most of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.config import check_count

_NEAR = 0.8  # Share of a total from which on a warning is due,
_FAR = 0.6  # and below which the next one may come.


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """Caps on what clients may open. A Watch beyond one is refused with RESOURCE_EXHAUSTED.

    A client is an IPv4 address, an IPv6 network of 64 bits, all of a Unix socket, or all whose address the server
    cannot tell: so behind a sidecar or a NAT many programs are one client. A client may not hold more of a total than
    what is still free of it, so four clients that take all they can leave a fifth of it for others. This does not hold
    where the limit for one client is as high as the total. A WARNING tells when 80 % of a total are in use.

    Attributes:
        watchers: open Watches in total; at least 1.
        watchers_per_client: open Watches of one client; at least 1.
        unknown_names: different names in total that are watched and were not set when the Watch began; at least 1.
        unknown_names_per_client: the same of one client; at least 1.
        name_length: bytes of UTF-8 that a watched name may have; at least 1. Beyond it: INVALID_ARGUMENT, and a
            `ConfigError` where such a name is set.

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


@dataclass(frozen=True, slots=True)
class _Limit:
    """One resource: what there is of it, and how much of that one client may hold."""

    what: str
    total: int
    per_client: int

    def refuse(self, used: int, held: int, client: str) -> None:
        """Raise WatchRefused where `client`, who holds `held` of the `used`, may have no more."""
        text = ""
        if held >= self.per_client:
            text = f"too many {self.what} of {client}: the limit is {self.per_client}"
        elif used >= self.total:
            text = f"too many {self.what}: the limit is {self.total}"
        elif self.per_client < self.total and held >= self.total - used:
            text = f"too many {self.what} of {client}: {held}, and others have left {self.total - used} of {self.total}"
        if text:
            raise WatchRefused("RESOURCE_EXHAUSTED", text)


class WatchCounts:
    """Who holds how many Watches, and of which unknown names. Not thread-safe: the registry's lock guards it."""

    def __init__(self, limits: WatchLimits) -> None:
        self._watching = _Limit("watchers", limits.watchers, limits.watchers_per_client)
        self._naming = _Limit("unknown names", limits.unknown_names, limits.unknown_names_per_client)
        self._watchers: Counter[str] = Counter()
        self._total = 0
        self._names: Counter[str] = Counter()
        self._names_of: dict[str, Counter[str]] = {}
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return (
            f"<WatchCounts {self._total} watchers of {len(self._watchers)} clients, {len(self._names)} unknown names>"
        )

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
        self._watching.refuse(self._total, self._watchers[client], client)
        if name is not None:
            own = self._names_of.get(client, Counter())
            if name not in own:
                # A name that others watch already takes no more of the total.
                used = len(self._names) if name not in self._names else 0
                self._naming.refuse(used, len(own), client)
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

    def warnings(self) -> list[str]:
        """Return what must be said of totals that are nearly used up; once until less of them is in use again."""
        texts = []
        for limit, used in ((self._watching, self._total), (self._naming, len(self._names))):
            if used < limit.total * _FAR:
                self._warned.discard(limit.what)
            elif used >= limit.total * _NEAR and limit.what not in self._warned:
                self._warned.add(limit.what)
                texts.append(f"{used} of {limit.total} {limit.what} are in use; most by {self._largest(limit)}")
        return texts

    def _largest(self, limit: _Limit) -> str:
        held: Mapping[str, int] = self._watchers
        if limit is self._naming:
            held = {client: len(names) for client, names in self._names_of.items()}
        return ", ".join(f"{client} ({count})" for client, count in Counter(held).most_common(3))


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
