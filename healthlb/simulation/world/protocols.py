"""The protocols between a simulated client and what hosts its core.

Calls, wire and servers know snapshots only. So the same world runs under the simulator's own host and
under the library's driver on an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from healthlb.core.call.overload import Admission
from healthlb.core.call.waiting import SnapshotSource
from healthlb.core.facts import Fact
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Endpoint, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.link import Attempt, ServerPort


class Host(Protocol):
    """Hosts one client's core.

    Attributes:
        admission: the caps on calls, which the core shares.
        holder: where it publishes; it calls the client's `published` after each new snapshot.
        is_closed: whether it has ended.
    """

    holder: SnapshotSource
    admission: Admission
    is_closed: bool

    def start(self) -> None:
        """Begin to resolve and to connect."""

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed attempt."""

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return how a call ends that this cap keeps out, and tell the core of it."""

    def connection(self, sub: Subchannel) -> Connection | None:
        """Return the connection for calls of what was picked, None where it is closed already."""

    def connections(self) -> Collection[Connection]:
        """Return the connections for calls that are not closed."""

    def stall(self) -> None:
        """The client's event loop stands still from now on."""

    def resume(self) -> None:
        """Let a client that stood still go on."""


class Surroundings(Protocol):
    """What a host has around it."""

    def connect(self, endpoint: Endpoint, on_change: Callable[[Connection], object]) -> Connection:
        """Return a new connection to an endpoint, IDLE."""

    def resolve(self, told: Callable[[tuple[Endpoint, ...] | str], object]) -> None:
        """Ask the resolver; `told` is called with a list, or with what went wrong."""

    def watch_started(self) -> None:
        """A Watch is opened."""

    def published(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""

    def reported(self, fact: Fact) -> None:
        """The core reports."""


class Observer(Protocol):
    """Takes picks and completions of clients."""

    def picked(self, now: int, client: Any, attempt: Attempt, server: ServerPort) -> None:
        """Take in that an attempt is sent."""

    def ended(self, now: int, client: Any, number: int, code: Code) -> None:
        """Take in that a call is over."""
