"""The same scenario, policy and seed give the same trace: in any process, on any Python, however many workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from healthlb.simulation.fuzzing.worlds import POLICY, random_world
from healthlb.simulation.world.world import World, run

ROOT = Path(__file__).parent.parent.parent
WORLDS = (0, 3, 12, 21, 45)
PROGRAM = f"""
from healthlb.simulation.fuzzing.worlds import POLICY, random_world
from healthlb.simulation.world.world import run
print(*(run(random_world(1, number), POLICY, trace=2).trace_hash for number in {WORLDS}))
"""
PYTHONS = ("3.11", "3.12", "3.13")


def digest(number: int) -> str:
    return run(random_world(1, number), POLICY, trace=2).trace_hash


@pytest.fixture(scope="module")
def digests() -> list[str]:
    return [digest(number) for number in WORLDS]


def elsewhere(python: str, **environment: str) -> list[str]:
    packages = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(packages), **environment}
    done = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, env=given, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_repeats_are_equal(digests: list[str]) -> None:
    assert [digest(number) for number in WORLDS] == digests


@pytest.mark.parametrize("seed", ["0", "7", "random"])
def test_hash_seeds_are_all_one(digests: list[str], seed: str) -> None:
    assert elsewhere(sys.executable, PYTHONHASHSEED=seed) == digests


@pytest.mark.parametrize("version", PYTHONS)
def test_pythons_are_all_one(digests: list[str], version: str) -> None:
    python = _find(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")

    assert elsewhere(python) == digests


def _find(version: str) -> str | None:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else shutil.which(f"python{version}")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_are_all_one(digests: list[str], workers: int) -> None:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(digest, WORLDS)) == digests


def test_two_seeds_differ(digests: list[str]) -> None:
    assert len({*digests, *(run(random_world(2, number), POLICY, trace=2).trace_hash for number in WORLDS)}) == 10


def test_two_replications_differ() -> None:
    scenario = random_world(1, 3)

    assert run(scenario, POLICY, 1, trace=2).trace_hash != run(scenario, POLICY, 2, trace=2).trace_hash


def test_the_hash_covers_each_pick_and_each_end() -> None:
    """A hash over transitions alone would be equal for two runs that differ in a single pick."""
    world = World(random_world(1, 3), POLICY, trace=3)
    record = world.run()
    picks = sum(" pick " in line for line in record.trace)

    assert picks == record.metrics["attempts"]
    assert sum(" end " in line for line in record.trace) == record.metrics["ok"] + record.metrics["errors"]
