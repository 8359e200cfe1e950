"""What the wire has said to a client: which statuses came on which link, and when Watches began and ended.

The one rule: this is what arrived, not what anybody made of it. It is written down before the client hears it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from healthlb.core.messages import (
    CheckEnded,
    Effect,
    Endpoint,
    Event,
    HealthReported,
    StartWatch,
    StopWatch,
    Tick,
    WatchClosed,
)
from healthlb.core.snapshot import Snapshot
from healthlb.core.states import Code
from healthlb.simulation.host import CoreHost
from healthlb.simulation.wire import Connection, Link, Stream
from healthlb.simulation.world import Around

if TYPE_CHECKING:
    import random

    from healthlb.simulation.client import Client
    from healthlb.simulation.fuzzing.invariants import Inspector
    from healthlb.simulation.world import World

SERVING = 1


class LinkWords:
    """What was said on one link.

    Attributes:
        status: the last serving status, -1 before the first.
        changed_at: when that was last another one, in nanoseconds.
        is_unimplemented: whether a Watch ended with UNIMPLEMENTED.
        is_open: whether a Watch is under way.
        has_said: whether the last Watch has said anything.
        started_at: when it was opened.
        ended_at: when it ended.
        silent_ends: Watches in a row that ended without a word.
        quick_ends: Watches that said something and ended soon after.
    """

    __slots__ = (
        "changed_at", "ended_at", "has_said", "is_open", "is_unimplemented", "quick_ends", "silent_ends", "started_at",
        "status",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.status = -1
        self.changed_at = self.started_at = self.ended_at = now
        self.is_unimplemented = self.is_open = self.has_said = False
        self.silent_ends = self.quick_ends = 0


class HeardConnection(Connection):
    """A connection whose words are written down.

    Attributes:
        words: what was said on its present link, None before a Watch was opened there.
        said_on: which link that is.
        linked_at: when it last got a link; lost_at: when it last lost one.
    """

    __slots__ = ("client", "inspector", "linked_at", "lost_at", "said_on", "words")

    client: Client
    inspector: Inspector
    words: LinkWords | None
    said_on: Link | None
    linked_at: int
    lost_at: int

    def established(self, token: int, link: Link) -> None:
        """The server has accepted."""
        self.linked_at = self.path.engine.now
        super().established(token, link)

    def lost(self, link: Link, reason: str) -> None:
        """The link is gone, or is to be left."""
        self.lost_at = self.path.engine.now
        super().lost(link, reason)

    def watch(
        self, service: str, on_status: Callable[[int], object], on_end: Callable[[Code, str], object]
    ) -> Stream | None:
        """Open a Watch, and write down what comes of it."""
        if self.link is None:
            return super().watch(service, on_status, on_end)
        now = self.path.engine.now
        if self.words is None or self.said_on is not self.link:
            self.words, self.said_on = LinkWords(now), self.link
        else:
            self.inspector.watch_again(self, self.words, now)
        words = self.words
        words.started_at, words.is_open, words.has_said = now, True, False

        def said(status: int) -> None:
            self._said(words, status)
            on_status(status)

        def ended(code: Code, details: str) -> None:
            words.is_open, words.ended_at = False, self.path.engine.now
            words.is_unimplemented |= code is Code.UNIMPLEMENTED
            words.status = -1
            words.changed_at = words.ended_at
            on_end(code, details)

        return super().watch(service, said, ended)

    def _said(self, words: LinkWords, status: int) -> None:
        words.has_said = True
        words.silent_ends = 0
        if status != words.status:
            words.status, words.changed_at = status, self.path.engine.now

    @property
    def heard(self) -> LinkWords | None:
        """What was said on the link that it has now."""
        return self.words if self.link is not None and self.said_on is self.link else None


class HeardAround(Around):
    """A client's view of the world, written down."""

    def __init__(self, world: World, client: Client, inspector: Inspector) -> None:
        super().__init__(world, client)
        self._inspector = inspector

    def connect(self, endpoint: Endpoint, on_change: Callable[[Connection], object]) -> Connection:
        """Return a new connection to an endpoint."""
        path = self.world.path(self.client, self.world.server(endpoint.address))
        reconnect = self.world.policy.health.reconnect
        connection = HeardConnection(path, reconnect, self._jitter, on_change, self._connecting)
        connection.client, connection.inspector = self.client, self._inspector
        connection.words = connection.said_on = None
        connection.linked_at = connection.lost_at = -1
        self._inspector.scene.connected(connection)
        return connection

    def published(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        super().published(snapshot)
        self._inspector.published(self.client, snapshot)


class GossipHost(CoreHost):
    """A host that makes life hard for its core, as an event loop may.

    Now and then it repeats what an old Watch or Check has said. And after a stall it tells of due timers first, and
    then of what has come meanwhile.
    """

    gossip: random.Random
    _latest: dict[int, int]
    _over: set[tuple[int, int]]

    def set_up(self, gossip: random.Random) -> None:
        """Draw from `gossip` what is repeated, and when."""
        self.gossip = gossip
        self._latest = {}
        self._over = set()

    def post(self, event: Event) -> None:
        """Take in an event."""
        super().post(event)
        if isinstance(event, WatchClosed):
            self._over.add((event.sub, event.watch))
        if isinstance(event, HealthReported | WatchClosed | CheckEnded) and self.gossip.random() < 0.3:
            self._engine.after(int(self.gossip.random() * 1_500_000_000), self._repeat, event)

    def resume(self) -> None:
        """Handle a timer that is due, and then what has come meanwhile."""
        self._is_stalled = False
        if self._is_tick_due:
            self._is_tick_due = False
            self.post(Tick())
        super().resume()

    def _repeat(self, event: HealthReported | WatchClosed | CheckEnded) -> None:
        if isinstance(event, CheckEnded):
            self.post(event)
        elif event.watch < self._latest.get(event.sub, 0) or (event.sub, event.watch) in self._over:
            super().post(event)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, StartWatch):
            self._latest[effect.sub] = effect.watch
        elif isinstance(effect, StopWatch):
            self._over.add((effect.sub, effect.watch))
        super()._perform(effect)
