"""What the oracles look at: a world, what is true in it, and what was said and done.

The one rule: it is written by what happens, and only read by the oracles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from healthlb.simulation.fuzzing.books import Books

if TYPE_CHECKING:
    from healthlb.simulation.client import Client
    from healthlb.simulation.fuzzing.truth import Truth
    from healthlb.simulation.fuzzing.words import HeardConnection
    from healthlb.simulation.world import World

_HELD = 100_000_000  # After a stall the core's timers wait for less than that.


class Violation(Exception):
    """Something does not hold that must.

    Attributes:
        rule: its number, as "U3".
    """

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Scene:
    """One world under watch.

    Attributes:
        world: which.
        truth: what is true in it.
        books: who has called whom.
        threshold: of panic; 0 for never.
        confirmation: nanoseconds that a word may need to be believed.
        seen_ready: when a client last took a server for READY.
        ejected_at: when a client last ejected a server.
        kept_at: when a client last kept a silent server, since too few others are left.
    """

    def __init__(self) -> None:
        self.world: World
        self.truth: Truth
        self.books = Books()
        self.threshold = 0.0
        self.confirmation = 0
        self.seen_ready: dict[tuple[str, str], int] = {}
        self.ejected_at: dict[tuple[str, str], int] = {}
        self.kept_at: dict[tuple[str, str], int] = {}
        self._links: dict[tuple[str, str], list[HeardConnection]] = {}

    def set_up(self, world: World, truth: Truth) -> None:
        """Take in what the world is."""
        self.world, self.truth = world, truth
        self.books.engine = world.engine
        health = world.policy.health
        self.threshold = float(str(world.policy.extra.get("panic_threshold", 0.0)))
        self.confirmation = (max(health.rise, health.fall) - 1) * health.confirm_interval_ns

    def connected(self, connection: HeardConnection) -> None:
        """A client begins to connect."""
        key = (connection.client.id, connection.path.server.name)
        kept = [one for one in self._links.get(key, ()) if not one.is_closed]
        self._links[key] = [*kept, connection]

    def links(self, client: Client, address: str) -> list[HeardConnection]:
        """Return the connections of a client to an address that are not closed."""
        return [one for one in self._links.get((client.id, address), ()) if not one.is_closed]

    def is_disturbed(self, client: Client) -> bool:
        """Whether a client stands still, or has done so until this very instant."""
        return self.truth.is_stalled(client.id) or self.truth.resumed_at(client.id) == self.world.engine.now

    def believed_at(self, client: Client, said_at: int) -> int:
        """Return when a client must have taken in a word at the latest that the wire has brought.

        What came while its loop stood still is heard after that, and waits for its confirmation from then on.
        """
        resumed_at = self.truth.resumed_at(client.id)
        heard_at = resumed_at + _HELD if resumed_at >= said_at and resumed_at else said_at
        return heard_at + self.confirmation

    def fail(self, rule: str, text: str) -> NoReturn:
        """Say that something does not hold.

        Raises:
            Violation: always.
        """
        raise Violation(rule, f"{text} (at {self.world.engine.now} ns)")
