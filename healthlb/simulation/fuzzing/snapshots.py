"""What a client may publish: whom it takes for READY, ejects, and picks among.

Who is well is what the wire has said, not what the snapshot says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from healthlb.core.messages import SECOND
from healthlb.core.snapshot import Snapshot, SubchannelView
from healthlb.core.states import ConnectivityState
from healthlb.simulation.fuzzing.oracle_context import OracleContext
from healthlb.simulation.fuzzing.wire_log import SERVING, LinkWords

if TYPE_CHECKING:
    from healthlb.simulation.world.client import Client

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_LONG = 30 * SECOND


class SnapshotOracle:
    """Looks at each snapshot, and at each subchannel that becomes READY.

    Args:
        context: what is watched.
    """

    def __init__(self, context: OracleContext) -> None:
        self._context = context
        self._seen_at: dict[tuple[str, int], int] = {}

    def published(self, client: Client, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        if self._context.truth.is_stalled(client.id):
            self._context.fail("U2", f"{client.id} publishes while it stands still")
        for view in snapshot.views:
            self._seen_at.setdefault((client.id, view.id), self._context.world.engine.now)
        present = [view for view in snapshot.views if not self._may_be_absent(client, view)]
        self._check_cap(client, snapshot, present)
        self._check_panic(client, snapshot, len(present))
        subset = self._context.world.policy.subset
        if subset is not None and len(snapshot.views) > subset.size:
            self._context.fail("U23", f"{client.id} has {len(snapshot.views)} endpoints, not {subset.size}")

    def check_ready(self, client: Client, address: str) -> None:
        """A client begins to take a server for READY."""
        policy = self._context.world.policy
        links = [one for one in self._context.links(client, address) if one.link is not None]
        now = self._context.world.engine.now
        if self._context.is_disturbed(client) or any(one.linked_at == now for one in links):
            return
        if not links:
            if self._context.truth.pair(client.id, address).cuts == 0 and not self._lost_now(client, address):
                self._context.fail("U6", f"{client.id} takes {address} for READY without a connection")
            return
        if policy.service is None:
            return
        heard = [one.heard for one in links]
        is_good = any(
            words is not None
            and (
                words.status == SERVING
                or words.changed_at == now
                or now <= self._context.stands_until(client, words.stands_since)
                or _is_unchecked(words, policy.health)
            )
            for words in heard
        )
        if not is_good:
            self._context.fail("U6", f"{client.id} takes {address} for READY, whose connection has not said SERVING")

    def _lost_now(self, client: Client, address: str) -> bool:
        now = self._context.world.engine.now
        return any(one.lost_at == now for one in self._context.links(client, address))

    def _may_be_absent(self, client: Client, view: SubchannelView) -> bool:
        """Whether no connection has told anything for long, or since the subchannel is known."""
        since = max(self._seen_at[client.id, view.id], self._context.world.engine.now - _LONG)
        return view.state is _FAILURE and self._context.heard_until(client, view.endpoint.address) <= since

    def _check_cap(self, client: Client, snapshot: Snapshot, present: list[SubchannelView]) -> None:
        ejected = [view for view in snapshot.views if view.is_ejected]
        outliers = self._context.world.policy.outliers
        if not ejected:
            return
        if outliers is None:
            self._context.fail("U8", f"{client.id} ejects though nobody asked for that")
            return
        count = len(present)
        most = min(math.ceil(count * outliers.max_ejection_percent / 100), max(0, count - 1))
        out = sum(view.state is not _READY for view in present)
        well = [view for view in ejected if self._is_well(client, view.endpoint.address)]
        if well and out > most:
            self._context.fail(
                "U8", f"{client.id} holds {well[0].endpoint.address} out: {out} of {count} are, {most} may be"
            )
        if well and out == count:
            self._context.fail("U8", f"{client.id} has ejected {well[0].endpoint.address}, the last healthy one")

    def _is_well(self, client: Client, address: str) -> bool:
        """Whether the wire has said that a server is healthy, and not in this very instant."""
        now = self._context.world.engine.now
        # The newest: calls in flight keep those before it open.
        for connection in self._context.links(client, address)[-1:]:
            heard = connection.heard
            if self._context.world.policy.service is None:
                if connection.link is not None and connection.linked_at < now:
                    return True
            elif heard is not None and heard.status == SERVING:
                believed_at = self._context.believed_at(client, heard.changed_at, self._context.rising)
                return believed_at < now and connection.generation is not None
        return False

    def _check_panic(self, client: Client, snapshot: Snapshot, present: int) -> None:
        total, threshold = len(snapshot.views), self._context.threshold
        hopeful = sum(view.state in (_READY, _CONNECTING) for view in snapshot.views)
        # Of those that may be absent nobody knows here whether they count.
        may_panic = bool(total) and hopeful / total < threshold
        is_panic = bool(present) and hopeful / present < threshold
        healthy = {view.id for view in snapshot.views if view.state is _READY}
        picked = {sub.id for sub in snapshot.ready}
        if not may_panic and picked - healthy:
            self._context.fail(
                "U13", f"{client.id} picks among {len(picked)} of which {len(healthy)} are READY, without panic"
            )
        if not healthy <= picked:
            self._context.fail("U13", f"{client.id} does not pick among all that are READY")
        if is_panic and not self._context.is_disturbed(client):
            missing = [
                view for view in snapshot.views if view.id not in picked and self._is_up(client, view.endpoint.address)
            ]
            if missing:
                self._context.fail("U13", f"{client.id} panics, and does not pick {missing[0].endpoint.address}")

    def _is_up(self, client: Client, address: str) -> bool:
        now = self._context.world.engine.now
        links = self._context.links(client, address)
        return bool(links) and all(
            one.link is not None and one.linked_at < now and one.generation is not None
            for one in links
            if not one.is_closed
        )


def _is_unchecked(words: LinkWords, health: object) -> bool:
    return words.is_unimplemented and getattr(health, "on_unimplemented", "") == "healthy"
