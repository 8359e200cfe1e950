"""A Dask cluster, or one of processes on this machine. Everything that knows Dask is here.

Dask gets few and large tasks, one for each worker and no more. None waits behind another, and each chunk
is made by what the ones before have cost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from healthlb.errors import ConfigError
from healthlb.simulation.sweep.process_pool import Done, Work, interrupts_ignored

# Its types say little, and it may not be installed where this is checked.
_dask: Any = import_module("dask")
_distributed: Any = import_module("distributed")
_scheduler: Any = import_module("distributed.scheduler")

CONNECT_TIMEOUT = 10.0
START_TIMEOUT = 60.0
"""Seconds in which the processes of a cluster of our own must have begun."""
CLOSE_TIMEOUT = 5.0
"""Seconds in which each of our connection and our cluster must have ended; processes that have not are killed."""
PATIENCE = 60.0
"""Seconds without any worker after which what was given to the cluster counts as lost."""
_LOOK_EVERY = 1.0


class Dask:
    """A client of a scheduler.

    Attributes:
        workers: threads over all workers of the cluster.
    """

    def __init__(self, place: str, jobs: int) -> None:
        """Connect.

        Args:
            place: "local" for a new cluster, or the scheduler's "host:port".
            jobs: processes of a new cluster.

        Raises:
            ConfigError: there is no scheduler within 10 s, or the cluster has not begun within a minute.
        """
        self._cluster = _local_cluster(jobs) if place == "local" else None
        try:
            self._client = _distributed.Client(self._cluster or f"tcp://{place}", timeout=CONNECT_TIMEOUT)
            self.workers = max(1, self._threads())
        except (OSError, TimeoutError) as error:
            if self._cluster is not None:
                _end(self._cluster)
            raise ConfigError(f"executor: 'dask://{place}' cannot be reached: {error}") from error

    def _threads(self) -> int:
        """Return how many threads all workers have.

        Raises:
            TimeoutError: the scheduler does not answer.
        """
        answer = within(CONNECT_TIMEOUT, lambda: sum(self._client.nthreads().values()))
        return int(answer)

    def imap_unordered(self, fn: Work, chunks: Iterable[Any]) -> Iterator[Done]:
        """Yield each chunk when it is done; a scheduler of others may repeat those of a lost worker by itself."""
        waiting = iter(chunks)
        chunk_of = {self._submit(fn, chunk): chunk for chunk in islice(waiting, self.workers)}
        workers_at = time.monotonic()
        while chunk_of:
            ended = self._ended(list(chunk_of))
            if ended or self._has_workers():
                workers_at = time.monotonic()
            elif time.monotonic() - workers_at > PATIENCE:
                yield from (Done(chunk, lost="the cluster has no workers") for chunk in chunk_of.values())
                return
            for future in ended:
                chunk = chunk_of.pop(future)
                for following in islice(waiting, 1):
                    chunk_of[self._submit(fn, following)] = following
                yield self._collected(future, chunk)

    def _submit(self, fn: Work, chunk: Any) -> Any:
        return self._client.submit(fn, chunk, pure=False)

    def _ended(self, futures: list[Any]) -> list[Any]:
        """Return those that have ended, after a second at the latest."""
        with contextlib.suppress(TimeoutError, _distributed.CancelledError):
            _distributed.wait(futures, timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED")
        return [future for future in futures if future.status != "pending"]

    def _has_workers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            return self._threads() > 0
        return False

    def _collected(self, future: Any, chunk: Any) -> Done:
        if future.status not in ("finished", "error"):
            return Done(chunk, lost=f"the cluster says that it is {future.status}")
        try:
            # What has ended may still be lost with its worker, before the answer is here.
            error = within(CONNECT_TIMEOUT, future.exception)
            if error is None:
                return Done(chunk, within(CONNECT_TIMEOUT, future.result))
        except (OSError, TimeoutError, _scheduler.KilledWorker, _distributed.CancelledError) as gone:
            error = gone
        lost = (_scheduler.KilledWorker, TimeoutError, _distributed.CancelledError)
        if isinstance(error, lost):
            return Done(chunk, lost="its worker was lost")
        raise error

    def close(self) -> None:
        """Disconnect; a cluster of our own ends, within some seconds whatever its processes do."""
        with contextlib.suppress(Exception):
            within(CLOSE_TIMEOUT, self._client.close)
        if self._cluster is not None:
            _end(self._cluster)


def within(seconds: float, act: Callable[[], Any]) -> Any:
    """Return what `act` returns, which is called on a thread of its own.

    Raises:
        TimeoutError: it has not returned after so many seconds; the thread is left behind.
        Exception: whatever it raises.
    """
    found: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            found.put((act(), None))
        except Exception as error:
            found.put((None, error))

    threading.Thread(target=run, name="healthlb-sweep-cluster", daemon=True).start()
    try:
        answer, error = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return answer


def _local_cluster(jobs: int) -> Any:
    # What its own processes say when they are ended is of no use to anybody.
    silence = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    # What was lost is run again by the sweep itself, and with more care.
    impatient = _dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with interrupts_ignored(), impatient:
        try:
            return within(
                START_TIMEOUT, lambda: _distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, **silence)
            )
        except TimeoutError as error:
            raise ConfigError(f"executor: a cluster of {jobs} processes has not begun: {error}") from error


def _end(cluster: Any) -> None:
    """Close a cluster; what has not ended after some seconds is killed."""
    try:
        within(CLOSE_TIMEOUT, cluster.close)
    except Exception:
        for nanny in tuple(cluster.workers.values()):
            with contextlib.suppress(AttributeError, TypeError, ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)
