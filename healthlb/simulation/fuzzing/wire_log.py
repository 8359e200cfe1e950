"""What the wire has said to a client: which statuses came on which link, and when Watches began and ended.

This is what arrived, not what anybody made of it. It is written down before the client hears it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

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
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.host import CoreHost
from healthlb.simulation.world.link import Link, Stream
from healthlb.simulation.world.world import Around

if TYPE_CHECKING:
    import random

    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.world import World

SERVING = 1


class LinkWords:
    """What was said on one link.

    Attributes:
        status: the last serving status, -1 before the first.
        changed_at: when that was last another one, in nanoseconds.
        ill_since: since when no word has been SERVING.
        row: how many words in a row were SERVING, or were not; row_at: when the first of them came.
        stood: for how long at most the row before was not interrupted, in nanoseconds; 0 before there was one.
        stream: of the last Watch.
        is_unimplemented: whether a Watch ended with UNIMPLEMENTED.
        is_open: whether a Watch is under way.
        has_said: whether the last Watch has said anything; has_word: whether any has.
        started_at: when it was opened.
        ended_at: when it ended.
        silent_ends: Watches in a row that ended without a word.
        quick_ends: Watches that said something and ended soon after, and those that ended while a SERVING stood.
        stands_since: when the Watch ended whose SERVING may still stand, 0 where none does.
        is_sure: whether it does; a stall may leave that open.
        renewed_at: when a Watch last said its first word while such a SERVING stood, 0 for never.
        belief: whether SERVING may have been believed when the row began, and whether it must have been.
    """

    __slots__ = (
        "belief", "changed_at", "ended_at", "has_said", "has_word", "ill_since", "is_open", "is_sure",
        "is_unimplemented", "quick_ends", "renewed_at", "row", "row_at", "silent_ends", "stands_since", "started_at",
        "status", "stood", "stream",
    )  # fmt: skip

    def __init__(self, now: int) -> None:
        self.status = -1
        self.changed_at = self.started_at = self.ended_at = self.ill_since = self.row_at = now
        self.row = self.stood = self.stands_since = self.renewed_at = 0
        self.stream: Stream | None = None
        self.is_unimplemented = self.is_open = self.has_said = self.has_word = self.is_sure = False
        self.belief = (False, False)
        self.silent_ends = self.quick_ends = 0


class Beliefs(Protocol):
    """What the log needs of the oracles' context: what a client may take for true, and what is kept there.

    Attributes:
        rising: nanoseconds for which SERVING may have to stand to be believed; falling: the same of other statuses.
        asked_at: the connection on which a client last sent a server a Check, by its generation, and when.
    """

    rising: int
    falling: int
    asked_at: dict[tuple[str, str], tuple[int | None, int]]

    def connected(self, connection: HeardConnection) -> None:
        """A client begins to connect."""

    def stands(self, client: Client, words: LinkWords, at: int) -> tuple[bool, bool]:
        """Whether a SERVING may stand at `at` though its Watch has ended, and whether it must."""

    def believed_at(self, client: Client, said_at: int, confirmation: int) -> int:
        """Return when a client must have taken in a word at the latest that the wire has brought."""

    def has_stalled(self, client: Client, since: int) -> bool:
        """Whether a client has stood still at `since` or later, or just before."""


class Listener(Protocol):
    """Takes what the log alone cannot judge."""

    @property
    def context(self) -> Beliefs:
        """What all oracles share."""

    def watch_again(self, connection: HeardConnection, words: LinkWords, now: int) -> None:
        """A Watch is opened on a link that has had one."""

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """There is a new snapshot."""


class HeardConnection(Connection):
    """A connection whose words are written down.

    Attributes:
        words: what was said on its present link, None before a Watch was opened there.
        said_on: which link that is.
        linked_at: when it last got a link; lost_at: when it last lost one.
        asked_at: when the last Check was sent, -1 for never; answered_at: when it was answered, -1 while it is not.
        pinged_at: when the last ping was sent, -1 for never; ponged_at: when it was answered, -1 while it is not.
    """

    __slots__ = (
        "answered_at", "asked_at", "client", "inspector", "linked_at", "lost_at", "pinged_at", "ponged_at", "said_on",
        "words",
    )  # fmt: skip

    client: Client
    inspector: Listener
    words: LinkWords | None
    said_on: Link | None
    linked_at: int
    lost_at: int
    asked_at: int
    answered_at: int
    pinged_at: int
    ponged_at: int

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
            self._ended(words, code)
            on_end(code, details)

        words.stream = super().watch(service, said, ended)
        return words.stream

    def check(self, service: str, on_end: Callable[[Code, str], object]) -> Stream | None:
        """Send a Check, and write down when it is answered."""
        sent_at = self.asked_at = self.path.engine.now
        self.answered_at = -1
        self.inspector.context.asked_at[self.client.id, self.server.name] = (self.generation, sent_at)

        def ended(code: Code, details: str) -> None:
            if self.asked_at == sent_at:
                self.answered_at = self.path.engine.now
            on_end(code, details)

        return super().check(service, ended)

    def ping(self, on_end: Callable[[Code, str], object]) -> None:
        """Send a ping, and write down when it is answered."""
        sent_at = self.pinged_at = self.path.engine.now
        self.ponged_at = -1

        def ended(code: Code, details: str) -> None:
            if self.pinged_at == sent_at:
                self.ponged_at = self.path.engine.now
            on_end(code, details)

        super().ping(ended)

    def _ended(self, words: LinkWords, code: Code) -> None:
        now = words.ended_at = words.changed_at = self.path.engine.now
        words.is_open = False
        words.is_unimplemented |= code is Code.UNIMPLEMENTED
        if code in (Code.NOT_FOUND, Code.UNIMPLEMENTED):
            words.stands_since = 0
        elif words.status == SERVING:
            may_stand, words.is_sure = self._belief(words)
            words.stands_since = now if may_stand else 0
        # Another end while a SERVING stands is no news.
        if words.status == SERVING or not words.stands_since:
            words.ill_since = now
        words.status = -1
        words.row = words.stood = 0

    def _belief(self, words: LinkWords) -> tuple[bool, bool]:
        """Whether a client may believe SERVING by now, and whether it must: a row of words is needed to change that.

        A stall leaves it open, since then it is chance whether the next word comes before a timer.
        """
        now, context, client = self.path.engine.now, self.inspector.context, self.client
        may, must = words.belief
        if not words.row:
            return context.stands(client, words, now)
        if words.status == SERVING:
            may |= now >= words.row_at + context.rising
            return may, must or now >= context.believed_at(client, words.row_at, context.rising)
        by = context.believed_at(client, words.ill_since, context.falling)
        has_stalled = context.has_stalled(client, words.ill_since)
        return may and now <= by, must and now < by and not has_stalled

    def _said(self, words: LinkWords, status: int) -> None:
        now = self.path.engine.now
        is_same = words.row and (status == SERVING) == (words.status == SERVING)
        if not is_same:
            # The first word on a connection counts at once.
            words.belief = self._belief(words) if words.has_word else (status == SERVING, status == SERVING)
        if self.inspector.context.stands(self.client, words, now)[0]:
            words.renewed_at = now
        words.has_said = words.has_word = True
        words.silent_ends = words.stands_since = 0
        if not is_same:
            words.stood = now - words.row_at if words.row else 0
            words.row_at = now
        words.row = words.row + 1 if is_same else 1
        if status != SERVING and not is_same:
            words.ill_since = now
        if status != words.status:
            words.status, words.changed_at = status, now

    @property
    def heard(self) -> LinkWords | None:
        """What was said on the link that it has now."""
        return self.words if self.link is not None and self.said_on is self.link else None


class HeardAround(Around):
    """A client's view of the world, written down."""

    make_connection = HeardConnection

    def __init__(self, world: World, client: Client, inspector: Listener) -> None:
        super().__init__(world, client)
        self._inspector = inspector

    def connect(self, endpoint: Endpoint, on_change: Callable[[Connection], object]) -> Connection:
        """Return a new connection to an endpoint."""
        connection = super().connect(endpoint, on_change)
        assert isinstance(connection, HeardConnection)
        connection.client, connection.inspector = self.client, self._inspector
        connection.words = connection.said_on = None
        connection.linked_at = connection.lost_at = connection.asked_at = connection.answered_at = -1
        connection.pinged_at = connection.ponged_at = -1
        self._inspector.context.connected(connection)
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
