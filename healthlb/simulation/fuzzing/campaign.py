"""Many random worlds, on this process or on more, and what was found in them.

A finding is a seed and a number. Whoever has these two sees the same world do the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from healthlb.errors import ConfigError
from healthlb.simulation.fuzzing.observed_world import WatchedWorld
from healthlb.simulation.fuzzing.oracle_context import Violation
from healthlb.simulation.fuzzing.worlds import random_world
from healthlb.simulation.scenario.scenario import Scenario
from healthlb.simulation.sweep.executors import open_executor

CRASH = "crash"
_CHUNK = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold in a world, or an exception that nobody expected.

    Attributes:
        seed: of the campaign.
        number: of the world.
        rule: what does not hold, as "U3", or "crash".
        text: what was seen.
    """

    seed: int
    number: int
    rule: str
    text: str

    @property
    def replay(self) -> str:
        """The command that shows it again."""
        return f"healthlb simulate replay {self.seed}:{self.number}"


@dataclass(frozen=True, slots=True)
class Progress:
    """A part of a campaign that is done.

    Attributes:
        worlds: how many were looked at.
        calls: that were made in them.
        findings: what was found there.
    """

    worlds: int
    calls: int
    findings: tuple[Finding, ...]


def verdict(scenario: Scenario) -> tuple[str, str, int]:
    """Run a world under the first of its policies; return the rule that does not hold in it and why, and its calls.

    Rule and reason are "" where all holds.

    Raises:
        ConfigError: the world cannot be.
    """
    world = WatchedWorld(scenario, next(iter(scenario.policies)))
    try:
        world.run()
    except Violation as violation:
        return violation.rule, str(violation), _calls(world)
    except Exception as error:
        return CRASH, f"{CRASH}: {error!r}", _calls(world)
    return "", "", _calls(world)


def _calls(world: WatchedWorld) -> int:
    return sum(client.called for client in world.clients)


def examine(seed: int, first: int, count: int) -> Progress:
    """Look at `count` worlds from number `first` on."""
    calls = 0
    findings = []
    for number in range(first, first + count):
        rule, text, made = verdict(random_world(seed, number))
        calls += made
        if rule:
            findings.append(Finding(seed, number, rule, text))
    return Progress(count, calls, tuple(findings))


def _examine_chunk(chunk: tuple[int, int, int]) -> Progress:
    return examine(*chunk)


def hunt(seed: int, worlds: int, jobs: int = 1, first: int = 0) -> Iterator[Progress]:
    """Yield what is found in worlds `first` and following, in parts, in any order where there is more than one job.

    Args:
        seed: of the campaign; any whole number.
        worlds: how many; at least 1.
        jobs: processes; at least 1.
        first: the number of the first world; at least 0.
    """
    chunks = [(seed, at, min(_CHUNK, first + worlds - at)) for at in range(first, first + worlds, _CHUNK)]
    executor = open_executor("inline" if jobs == 1 else "pool", jobs)
    try:
        for done in executor.imap_unordered(_examine_chunk, chunks):
            if done.lost:
                _, at, count = done.chunk
                yield Progress(count, 0, (Finding(seed, at, CRASH, f"worlds {at} and following: {done.lost}"),))
            else:
                yield done.answer
    finally:
        executor.close()


def parse_world(text: str) -> tuple[int, int]:
    """Return seed and number of `SEED:NUMBER`.

    Raises:
        ConfigError: it is not of that form.
    """
    seed, colon, number = text.rpartition(":")
    try:
        if colon and int(number) >= 0:
            return int(seed), int(number)
    except ValueError:
        pass
    raise ConfigError(f"a world is given as SEED:NUMBER, as 1:1234, not {text!r}")
