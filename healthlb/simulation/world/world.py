"""A world: servers, clients, a resolver, and the faults that befall them; and one run of it.

A run is a function of scenario, policy and replication alone. Each purpose and each object has a random
stream of its own, named after it; arrivals and work never depend on the policy.
"""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from healthlb.config import Backoff
from healthlb.core.balancer import Balancer
from healthlb.core.call.overload import Admission
from healthlb.core.facts import Fact
from healthlb.core.messages import Endpoint
from healthlb.core.pickers import make_factory
from healthlb.core.random_streams import Streams
from healthlb.core.snapshot import Snapshot
from healthlb.core.subchannel.dialling import Pace
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.scenario.laws import Law
from healthlb.simulation.scenario.scenario import ClientGroup, Policy, Scenario
from healthlb.simulation.world.arrivals import Arrivals
from healthlb.simulation.world.busy_client import BusyClient, unsent
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.faults import Faults
from healthlb.simulation.world.host import CoreHost
from healthlb.simulation.world.outcome import make_record, offered_load
from healthlb.simulation.world.path import Path
from healthlb.simulation.world.protocols import Host
from healthlb.simulation.world.record import BIN, RunRecord
from healthlb.simulation.world.resolver import Resolver, Told
from healthlb.simulation.world.run_counts import RunCounts
from healthlb.simulation.world.server import Server
from healthlb.simulation.world.state_history import Lanes
from healthlb.simulation.world.trace import Trace
from healthlb.simulation.world.work import WorkSource

_MOST_FACTS = 5_000
_STEPS = 100
_NO_WARMUP = (0, 0, 0, 0, 0, 0)


class Around:
    """What a host has around it: one client's view of the world.

    Args:
        world: all of it.
        client: whose view it is.
    """

    make_connection = Connection

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self._jitter = world.streams.stream("reconnect", client.id)
        reconnect = world.policy.health.reconnect
        # The jitter is C-core's, which cannot be changed.
        self._reconnect = Backoff(initial=reconnect.initial, maximum=reconnect.maximum)
        self._is_subscribed = False

    def connect(self, endpoint: Endpoint, on_change: Callable[[Connection], object]) -> Connection:
        """Return a new connection to an endpoint, IDLE."""
        server = self.world.server(endpoint.address)
        path = self.world.path(self.client, server)
        return self.make_connection(
            path, server, self._reconnect, jitter=self._jitter, on_change=on_change, on_connect=self._connecting
        )

    def _connecting(self) -> None:
        self.world.tally.connects[self.world.tally.bin] += 1

    def resolve(self, told: Told) -> None:
        """Ask the resolver; after the first time it answers anew only where its answer is of no use."""
        if self._is_subscribed:
            self.world.resolver.ask(told)
        else:
            self._is_subscribed = True
            cache = self.client.group.dns_cache
            phase = self.world.streams.stream("dns", self.client.id).randrange(cache) if cache else 0
            self.world.resolver.subscribe(told, cache, phase)

    def watch_started(self) -> None:
        """A Watch is opened."""
        self.world.tally.watch_starts[self.world.tally.bin] += 1

    def published(self, snapshot: Snapshot) -> None:
        """There is a new snapshot."""
        self.world.lanes.published(self.client, snapshot)
        self.client.published()

    def reported(self, fact: Fact) -> None:
        """The core reports."""
        self.world.reported(self.client, fact)


def core_host(world: World, client: Client, seed: int) -> Host:
    """Return the simulator's own host of a client's core."""
    policy, admission = world.policy, Admission(world.policy.overload)
    balancer = make_balancer(policy, seed, admission)
    return CoreHost(world.engine, balancer, client.factory, around=Around(world, client), admission=admission)


def make_balancer(policy: Policy, seed: int, admission: Admission) -> Balancer:
    """Return a client's core; each client is a process of its own, with a pace of its own."""
    return Balancer(policy.service, policy, seed, pace=Pace(), admission=admission)


MakeHost = Callable[["World", Client, int], Host]


class World:
    """Everything that a run needs.

    Args:
        scenario: what there is.
        policy: the name of one of its policies.
        replication: which of its repetitions; at least 0.
        trace: how much is traced: 0 nothing, 1 facts and faults, 2 picks and completions too, 3 and kept as text; or
            what takes all that.
        until: nanoseconds after which it ends early; None for its own time.
        make_host: makes what hosts the core of a client.

    Attributes:
        end: when it is over, in nanoseconds.
        facts: what client 0 has reported.

    Raises:
        ConfigError: the scenario cannot be.
    """

    def __init__(
        self,
        scenario: Scenario,
        policy: str,
        replication: int = 0,
        *,
        trace: int | Trace = 0,
        until: int | None = None,
        make_host: MakeHost = core_host,
    ) -> None:
        if policy not in scenario.policies:
            raise ConfigError(f"policy must be one of {', '.join(scenario.policies)}, not {policy!r}")
        self.scenario = scenario
        self.policy = scenario.policies[policy]
        self.policy_name = policy
        self.replication = replication
        self.engine = Engine()
        self.streams = Streams(derive(scenario.seed, replication))
        whole = scenario.duration + scenario.drain
        self.end = whole if until is None else min(until, whole)
        self.arrivals_end = min(scenario.duration, self.end)
        self.tally = RunCounts(scenario.warmup, self.end)
        self.trace = trace if isinstance(trace, Trace) else Trace(trace) if trace else None
        self.facts: list[Fact] = []
        self.laws = _laws(scenario)
        self.servers = self._make_servers()
        self._by_name = {server.name: server for server in self.servers}
        if len(self._by_name) < len(self.servers):
            raise ConfigError("two backends have the same name")
        clients = sum(group.count for group in scenario.clients)
        self.lanes = Lanes(self.engine, self.servers, clients, warmup=scenario.warmup, until=scenario.duration)
        self._paths: dict[tuple[int, int], Path] = {}
        self.resolver = Resolver(self.engine, self.servers, scenario.addresses)
        self.clients = self._make_clients(make_host)
        self.before = _NO_WARMUP
        self.engine.first(BIN, self._next_bin)
        self.builds: int | None = None
        Faults(self).schedule()
        if scenario.warmup:
            self.engine.at(scenario.warmup, self._warmed_up)
        self.engine.at(scenario.duration, self._arrived)

    # --- making --------------------------------------------------------------------------------------

    def _make_servers(self) -> list[Server]:
        servers: list[Server] = []
        for group in self.scenario.backends:
            for place in range(group.count):
                name = f"{group.name}{place}"
                errors = self.streams.stream("errors", name)
                ages = self.streams.stream("ages", name)
                server = Server(
                    self.engine, name, len(servers), group=group, errors=errors, ages=ages, on_truth=self._truth_changed
                )
                server.law = self.laws.index(group.service) if group.service in self.laws else 0
                server.picks = [0] * self.tally.bins
                servers.append(server)
        return servers

    def _make_clients(self, make_host: MakeHost) -> list[Client]:
        clients: list[Client] = []
        for group in self.scenario.clients:
            for place in range(group.count):
                clients.append(self._make_client(group, f"{group.name}{place}", len(clients), make_host))
        return clients

    def _make_client(self, group: ClientGroup, id: str, number: int, make_host: MakeHost) -> Client:
        streams = self.streams
        factory = make_factory(self.policy.picker, streams.stream("pick", id))
        traced = self.trace if self.trace is not None and self.trace.level >= 2 else None
        work = WorkSource(self.laws, group.work, streams)
        make = BusyClient if group.cpu else Client
        client = make(
            self.engine,
            id,
            number,
            group=group,
            policy=self.policy,
            factory=factory,
            retry_jitter=streams.stream("retry", id),
            work_again=work.again(id),
            tally=self.tally,
            trace=traced,
        )
        client.subchannels = make_host(self, client, streams.stream("core", id).getrandbits(63))
        rate = offered_load(self.scenario, group) / group.load.fanout
        arrivals = Arrivals(client, group.load, rate, work=work, streams=streams, until=self.arrivals_end)
        delay = int(streams.stream("start", id).random() * group.start)
        self.engine.at(delay, client.subchannels.start)
        self.engine.at(delay, arrivals.start)
        return client

    # --- what the parts ask of it ----------------------------------------------------------------------

    def server(self, name: str) -> Server:
        """Return the server with this name, which is its address too."""
        return self._by_name[name]

    def path(self, client: Client, server: Server) -> Path:
        """Return the way between a client and a server."""
        key = (client.number, server.number)
        path = self._paths.get(key)
        if path is None:
            jitter = server.group.jitter
            draw = self.streams.stream("wire", client.id, server.name).random if jitter else None
            path = self._paths[key] = Path(self.engine, server.wire, jitter, draw=draw)
        return path

    def _truth_changed(self, server: Server) -> None:
        self.lanes.truth_changed(server)

    def reported(self, client: Client, fact: Fact) -> None:
        """A client's core reports."""
        if self.tally.warmup <= fact.at <= self.scenario.duration and getattr(fact, "is_enforced", True):
            name = type(fact).__name__
            self.tally.facts[name] = self.tally.facts.get(name, 0) + 1
        if client.number == 0 and len(self.facts) < _MOST_FACTS:
            self.facts.append(fact)
        if self.trace is not None:
            self.trace.reported(client, fact)

    def note_fault(self, what: str) -> None:
        """Something goes wrong, or is mended."""
        if self.trace is not None:
            self.trace.fault(self.engine.now, what)

    def _next_bin(self) -> None:
        self.tally.next_bin(self.engine.now)
        self.engine.first(self.engine.now + BIN, self._next_bin)

    def _warmed_up(self) -> None:
        self.before = self.sums()

    def _arrived(self) -> None:
        self.builds = self._builds()

    def _builds(self) -> int:
        return sum(getattr(client.subchannels, "builds", 0) for client in self.clients)

    def sums(self) -> tuple[int, int, int, int, int, int]:
        """Return what is only ever counted up: calls, attempts after the first, hedges, unsent ones, builds, waste."""
        tally = self.tally
        return (
            sum(client.called + unsent(client, 0) for client in self.clients),
            tally.again,
            tally.hedges,
            tally.unsent,
            self._builds() if self.builds is None else self.builds,
            sum(server.backend.wasted_ns for server in self.servers),
        )

    def in_flight(self, since: int) -> int:
        """Return how many calls that began at `since` or later are not over."""
        count = 0
        for client in self.clients:
            count += unsent(client, since) + sum(call.arrived_at >= since for call in client.open_calls)
            for connection in client.subchannels.connections():
                alone = [attempt for attempt in connection.attempts() if attempt.call is None]
                count += sum(attempt.arrived_at >= since and not attempt.is_over for attempt in alone)
        return count

    # --- the run ---------------------------------------------------------------------------------------

    def run(self, each: Callable[[World], object] | None = None) -> RunRecord:
        """Let all happen, and return what came of it.

        Args:
            each: is called after every hundredth of the time, to show how far it is; it changes nothing.
        """
        started_at = time.process_time()
        with _fewer_collections():
            if each is not None:
                for step in range(1, _STEPS):
                    self.engine.run(self.end * step // _STEPS)
                    each(self)
            self.engine.run(self.end)
            self.tally.next_bin(self.end)
        return make_record(self, time.process_time() - started_at)


def run(
    scenario: Scenario, policy: str, replication: int = 0, *, trace: int = 0, until: int | None = None
) -> RunRecord:
    """Run a scenario once; see `World`.

    Raises:
        ConfigError: the scenario cannot be.
    """
    return World(scenario, policy, replication, trace=trace, until=until).run()


def derive(seed: int, replication: int) -> int:
    """Return the seed of one replication's streams."""
    digest = hashlib.blake2b(f"{seed}/{replication}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _laws(scenario: Scenario) -> tuple[Law, ...]:
    laws: list[Law] = []
    for group in scenario.backends:
        if group.service not in laws:
            laws.append(group.service)
    if all(group.work is not None for group in scenario.clients):
        return (laws[0],)
    return tuple(laws)


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Let the garbage collector look less often: hardly anything here is a cycle, and looking takes a tenth."""
    old = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*old)
