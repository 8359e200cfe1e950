"""The same contract for every executor; the processes are real ones."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.sweep.executors import Executor, open_executor
from tests.simulation.sweep import tiny
from tests.simulation.sweep.tiny import square

URLS = ["inline", "pool", "dask://local"]


@pytest.fixture(scope="module", params=URLS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    opened = open_executor(request.param, 2)
    yield opened
    opened.close()


def test_every_chunk_is_done_once(executor: Executor) -> None:
    done = list(executor.imap_unordered(square, range(1, 21)))

    assert sorted(one.chunk for one in done) == list(range(1, 21))
    assert all(one.answer == one.chunk**2 and not one.lost for one in done)


def test_it_is_used_again(executor: Executor) -> None:
    assert [one.answer for one in executor.imap_unordered(square, [3])] == [9]
    assert list(executor.imap_unordered(square, [])) == []


def test_an_exception_is_raised_here(executor: Executor) -> None:
    with pytest.raises(ValueError, match="no 5"):
        list(executor.imap_unordered(tiny.refuse, [5]))


def test_chunks_are_taken_shortly_before_they_are_begun(executor: Executor) -> None:
    taken = 0

    def chunks() -> Iterator[int]:
        nonlocal taken
        for chunk in range(100):
            taken += 1
            yield chunk

    next(iter(executor.imap_unordered(square, chunks())))

    # At most two for each worker, and the one that follows the first.
    assert taken <= 2 * executor.workers + 1


@pytest.mark.parametrize("url", ["ray", "dask", "dask://", "dask://host", "dask://host:0", "dask://:1", "pool://2"])
def test_an_unknown_executor_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="must be inline, pool, dask://local or dask://host:port"):
        open_executor(url, 1)


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r'install "healthlb\[sim-cluster\]"'):
        open_executor("dask://local", 1)


def test_a_worker_that_is_killed_costs_its_chunk_and_is_replaced(tmp_path: Path) -> None:
    from healthlb.simulation.sweep.campaign import Batch, run_batch

    pool = open_executor("pool", 2)
    batches = [Batch(tiny.die, tiny.WORLD, (tiny.cell(number),)) for number in range(6)]
    try:
        done = {one.chunk.cells[0].replication: one.lost for one in pool.imap_unordered(run_batch, batches)}
    finally:
        pool.close()

    assert done == {0: "", 1: "its worker was ended by signal 9", 2: "", 3: "", 4: "", 5: ""}


def test_a_cluster_of_others_is_used_and_left_running() -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        place = cluster.scheduler_address.removeprefix("tcp://")
        executor = open_executor(f"dask://{place}", 7)
        answers = {done.answer for done in executor.imap_unordered(square, range(1, 6))}
        executor.close()

        assert executor.workers == 2
        assert answers == {1, 4, 9, 16, 25}
        with Client(cluster) as client:
            assert client.submit(square, 6).result() == 36


def test_a_cluster_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from healthlb.simulation.sweep import cluster

    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.5)
    with pytest.raises(ConfigError, match=r"executor: 'dask://127.0.0.1:1' cannot be reached"):
        open_executor("dask://127.0.0.1:1", 1)


def test_a_cluster_whose_workers_are_killed_loses_their_chunks_and_ends() -> None:
    from healthlb.simulation.sweep.campaign import Batch, run_batch

    cluster = open_executor("dask://local", 2)
    batches = [Batch(tiny.die, tiny.WORLD, (tiny.cell(number % 2),)) for number in range(6)]
    try:
        done = [(one.chunk.cells[0].replication, one.lost) for one in cluster.imap_unordered(run_batch, batches)]
    finally:
        cluster.close()

    # A worker may take answers along that were still with it; the sweep asks for those again.
    assert sorted(number for number, _ in done) == [0, 0, 0, 1, 1, 1]
    assert [lost for number, lost in done if number == 1] == ["its worker was lost"] * 3


def test_a_cluster_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from healthlb.simulation.sweep import cluster

    executor = cluster.Dask("local", 1)
    own: Any = executor._cluster
    pids = [nanny.pid for nanny in own.workers.values()]
    close = own.close
    monkeypatch.setattr(own, "close", lambda: threading.Event().wait())
    monkeypatch.setattr(cluster, "CLOSE_TIMEOUT", 0.3)
    executor.close()

    assert pids
    assert all(has_ended(pid) for pid in pids)
    close(timeout=10)


def has_ended(pid: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_cluster_without_workers_has_lost_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    from healthlb.simulation.sweep import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setattr(cluster, "_LOOK_EVERY", 0.1)
    with LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp", host="127.0.0.1") as empty:
        executor = open_executor(f"dask://{empty.scheduler_address.removeprefix('tcp://')}", 1)
        done = list(executor.imap_unordered(square, [1, 2]))
        executor.close()

    assert [(one.chunk, one.lost) for one in done] == [(1, "the cluster has no workers")]


def test_a_wait_is_bounded() -> None:
    from healthlb.simulation.sweep.cluster import within

    assert within(5, lambda: 7) == 7
    with pytest.raises(ValueError, match="no 5"):
        within(5, lambda: tiny.refuse(5))
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        within(0.05, threading.Event().wait)


def test_a_pool_whose_worker_stands_still_is_closed() -> None:
    from healthlb.simulation.sweep.process_pool import Pool

    pool = Pool(1)
    list(pool.imap_unordered(square, [1]))
    pid = pool._idle[0].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    pool.close()

    assert has_ended(pid)
