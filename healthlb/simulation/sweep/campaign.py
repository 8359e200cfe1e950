"""Runs a sweep: asks for cells, hands them out in batches, and writes down what comes back.

What has come back is on disk before anything else happens, so an end at any moment costs only what was
being worked on.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from healthlb.simulation.sweep.cells import Cell
from healthlb.simulation.sweep.executors import Executor
from healthlb.simulation.sweep.results import Line, Result
from healthlb.simulation.sweep.store import Store

RunCell = Callable[[Mapping[str, Any], Cell], Result]

BATCH_SECONDS = 2.0
MOST_IN_A_BATCH = 2000
# So that no worker has a long batch left when the others have nothing.
_SHARES = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Cells that one worker runs, one after the other.

    Attributes:
        runner: runs one cell; importable by name.
        world: the scenario's content.
        cells: at least one.
    """

    runner: RunCell
    world: Mapping[str, Any]
    cells: tuple[Cell, ...]


def run_batch(batch: Batch) -> list[Line]:
    """Run all cells of a batch. One that fails is a result like the others."""
    return [_run(batch, cell).sealed() for cell in batch.cells]


def _run(batch: Batch, cell: Cell) -> Result:
    began = time.process_time()
    try:
        result = batch.runner(batch.world, cell)
    except (MemoryError, OSError) as error:
        result = Result(cell=cell, failure=f"{type(error).__name__}: {error}", is_passing=True)
    except Exception as error:
        result = Result(cell=cell, failure=f"{type(error).__name__}: {error}")
    return replace(result, cost=time.process_time() - began)


class Observer(Protocol):
    """Is told how a sweep goes."""

    def planned(self, asked: int, known: int) -> None:
        """A round begins: so many cells, of which so many have a result already."""
        ...

    def came(self, results: list[Result]) -> None:
        """Results came and are on disk."""
        ...


class Campaign:
    """One run of a sweep.

    Attributes:
        keys: of all cells that were asked for so far.
        ran: how many cells were run.
        lost: cells that were lost with their workers, the second time alone, and why; the next run tries them again.
    """

    def __init__(
        self, world: Mapping[str, Any], runner: RunCell, store: Store, *, executor: Executor, observer: Observer
    ) -> None:
        self.keys: dict[str, Cell] = {}
        self.ran = 0
        self.lost: dict[str, str] = {}
        self._world = world
        self._runner = runner
        self._store = store
        self._executor = executor
        self._observer = observer
        self._seconds_per_cell: float | None = None
        self._suspects: deque[Cell] = deque()
        self._suspected: set[str] = set()

    def run(self, rounds: Iterable[list[Cell]]) -> None:
        """Work off all rounds; what the store has is not run again."""
        for cells in rounds:
            keyed = {cell.key: cell for cell in cells}
            self.keys |= keyed
            missing = deque(cell for key, cell in keyed.items() if key not in self._store)
            self._observer.planned(len(keyed), len(keyed) - len(missing))
            self._work_off(missing)
            while self._suspects:
                # Nobody is worked on beside it, so a worker that is lost now was lost by it.
                self._work_off(deque([self._suspects.popleft()]))

    def _work_off(self, missing: deque[Cell]) -> None:
        for done in self._executor.imap_unordered(run_batch, self._batches(missing)):
            if done.lost:
                self._suspect(done.chunk.cells, done.lost)
                continue
            lines: list[Line] = done.answer
            self._store.add(lines)
            self.ran += len(lines)
            self._learn(lines)
            self._observer.came([line.result for line in lines])

    def _batches(self, missing: deque[Cell]) -> Iterator[Batch]:
        while missing:
            size = self._size(len(missing))
            yield Batch(self._runner, self._world, tuple(missing.popleft() for _ in range(size)))

    def _size(self, left: int) -> int:
        if self._seconds_per_cell is None:
            return 1
        wanted = int(BATCH_SECONDS / max(self._seconds_per_cell, 1e-6))
        fair = -(-left // (_SHARES * self._executor.workers))
        return max(1, min(wanted, fair, MOST_IN_A_BATCH, left))

    def _learn(self, lines: list[Line]) -> None:
        mean = sum(line.result.cost for line in lines) / len(lines)
        # Half of the latest batch: cells next to each other cost alike, and the costs drift along an axis.
        self._seconds_per_cell = mean if self._seconds_per_cell is None else (self._seconds_per_cell + mean) / 2

    def _suspect(self, cells: tuple[Cell, ...], reason: str) -> None:
        for cell in cells:
            if cell.key not in self._suspected:
                self._suspected.add(cell.key)
                self._suspects.append(cell)
                continue
            self.lost[cell.key] = reason
            failure = Result(cell=cell, failure=reason, is_passing=True)
            self._store.add([failure.sealed()])
            self._observer.came([failure])
