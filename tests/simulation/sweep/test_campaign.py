from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from healthlb.simulation.sweep.campaign import Batch, Campaign, RunCell, run_batch
from healthlb.simulation.sweep.executors import Executor, Inline, open_executor
from healthlb.simulation.sweep.rounds import Rounds
from healthlb.simulation.sweep.store import Store
from healthlb.simulation.sweep.sweep import Stop
from tests.simulation.sweep import tiny
from tests.simulation.sweep.tiny import Backwards, Silent, cell, sweep


class Interrupted(Exception):
    pass


class StopsAfter(Silent):
    """An observer that has enough after so many results."""

    def __init__(self, results: int) -> None:
        super().__init__()
        self._most = results

    def came(self, results: list[Any]) -> None:
        super().came(results)
        if len(self.results) >= self._most:
            raise Interrupted


def campaign(
    directory: Path,
    executor: Executor | None = None,
    runner: RunCell = tiny.run,
    observer: Silent | None = None,
    **changes: Any,
) -> tuple[Campaign, Store]:
    store = Store(directory)
    chosen = sweep(**{"replications": 3, **changes})
    work = Campaign(chosen.world, runner, store, executor=executor or Inline(), observer=observer or Silent())
    try:
        work.run(Rounds(chosen, "e", store.get))
    except Interrupted:
        pass
    finally:
        store.close()
    return work, store


def digest(directory: Path, **options: Any) -> str:
    work, store = campaign(directory, **options)
    return store.digest(work.keys)


def test_every_cell_is_run_once(tmp_path: Path) -> None:
    observer = Silent()
    work, store = campaign(tmp_path, observer=observer)

    assert work.ran == len(store) == len(observer.results) == 2 * 5 * 3 * 3
    assert observer.rounds == [(90, 0)]


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    campaign(tmp_path, replications=2)
    observer = Silent()
    work, _ = campaign(tmp_path, observer=observer)

    assert work.ran == 30
    assert observer.rounds == [(90, 60)]
    assert campaign(tmp_path)[0].ran == 0


@pytest.mark.parametrize("url", ["pool", "dask://local"])
def test_the_digest_is_the_same_for_one_worker_and_many_processes(tmp_path: Path, url: str) -> None:
    executor = open_executor(url, 2)
    try:
        many = digest(tmp_path / "many", executor=executor)
    finally:
        executor.close()

    assert many == digest(tmp_path / "one")


def test_the_digest_does_not_depend_on_the_order(tmp_path: Path) -> None:
    assert digest(tmp_path / "one") == digest(tmp_path / "other", executor=Backwards())


@pytest.mark.parametrize("after", [1, 30, 89])
def test_the_digest_is_the_same_after_an_interruption(tmp_path: Path, after: int) -> None:
    first, _ = campaign(tmp_path / "halves", observer=StopsAfter(after))
    second, store = campaign(tmp_path / "halves")

    assert first.ran + second.ran == 90
    assert first.ran >= after
    assert store.digest(second.keys) == digest(tmp_path / "whole")


def test_the_digest_notices_another_sweep(tmp_path: Path) -> None:
    assert digest(tmp_path) != digest(tmp_path, replications=2)


def test_rounds_that_depend_on_results_are_the_same_after_an_interruption(tmp_path: Path) -> None:
    stop = Stop(metric="p99", relative=0.3, most=40)
    whole, whole_store = campaign(tmp_path / "whole", stop=stop)
    campaign(tmp_path / "halves", stop=stop, observer=StopsAfter(whole.ran // 2))
    second, store = campaign(tmp_path / "halves", stop=stop, executor=Backwards())

    assert whole.ran > 90
    assert store.digest(second.keys) == whole_store.digest(whole.keys)


def test_a_cell_that_fails_is_written_down_and_stops_nothing(tmp_path: Path) -> None:
    work, store = campaign(tmp_path, runner=tiny.fail)

    failures = [result.failure for key in work.keys if (result := store.get(key)) and result.failure]
    assert work.ran == 90
    assert failures == ["ValueError: replication 0 cannot be run"] * 30
    assert campaign(tmp_path, runner=tiny.fail)[0].ran == 0


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    executor = open_executor("pool", 2)
    changes = {"world": {**tiny.WORLD, "mark": str(tmp_path / "mark")}, "policies": ("plain",), "axes": (tiny.RHO,)}
    try:
        work, store = campaign(tmp_path / "store", executor, tiny.die_once, **changes)
    finally:
        executor.close()

    assert (tmp_path / "mark").exists()
    assert (len(store), work.lost) == (15, {})


def test_a_cell_that_kills_its_worker_takes_no_other_along_and_is_tried_again_next_time(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"policies": ("plain",), "axes": (tiny.RHO,)}
    executor = open_executor("pool", 2)
    try:
        work, store = campaign(tmp_path, executor, tiny.die, **changes)
    finally:
        executor.close()

    assert set(work.lost.values()) == {"its worker was ended by signal 9"}
    assert (len(work.lost), len(store)) == (5, 10)
    assert campaign(tmp_path, **changes)[0].ran == 5


def test_want_of_memory_is_not_held_against_a_cell() -> None:
    def poor(world: object, cell: object) -> Any:
        raise MemoryError

    (line,) = run_batch(Batch(poor, {}, (cell(),)))
    assert line.result.failure == "MemoryError: "
    assert line.result.is_passing


def test_batches_grow_with_what_a_cell_costs_and_shrink_at_the_end(tmp_path: Path) -> None:
    sizes = []

    class Counting(Inline):
        def imap_unordered(self, fn: Any, chunks: Any) -> Any:
            for done in super().imap_unordered(fn, chunks):
                sizes.append(len(done.chunk.cells))
                yield done

    campaign(tmp_path, executor=Counting(), replications=100)

    assert sizes[0] == 1
    assert max(sizes) > 100
    assert sizes[-1] == 1
    assert sum(sizes) == 3000
