"""What backends were, and what clients took them for.

Beliefs are read from what the core publishes, and truth from the servers; neither is guessed from calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import is_not

from healthlb.core.snapshot import Snapshot, SubchannelView
from healthlb.core.states import ConnectivityState
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.record import Lane
from healthlb.simulation.world.server import Server

_READY = ConnectivityState.READY
_OVER_A_CUT = ("crashed", "absent")
_NOBODY: frozenset[int] = frozenset()


class Pair:
    """One client and one backend.

    Attributes:
        truth: what the backend is to this client.
        belief: what the client takes it for.
        cuts: by how many faults they are cut off from each other.
    """

    __slots__ = ("belief", "cuts", "since", "spans", "truth")

    def __init__(self, truth: str) -> None:
        self.truth = truth
        self.belief = "absent"
        self.since = 0
        self.cuts = 0
        self.spans: dict[tuple[str, str], int] = {}


class Lanes:
    """Follows all pairs.

    Args:
        engine: virtual time.
        servers: by number.
        clients: how many.
        warmup: what was before does not count in `confusion`, in nanoseconds.
        until: what comes after does not either.
    """

    def __init__(self, engine: Engine, servers: Sequence[Server], clients: int, *, warmup: int, until: int) -> None:
        self._engine = engine
        self._servers = servers
        self._warmup = warmup
        self._until = until
        self._pairs = [[Pair(server.truth) for server in servers] for _ in range(clients)]
        self._numbers = {server.name: server.number for server in servers}
        self._views: list[tuple[SubchannelView, ...]] = [()] * clients
        self._probes: list[frozenset[int]] = [_NOBODY] * clients
        self._truths: list[list[tuple[int, str]]] = [[(0, server.truth)] for server in servers]
        self._beliefs: list[list[tuple[int, str]]] = [[(0, "absent")] for _ in servers]
        self.transitions = 0

    # --- what is true ----------------------------------------------------------------------------------

    def truth_changed(self, server: Server) -> None:
        """A server has become something else."""
        for client in range(len(self._pairs)):
            self._set_truth(client, server)

    def cut(self, client: Client, server: Server, by: int) -> None:
        """A client is cut off from a server by one fault more, or by one less."""
        self._pairs[client.number][server.number].cuts += by
        self._set_truth(client.number, server)

    def _set_truth(self, client: int, server: Server) -> None:
        pair = self._pairs[client][server.number]
        truth = "cut_off" if pair.cuts and server.truth not in _OVER_A_CUT else server.truth
        if truth != pair.truth:
            self._count(pair)
            pair.truth = truth
            if client == 0:
                _append(self._truths[server.number], self._engine.now, truth)

    # --- what is believed --------------------------------------------------------------------------------

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """A client has a new snapshot."""
        number = client.number
        views, probes = snapshot.views, _NOBODY
        if snapshot.probes:
            probes = frozenset(sub.id for sub in snapshot.probes)
        old, old_probes = self._views[number], self._probes[number]
        self._views[number], self._probes[number] = views, probes
        # Most views are the last snapshot's, in the same place.
        is_another_list = len(views) != len(old) or probes != old_probes
        places = range(len(views))
        for place in places if is_another_list else compress(places, map(is_not, views, old)):
            view = views[place]
            is_another_list = is_another_list or old[place].id != view.id
            self._set_belief(number, view.endpoint.address, belief_of(view, view.id in probes))
        if is_another_list:
            present = {view.endpoint.address for view in views}
            for view in old:
                if view.endpoint.address not in present:
                    self._set_belief(number, view.endpoint.address, "absent")

    def _set_belief(self, client: int, address: str, belief: str) -> None:
        number = self._numbers.get(address)
        if number is None:
            return
        pair = self._pairs[client][number]
        if belief != pair.belief:
            self._count(pair)
            self.transitions += self._engine.now >= self._warmup
            pair.belief = belief
            if client == 0:
                _append(self._beliefs[number], self._engine.now, belief)

    def _count(self, pair: Pair) -> None:
        now = self._engine.now
        span = min(now, self._until) - max(pair.since, self._warmup)
        pair.since = now
        if span > 0:
            key = (pair.truth, pair.belief)
            pair.spans[key] = pair.spans.get(key, 0) + span

    # --- what came of it -----------------------------------------------------------------------------------

    def lanes(self) -> tuple[Lane, ...]:
        """Return the lanes of client 0."""
        return tuple(
            Lane(server.name, tuple(self._truths[server.number]), tuple(self._beliefs[server.number]))
            for server in self._servers
        )

    def confusion(self) -> dict[str, dict[tuple[str, str], int]]:
        """Return nanoseconds by truth and belief, for each backend over all clients."""
        found: dict[str, dict[tuple[str, str], int]] = {}
        for server in self._servers:
            sums = found[server.name] = {}
            for row in self._pairs:
                pair = row[server.number]
                self._count(pair)
                for key, span in pair.spans.items():
                    sums[key] = sums.get(key, 0) + span
        return found


def belief_of(view: SubchannelView, is_on_probe: bool) -> str:
    """Return what a client takes a backend for."""
    if view.state is _READY:
        return "READY"
    if view.is_ejected:
        return "probe" if is_on_probe else "ejected"
    if view.is_damped:
        return "damped"
    return view.state.name


def _append(steps: list[tuple[int, str]], now: int, state: str) -> None:
    """Add a step; of those at the same time the last counts."""
    if steps[-1][0] == now:
        steps.pop()
    if not steps or steps[-1][1] != state:
        steps.append((now, state))
