"""The trace: equal worlds have equal ones, on every Python and in every process; others do not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import backoff
import pytest

from healthlb.presets import resilient
from healthlb.simulation.scenario.scenario import SECOND, Fault
from tests.simulation.build import play

ROOT = Path(__file__).parents[3]
VERSIONS = ("3.11", "3.12", "3.13")

FAULTS = (
    Fault(kind="crash", target="b0", period=2 * SECOND, phase=None),
    Fault(kind="health", target="b1", period=SECOND, duty=0.7, phase=None),
    Fault(kind="error", target="b2", rate=0.5),
    Fault(kind="pause", target="b3", start=3 * SECOND, until=4 * SECOND),
)
WORLD = {
    "clients": {"count": 3},
    "backends": {"jitter": 300_000, "max_age": 3 * SECOND},
    "policy": {**resilient(idempotent=True), "picker": "least_request"},
    "seconds": 6.0,
    "trace": 2,
}


def digest(replication: int = 0) -> str:
    return play(*FAULTS, replication=replication, **WORLD).trace_hash  # type: ignore[arg-type]


def digest_of(command: str, **environment: str) -> str:
    """Return the digest in another process, and with other packages out of reach."""
    path = os.pathsep.join((str(ROOT), str(Path(backoff.__file__).parents[1])))
    finished = subprocess.run(
        [command, "-c", "from tests.simulation.world.test_trace import digest; print(digest())"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=ROOT,
        check=True,
        text=True,
    )
    return finished.stdout.strip()


def interpreter(version: str) -> str | None:
    """Return a Python of this version: from the path, or one that pyenv has and has not put there."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    return next((str(each) for each in found if each is not None and runs(str(each))), None)


def runs(command: str) -> bool:
    return subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode == 0


def test_a_run_is_the_same_each_time_and_no_other() -> None:
    first = digest()

    assert len(first) == 32
    assert digest() == first
    assert digest(replication=1) != first


@pytest.mark.parametrize("seed", ["0", "7", "random"])
def test_no_decision_hangs_on_a_hash(seed: str) -> None:
    assert digest_of(sys.executable, PYTHONHASHSEED=seed) == digest()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_python_gives_the_same(version: str) -> None:
    command = interpreter(version)
    if command is None:
        pytest.skip(f"Python {version} is not here")

    assert digest_of(command) == digest()


def test_a_trace_changes_nothing() -> None:
    worlds = [play(*FAULTS, **{**WORLD, "trace": level}) for level in (0, 1, 2, 3)]  # type: ignore[arg-type]

    assert [world.metrics for world in worlds] == [worlds[0].metrics] * 4
    assert [world.lanes for world in worlds] == [worlds[0].lanes] * 4


def test_each_level_takes_more() -> None:
    none, facts, calls, text = (play(*FAULTS, **{**WORLD, "trace": level}) for level in (0, 1, 2, 3))  # type: ignore[arg-type]

    assert none.trace_hash == ""
    assert len({none.trace_hash, facts.trace_hash, calls.trace_hash}) == 3
    assert calls.trace_hash == text.trace_hash
    assert (facts.trace, calls.trace) == ((), ())
    picks = [line for line in text.trace if " pick " in line]
    ends = [line for line in text.trace if " end " in line]
    assert len(picks) == sum(text.bins.attempts)
    assert len(ends) == sum(text.bins.ok) + sum(sum(bins) for bins in text.bins.errors.values())
    assert any("crash b0 begins" in line for line in text.trace)
    assert any("StateChange" in line for line in text.trace)


def test_a_difference_that_no_transition_shows_is_seen_by_the_picks() -> None:
    two = [play(policy={"picker": "random"}, seconds=2.0, trace=level, replication=0) for level in (1, 2)]
    others = [play(policy={"picker": "random"}, seconds=2.0, trace=level, replication=0, seed=2) for level in (1, 2)]

    assert two[1].trace_hash != others[1].trace_hash
