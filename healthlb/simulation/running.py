"""Runs a scenario under some of its policies, replication by replication.

A replication is run under every policy before the next one begins, so whenever it is interrupted, what is
there can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from healthlb.errors import ConfigError
from healthlb.simulation.checks.checks import CheckResult, evaluate
from healthlb.simulation.scenario.scenario import Scenario
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.world import World


@dataclass(slots=True)
class Progress:
    """How far it is.

    Attributes:
        planned: how many runs there are to be.
        done: the records of those that are over.
        policy: of the run that is going on.
        replication: of the run that is going on.
        share: of that run that is over, 0 to 1.
        calls: that were made in it so far.
    """

    planned: int
    done: list[RunRecord] = field(default_factory=list)
    policy: str = ""
    replication: int = 0
    share: float = 0.0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        scenario: as it was run.
        runs: the records by policy; those of replications that all policies have come first, in order.
        checks: what became of its checks.
        is_complete: whether all was run that was asked for.
    """

    scenario: Scenario
    runs: dict[str, list[RunRecord]]
    checks: list[CheckResult]
    is_complete: bool

    @property
    def records(self) -> list[RunRecord]:
        """All records, policy by policy."""
        return [record for records in self.runs.values() for record in records]

    @property
    def is_good(self) -> bool:
        """Whether no check failed."""
        return all(check.holds is not False for check in self.checks)


def changed(
    scenario: Scenario, *, seed: int | None = None, replications: int | None = None, until: int | None = None
) -> Scenario:
    """Return the scenario with what the command line says instead.

    Args:
        scenario: as its file has it.
        seed: of all random streams.
        replications: at least 1.
        until: nanoseconds after which no more calls arrive; more than the warm-up.

    Raises:
        ConfigError: a value is out of its bounds.
    """
    if replications is not None and replications < 1:
        raise ConfigError(f"replications must be at least 1, not {replications}")
    if until is not None and until <= scenario.warmup:
        raise ConfigError(f"until must be more than the warm-up of {scenario.warmup / 1e9:g} s, not {until / 1e9:g} s")
    return replace(
        scenario,
        seed=scenario.seed if seed is None else seed,
        replications=scenario.replications if replications is None else replications,
        duration=scenario.duration if until is None else min(until, scenario.duration),
    )


def chosen(scenario: Scenario, policies: Sequence[str]) -> tuple[str, ...]:
    """Return these policies, or all where there are none.

    Raises:
        ConfigError: the scenario has no policy of this name.
    """
    for name in policies:
        if name not in scenario.policies:
            raise ConfigError(f"policy must be one of {', '.join(scenario.policies)}, not {name!r}")
    return tuple(dict.fromkeys(policies)) or tuple(scenario.policies)


def run_all(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    trace: int = 0,
    tell: Callable[[Progress], object] = lambda progress: None,
) -> Outcome:
    """Run it, and hold its checks against what came of it. Ctrl-C ends it early and keeps what is done.

    Args:
        scenario: what to run.
        policies: names of some of its policies.
        trace: as `World` takes it.
        tell: is called now and then.
    """
    progress = Progress(len(policies) * scenario.replications)
    is_complete = False
    try:
        for replication in range(scenario.replications):
            for policy in policies:
                progress.policy, progress.replication = policy, replication
                world = World(scenario, policy, replication, trace=trace)
                progress.done.append(world.run(lambda world: _tell(progress, world, tell)))
                progress.share, progress.calls = 0.0, 0
                tell(progress)
        is_complete = True
    except KeyboardInterrupt:
        pass
    runs = {policy: [record for record in progress.done if record.policy == policy] for policy in policies}
    return Outcome(scenario, runs, evaluate(scenario, runs), is_complete)


def _tell(progress: Progress, world: World, tell: Callable[[Progress], object]) -> None:
    progress.share = world.engine.now / world.end
    progress.calls = sum(client.called for client in world.clients)
    tell(progress)
