"""A world that is watched: one run of it, and what did not hold.

To be watched changes nothing. All that is added is written down beside what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from healthlb.core.call.overload import Admission
from healthlb.core.states import Code
from healthlb.simulation.fuzzing.ground_truth import GroundTruth
from healthlb.simulation.fuzzing.invariants import Inspector
from healthlb.simulation.fuzzing.oracle_context import Violation
from healthlb.simulation.fuzzing.wire_log import GossipHost, HeardAround
from healthlb.simulation.world.busy_client import BusyClient
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.work import Works
from healthlb.simulation.world.world import World, make_balancer

if TYPE_CHECKING:
    from healthlb.simulation.engine.stations import Job
    from healthlb.simulation.scenario.scenario import Scenario
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.link import Attempt
    from healthlb.simulation.world.protocols import Host
    from healthlb.simulation.world.server import Server


class WatchedWorld(World):
    """A world with an inspector.

    Args:
        scenario: what there is.
        policy: the name of one of its policies.
    """

    def __init__(self, scenario: Scenario, policy: str) -> None:
        self.inspector = Inspector()
        self._truth: GroundTruth | None = None
        super().__init__(scenario, policy, trace=self.inspector, make_host=_make_host)
        self.truth.follow_wires(self)
        self.inspector.follow(self, self.truth)

    @property
    def truth(self) -> GroundTruth:
        """What is true, and since when."""
        if self._truth is None:
            self._truth = GroundTruth(self)
        return self._truth

    def _make_servers(self) -> list[Server]:
        servers = super()._make_servers()
        ledger = self.inspector.context.ledger
        for server in servers:
            self.truth.follow_server(server)

            def served(job: Job, code: Code, name: str = server.name) -> None:
                ledger.serve(job, name, code)  # type: ignore[arg-type]

            def arrived(attempt: Attempt) -> None:
                if attempt.link is not None and attempt.link.is_known:
                    ledger.arrive(attempt)

            _before(server, "finish", served)
            _before(server, "arrive", arrived)
        return servers

    def run(self, each: Callable[[World], object] | None = None) -> RunRecord:
        """Let all happen, and check what must hold of the whole.

        Raises:
            Violation: something does not hold.
        """
        record = super().run(each)
        self.inspector.finish(record)
        return record


def _make_host(world: World, client: Client, seed: int) -> Host:
    assert isinstance(world, WatchedWorld)
    inspector, policy = world.inspector, world.policy
    around, admission = HeardAround(world, client, inspector), Admission(policy.overload)
    balancer = make_balancer(policy, seed, admission)
    host = GossipHost(world.engine, balancer, client.factory, around=around, admission=admission)
    host.set_up(world.streams.stream("gossip", client.id))
    world.truth.follow_client(client)

    def replied(attempt: Attempt, code: Code) -> None:
        if attempt.is_over or client.is_stalled:
            return
        wrong = inspector.context.ledger.reply(attempt, code)
        if wrong:
            raise Violation("U4", wrong)
        if code is Code.OK:
            inspector.silences.answered(client, attempt)

    def begins(_: Works, user: int | None = None, arrived_at: int | None = None) -> None:
        inspector.began(client, world.engine.now if arrived_at is None else arrived_at)

    def begins_late(works: Works, user: int | None, arrived_at: int) -> None:
        begins(works, user, arrived_at)
        inspector.context.ledger.end(client.id, client.called + 1)

    # Where calls take the client's time, they begin and are heard when its thread has come to them.
    if isinstance(client, BusyClient):
        _before(client, "make", begins)
        _before(client, "hear", replied)
        _before(client, "fail_late", begins_late)
    else:
        _before(client, "call", begins)
        _before(client, "replied", replied)
    return host


def _before(target: object, name: str, act: Callable[..., object]) -> None:
    method = getattr(target, name)

    def wrapped(*arguments: object) -> object:
        act(*arguments)
        return method(*arguments)

    setattr(target, name, wrapped)
