"""A Dask cluster, or one of processes on this machine. Everything that knows Dask is here.

The one rule: Dask gets few and large tasks, one for each worker and no more. None waits behind another, and each chunk
is made by what the ones before have cost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from healthlb.errors import ConfigError
from healthlb.simulation.sweep.executors import Done, Work, interrupts_ignored

# Its types say little, and it may not be installed where this is checked.
_dask: Any = import_module("dask")
_distributed: Any = import_module("distributed")
_scheduler: Any = import_module("distributed.scheduler")

CONNECT_TIMEOUT = 10.0


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
            ConfigError: there is no scheduler within 10 s.
        """
        local = place == "local"
        self._cluster = _local_cluster(jobs) if local else None
        try:
            self._client = _distributed.Client(self._cluster or f"tcp://{place}", timeout=CONNECT_TIMEOUT)
        except OSError as error:
            raise ConfigError(f"executor: 'dask://{place}' cannot be reached: {error}") from error
        self.workers = max(1, sum(self._client.nthreads().values()))

    def imap_unordered(self, fn: Work, chunks: Iterable[Any]) -> Iterator[Done]:
        """Yield each chunk when it is done; a scheduler of others may repeat those of a lost worker by itself."""
        waiting = iter(chunks)
        chunk_of = {self._submit(fn, chunk): chunk for chunk in islice(waiting, self.workers)}
        done = _distributed.as_completed(list(chunk_of))
        for future in done:
            chunk = chunk_of.pop(future)
            for following in islice(waiting, 1):
                chunk_of[new := self._submit(fn, following)] = following
                done.add(new)
            try:
                yield Done(chunk, future.result())
            except _scheduler.KilledWorker:
                yield Done(chunk, lost="its worker was lost")

    def _submit(self, fn: Work, chunk: Any) -> Any:
        return self._client.submit(fn, chunk, pure=False)

    def close(self) -> None:
        """Disconnect; a cluster of our own ends."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _local_cluster(jobs: int) -> Any:
    # What its own processes say when they are ended is of no use to anybody.
    silence = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    # What was lost is run again by the sweep itself, and with more care.
    impatient = _dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with interrupts_ignored(), impatient:
        return _distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, **silence)
