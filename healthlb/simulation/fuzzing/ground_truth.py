"""What is true in a world, and since when: told by the faults themselves, not by what anybody makes of them.

Nothing is read from a client. What a client must know by now follows from here and from the wire's
delays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from healthlb.simulation.scenario.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.server import Server
    from healthlb.simulation.world.world import World

NEVER = 1 << 62


def after(target: Any, name: str, act: Callable[..., object]) -> None:
    """Have `act` called with the same arguments after each call of a method of `target`."""
    method = getattr(target, name)

    def wrapped(*arguments: Any) -> Any:
        result = method(*arguments)
        act(*arguments)
        return result

    setattr(target, name, wrapped)


@dataclass(slots=True)
class ServerTruth:
    """One server. Times are in nanoseconds, `NEVER` for not at present.

    Attributes:
        crashes: the modes of the crashes in force.
        first_crash: the mode of the first of them, which decides what its connections hear.
        crashed_at: since when it is down.
        silent_at: when connections were last lost without a word, -1 for never; half_open_at: when they were so that
            nothing is said of it later either.
        pauses: how many faults have it stand still.
        unpaused_at: when it last went on.
        dead_at: since when it answers nothing, for whatever reason.
        ill: how many faults have it not serving.
        ill_at: since when it is not serving.
        modes: how many faults have its health service do something else.
        honest_at: since when that does what the server's group says.
        gone_at: since when the resolver does not give it.
    """

    crashes: list[str] = field(default_factory=list)
    first_crash: str = ""
    crashed_at: int = NEVER
    silent_at: int = -1
    half_open_at: int = -1
    pauses: int = 0
    unpaused_at: int = 0
    dead_at: int = NEVER
    ill: int = 0
    ill_at: int = NEVER
    modes: int = 0
    honest_at: int = 0
    gone_at: int = NEVER


@dataclass(slots=True)
class PairTruth:
    """One client and one server.

    Attributes:
        cuts: by how many faults they are cut off from each other.
        cut_at: since when.
        dead_at: since when nothing of the server can reach the client.
        restless_until: until then what was held while they were cut off may still arrive.
    """

    cuts: int = 0
    cut_at: int = NEVER
    dead_at: int = NEVER
    restless_until: int = 0


class GroundTruth:
    """All of a world.

    Args:
        world: which.
    """

    def __init__(self, world: World) -> None:
        self._engine = world.engine
        self.servers: dict[str, ServerTruth] = {}
        self._pairs: dict[tuple[str, str], PairTruth] = {}
        self._resumed_at: dict[str, int] = {}
        self._stalls: dict[str, int] = {}
        self._still: dict[str, list[tuple[int, int]]] = {}
        self._clients: list[Client] = []

    # --- who is watched --------------------------------------------------------------------------------

    def follow_server(self, server: Server) -> None:
        """Take in what befalls a server."""
        truth = self.servers[server.name] = ServerTruth()
        after(server, "crash", lambda mode: self._crashed(server, truth, mode))
        after(server, "restart", lambda mode: self._restarted(server, truth, mode))
        after(server, "pause", lambda: self._paused(server, truth, 1))
        after(server, "resume", lambda: self._paused(server, truth, -1))
        after(server, "fall_ill", lambda status: self._ill(truth, 1))
        after(server, "recover", lambda status: self._ill(truth, -1))
        after(server, "mislead", lambda mode, code: self._misled(truth, 1))
        after(server, "come_clean", lambda mode, code: self._misled(truth, -1))
        after(server, "set_listed", lambda is_listed: self._listed(truth, is_listed))

    def follow_client(self, client: Client) -> None:
        """Take in what befalls a client."""
        self._clients.append(client)
        after(client, "stall", lambda: self._stalled(client.id, 1))
        after(client, "resume", lambda: self._stalled(client.id, -1))

    def follow_wires(self, world: World) -> None:
        """Take in which pairs are cut off from each other."""
        after(world.lanes, "cut", self._cut)

    # --- what befalls them -----------------------------------------------------------------------------

    def _crashed(self, server: Server, truth: ServerTruth, mode: str) -> None:
        if not truth.crashes:
            truth.first_crash, truth.crashed_at = mode, self._engine.now
            if mode != "rst":
                truth.silent_at = self._engine.now
            if mode == "half-open":
                truth.half_open_at = self._engine.now
        truth.crashes.append(mode)
        self._settle(server, truth)

    def _restarted(self, server: Server, truth: ServerTruth, mode: str) -> None:
        truth.crashes.remove(mode)
        if not truth.crashes:
            truth.crashed_at = NEVER
        self._settle(server, truth)

    def _paused(self, server: Server, truth: ServerTruth, by: int) -> None:
        truth.pauses += by
        truth.unpaused_at = self._engine.now
        self._settle(server, truth)

    def _settle(self, server: Server, truth: ServerTruth) -> None:
        is_dead = bool(truth.crashes or truth.pauses)
        truth.dead_at = min(truth.dead_at, self._engine.now) if is_dead else NEVER
        for client in self._clients:
            self._settle_pair(self.pair(client.id, server.name), truth)

    def _settle_pair(self, pair: PairTruth, truth: ServerTruth) -> None:
        is_dead = pair.cuts or truth.dead_at < NEVER
        pair.dead_at = min(pair.dead_at, self._engine.now) if is_dead else NEVER

    def _ill(self, truth: ServerTruth, by: int) -> None:
        truth.ill += by
        truth.ill_at = min(truth.ill_at, self._engine.now) if truth.ill else NEVER

    def _misled(self, truth: ServerTruth, by: int) -> None:
        truth.modes += by
        truth.honest_at = NEVER if truth.modes else self._engine.now

    def _listed(self, truth: ServerTruth, is_listed: bool) -> None:
        truth.gone_at = NEVER if is_listed else min(truth.gone_at, self._engine.now)

    def _cut(self, client: Client, server: Server, by: int) -> None:
        pair = self.pair(client.id, server.name)
        now = self._engine.now
        pair.cuts += by
        if pair.cuts and pair.cut_at == NEVER:
            pair.cut_at = now
        elif not pair.cuts:
            # TCP sends again what was held when the time since the last try has doubled.
            held = now + (now - pair.cut_at) + SECOND // 5 + server.wire + server.group.jitter
            pair.restless_until = max(pair.restless_until, held)
            pair.cut_at = NEVER
        self._settle_pair(pair, self.servers[server.name])

    def _stalled(self, client: str, by: int) -> None:
        before = self._stalls.get(client, 0)
        self._stalls[client] = before + by
        self._resumed_at[client] = self._engine.now
        still = self._still.setdefault(client, [])
        if not before:
            still.append((self._engine.now, NEVER))
        elif not before + by:
            still[-1] = (still[-1][0], self._engine.now)

    # --- what is asked -----------------------------------------------------------------------------------

    def pair(self, client: str, server: str) -> PairTruth:
        """Return what is true of two that are connected, or might be."""
        return self._pairs.setdefault((client, server), PairTruth())

    def is_stalled(self, client: str) -> bool:
        """Whether a client's loop stands still."""
        return self._stalls.get(client, 0) > 0

    def resumed_at(self, client: str) -> int:
        """Return when a client's loop last began or ceased to stand still."""
        return self._resumed_at.get(client, 0)

    def stalls(self, client: str) -> list[tuple[int, int]]:
        """Return when a client's loop has stood still, from and to, in order; `NEVER` where it still does."""
        return self._still.get(client, [])
