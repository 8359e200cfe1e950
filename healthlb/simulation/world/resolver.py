"""The resolver of a world: it has one answer for all clients, and tells them when that changes.

An answer that is of no use is given again whenever it is asked for; one that is, only when it is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from healthlb.core.messages import Endpoint
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.world.server import Server

Answer = tuple[Endpoint, ...] | str
Told = Callable[[Answer], object]


class _Cache:
    """What a client keeps of the answers: it looks again when its own time is over.

    Args:
        told: the client.
        length: nanoseconds for which it keeps an answer, 0 for not at all.
        phase: when its time is over first.
    """

    __slots__ = ("is_due", "length", "phase", "told")

    def __init__(self, told: Told, length: int, phase: int) -> None:
        self.told = told
        self.length = length
        self.phase = phase
        self.is_due = False

    def looks_at(self, now: int) -> int:
        """Return when it looks again: now or later."""
        return now + (self.phase - now) % self.length if self.length else now


class Resolver:
    """Gives out addresses.

    Args:
        engine: virtual time.
        servers: all there are; their names are their addresses.
        first: the names given at first, None for all.

    Raises:
        ConfigError: a name is unknown.
    """

    def __init__(self, engine: Engine, servers: Sequence[Server], first: Sequence[str] | None) -> None:
        self._engine = engine
        self._servers = {server.name: server for server in servers}
        self._caches: list[_Cache] = []
        names = tuple(self._servers) if first is None else tuple(first)
        self._answers: list[tuple[str, ...] | str] = [names]
        self._answer: Answer = self._make(names)
        self._list()

    def _make(self, names: tuple[str, ...] | str) -> Answer:
        if isinstance(names, str):
            return names
        unknown = [name for name in names if name not in self._servers]
        if unknown:
            raise ConfigError(f"addresses must be names of backends, not {unknown[0]!r}")
        return tuple(self._endpoint(self._servers[name]) for name in names)

    def _endpoint(self, server: Server) -> Endpoint:
        return Endpoint(server.name, weight=server.group.weight, locality=server.zone or None)

    def _list(self) -> None:
        # Clients keep the last list that says anything.
        names = next((names for names in reversed(self._answers) if names and not isinstance(names, str)), ())
        for server in self._servers.values():
            server.set_listed(server.name in names)

    def subscribe(self, told: Told, cache: int = 0, phase: int = 0) -> None:
        """Give a subscriber the present answer, and each that follows.

        Args:
            told: is called with answers.
            cache: nanoseconds for which it keeps one; it hears of another at `phase`, or as often later.
            phase: see there.
        """
        self._caches.append(_Cache(told, cache, phase))
        self._engine.after(0, self._tell, told)

    def _tell(self, told: Told) -> None:
        told(self._answer)

    def ask(self, told: Told) -> None:
        """Repeat the present answer to a subscriber that asks since it is of no use."""
        if not self._answer or isinstance(self._answer, str):
            self._engine.after(0, self._tell, told)

    def push(self, names: tuple[str, ...] | str) -> None:
        """Have another answer: names, or what goes wrong."""
        self._answers.append(names)
        self._changed()

    def take_back(self, names: tuple[str, ...] | str) -> None:
        """Withdraw that answer; the last one that is left counts."""
        self._answers.remove(names)
        self._changed()

    def _changed(self) -> None:
        self._answer = self._make(self._answers[-1])
        self._list()
        now = self._engine.now
        for cache in self._caches:
            at = cache.looks_at(now)
            if at == now:
                cache.told(self._answer)
            elif not cache.is_due:
                cache.is_due = True
                self._engine.at(at, self._look, cache)

    def _look(self, cache: _Cache) -> None:
        cache.is_due = False
        cache.told(self._answer)
