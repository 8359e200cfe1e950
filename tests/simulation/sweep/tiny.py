"""A runner of cells that costs nothing, and one that breaks: importable, so that other processes have them too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from healthlb.simulation.sweep.cells import Cell
from healthlb.simulation.sweep.designs import Axis
from healthlb.simulation.sweep.process_pool import Done, Work
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.sweep import Sweep

WORLD: dict[str, Any] = {"name": "tiny", "load": {"rho": 0.5, "tries": 1}, "policy": {"plain": {}, "tuned": {}}}
RHO = Axis(name="rho", paths=("load.rho",), low=0.0, high=1.0, steps=5)
TRIES = Axis(name="tries", paths=("load.tries",), values=(1, 2, 3))


def cell(replication: int = 0, **changes: Any) -> Cell:
    return Cell(**{"scenario": "s", "policy": "plain", "replication": replication, "engine": "e", **changes})


def sweep(**changes: Any) -> Sweep:
    given = {"name": "tiny", "world": WORLD, "policies": ("plain", "tuned"), "axes": (RHO, TRIES)}
    return Sweep(**{**given, **changes})


def run(world: Mapping[str, Any], cell: Cell) -> Result:
    """Metrics that are all of the cell and nothing else."""
    random = Random(cell.key)
    values = dict(cell.overrides)
    rho, tries = float(values.get("load.rho", 0.5)), float(values.get("load.tries", 1))
    metrics = {"edge": rho * (1 + tries), "noise": random.random(), "p99": random.expovariate(100)}
    return Result(cell=cell, metrics=metrics, checks={"fine": rho < 0.9}, latency={"total": random.getrandbits(40)})


def fail(world: Mapping[str, Any], cell: Cell) -> Result:
    """Fail for every third replication."""
    if cell.replication % 3 == 0:
        raise ValueError(f"replication {cell.replication} cannot be run")
    return run(world, cell)


def die_once(world: Mapping[str, Any], cell: Cell) -> Result:
    """Kill the own process the first time that replication 1 is run."""
    mark = Path(world["mark"])
    if cell.replication == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run(world, cell)


def die(world: Mapping[str, Any], cell: Cell) -> Result:
    """Kill the own process at replication 1."""
    if cell.replication == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(world, cell)


def square(chunk: int) -> int:
    return chunk * chunk


def refuse(chunk: int) -> int:
    raise ValueError(f"no {chunk}")


class Silent:
    """An observer that counts."""

    def __init__(self) -> None:
        self.rounds: list[tuple[int, int]] = []
        self.results: list[Result] = []

    def planned(self, asked: int, known: int) -> None:
        self.rounds.append((asked, known))

    def came(self, results: list[Result]) -> None:
        self.results += results


class Backwards:
    """An executor with the worst order."""

    workers = 1

    def imap_unordered(self, fn: Work, chunks: Any) -> Iterator[Done]:
        for chunk in reversed(list(chunks)):
            yield Done(chunk, fn(chunk))

    def close(self) -> None:
        pass
