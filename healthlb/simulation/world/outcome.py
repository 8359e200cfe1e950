"""What a run comes to: its metrics, and its record.

What is counted is counted after the warm-up; a call belongs to the time at which it began, an attempt to
the time at which it was sent. What becomes of backends and connections counts as long as calls arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.scenario.scenario import SECOND, ClientGroup, Scenario
from healthlb.simulation.world.record import BIN, Bins, RunRecord

if TYPE_CHECKING:
    from healthlb.core.facts import Fact
    from healthlb.simulation.engine.engine import Engine
    from healthlb.simulation.world.client import Client
    from healthlb.simulation.world.run_counts import RunCounts
    from healthlb.simulation.world.server import Server
    from healthlb.simulation.world.state_history import Lanes
    from healthlb.simulation.world.trace import Trace

_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


class PlayedWorld(Protocol):
    """What a record needs of a world that has run.

    Attributes:
        scenario: what was to happen.
        policy_name: of the policy that it ran with.
        replication: which of its repetitions it was.
        engine: virtual time.
        end: when it was over, in nanoseconds.
        arrivals_end: when calls had ceased to arrive, in nanoseconds.
        servers: who served.
        clients: who called.
        tally: what was counted.
        lanes: what was written down of each server.
        facts: the first client's.
        trace: None for none.
        before: the `sums` at the end of the warm-up.
    """

    scenario: Scenario
    policy_name: str
    replication: int
    engine: Engine
    end: int
    arrivals_end: int
    servers: list[Server]
    clients: list[Client]
    tally: RunCounts
    lanes: Lanes
    facts: list[Fact]
    trace: Trace | None
    before: tuple[int, int, int, int, int, int]

    def sums(self) -> tuple[int, int, int, int, int, int]:
        """Return what is only ever counted up: calls, attempts after the first, hedges, unsent ones, builds, waste."""

    def in_flight(self, since: int) -> int:
        """Return how many calls that began at `since` or later are not over."""


def capacity(scenario: Scenario, group: ClientGroup) -> float:
    """Return how many of a group's calls all backends together can take, per second."""
    total = 0.0
    for backends in scenario.backends:
        law = group.work or backends.service
        total += backends.count * backends.slots * backends.speed / (law.mean / SECOND)
    return total


def offered_load(scenario: Scenario, group: ClientGroup) -> float:
    """Return the calls per second that one client of a group makes by itself; 0 where that is not a rate."""
    load = group.load
    if load.kind == "burst":
        return load.fanout * load.size * SECOND / load.period
    if load.kind not in ("poisson", "steady"):
        return 0.0
    if load.rho is not None:
        return load.rho * capacity(scenario, group) / group.count
    return load.fanout * (load.rate or 0.0)


def make_record(world: PlayedWorld, cpu_seconds: float) -> RunRecord:
    """Return the record of a run that is over."""
    scenario = world.scenario
    latency = world.tally.latency()
    bins = _bins(world)
    metrics = _metrics(world, latency, bins)
    confusion_of = world.lanes.confusion()
    confusion: dict[tuple[str, str], int] = {}
    for spans in confusion_of.values():
        for key, span in spans.items():
            confusion[key] = confusion.get(key, 0) + span
    return RunRecord(
        scenario=scenario.name,
        title=scenario.title,
        policy=world.policy_name,
        seed=scenario.seed,
        replication=world.replication,
        duration=scenario.duration,
        warmup=scenario.warmup,
        metrics=metrics,
        bins=bins,
        lanes=world.lanes.lanes(),
        latency=latency,
        confusion=confusion,
        confusion_of=confusion_of,
        facts=tuple(world.facts),
        trace_hash=world.trace.digest if world.trace is not None else "",
        trace=tuple(world.trace.lines) if world.trace is not None else (),
        events=world.engine.events,
        cpu_seconds=cpu_seconds,
    )


def _bins(world: PlayedWorld) -> Bins:
    tally = world.tally
    count = world.end // BIN + 1
    picks = {server.name: tuple(server.picks[:count]) for server in world.servers}
    return Bins(
        width=BIN,
        arrivals=tuple(tally.arrivals[:count]),
        ok=tuple(tally.ok[:count]),
        errors={name: tuple(bins[:count]) for name, bins in sorted(tally.errors.items())},
        picks=picks,
        attempts=tuple(map(sum, zip(*picks.values(), strict=True))),
        connects=tuple(tally.connects[:count]),
        watch_starts=tuple(tally.watch_starts[:count]),
        tokens=tuple(tally.tokens[:count]),
        latency=tally.latencies()[: world.end // SECOND + 1],
    )


def _metrics(world: PlayedWorld, latency: Histogram, bins: Bins) -> dict[str, float]:
    tally, scenario = world.tally, world.scenario
    called, again, hedges, unsent, builds, wasted = (
        now - before for now, before in zip(world.sums(), world.before, strict=True)
    )
    first, last = scenario.warmup // BIN, -(-scenario.duration // BIN)
    errors = sum(tally.failures.values())
    seconds = max(1, world.arrivals_end - scenario.warmup) / SECOND
    attempts = sum(bins.attempts[first:])
    shares = [sum(picks[first:]) for picks in bins.picks.values()]
    mean_share = sum(shares) / len(shares)
    metrics: dict[str, float] = {
        "requests": called,
        "ok": latency.count,
        "errors": errors,
        "in_flight": world.in_flight(scenario.warmup),
        "error_ratio": errors / called if called else 0.0,
        "goodput": latency.count / called if called else 1.0,
        "ok_rate": latency.count / seconds,
        "attempts": attempts,
        "attempts_per_request": attempts / called if called else 0.0,
        "retries": again - hedges - unsent,
        "hedges": hedges,
        "unsent": unsent,
        "mean": latency.mean / SECOND,
        "max": latency.most / SECOND,
        "imbalance": max(shares) / mean_share if mean_share else 1.0,
        "transitions": tally.facts.get("StateChange", 0),
        "ejections": tally.facts.get("Ejection", 0),
        "returns": tally.facts.get("Return", 0),
        "connects": sum(bins.connects[first:last]),
        "connects_peak": max(bins.connects[first:last], default=0),
        "watch_starts": sum(bins.watch_starts[first:last]),
        "picker_builds": builds,
        "wasted": wasted / SECOND,
        "clients": len(world.clients),
        "backends": len(world.servers),
        "duration": scenario.duration / SECOND,
        "seconds": seconds,
        "user_requests": tally.users.count + tally.user_errors,
        "user_errors": tally.user_errors,
        "user_p50": tally.users.quantile(0.5) / SECOND,
        "user_p99": tally.users.quantile(0.99) / SECOND,
        "tokens_min": min(bins.tokens[first:], default=1.0),
    }
    metrics |= {name: latency.quantile(share) / SECOND for name, share in _PERCENTILES.items()}
    return metrics | _load(world, called, seconds)


def _load(world: PlayedWorld, called: int, seconds: float) -> dict[str, float]:
    scenario = world.scenario
    rates = [(group, offered_load(scenario, group) * group.count) for group in scenario.clients]
    if all(rate for _, rate in rates):
        lam = sum(rate for _, rate in rates)
        rho = sum(rate / capacity(scenario, group) for group, rate in rates)
    else:
        lam = called / seconds
        rho = lam / capacity(scenario, scenario.clients[0])
    return {"lam": lam, "rho": rho}
