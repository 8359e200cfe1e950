"""Who does the work: this process, a pool of processes, or a Dask cluster.

An executor knows nothing of cells. It calls a function on chunks, as many at once as it has workers, and
says which chunks were lost.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from healthlb.errors import ConfigError
from healthlb.simulation.sweep.process_pool import Done, Work

_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+|\[(?P<ipv6>[^]]+)\]):(?P<port>[0-9]{1,5})")


class Executor(Protocol):
    """Calls a function on chunks.

    Attributes:
        workers: how many chunks are worked on at once.
    """

    workers: int

    def imap_unordered(self, fn: Work, chunks: Iterable[Any]) -> Iterator[Done]:
        """Yield each chunk when it is done, in any order.

        Chunks are taken from `chunks` only shortly before there is a worker for them. `fn` must be importable by name.
        An exception that `fn` raises is raised here.
        """
        ...

    def close(self) -> None:
        """Let all workers go, at once, whatever they do."""
        ...


class Inline:
    """This process, one chunk after the other."""

    workers = 1

    def imap_unordered(self, fn: Work, chunks: Iterable[Any]) -> Iterator[Done]:
        """Yield each chunk when it is done."""
        for chunk in chunks:
            yield Done(chunk, fn(chunk))

    def close(self) -> None:
        """There is nobody to let go."""


def open_executor(url: str, jobs: int) -> Executor:
    """Return the executor that a URL names.

    Args:
        url: "inline", "pool", "dask://local" (a cluster of processes on this machine) or "dask://host:port" (its
            scheduler).
        jobs: workers of "pool" and "dask://local"; at least 1.

    Raises:
        ConfigError: there is no such executor, or it needs a package that is not installed; or a scheduler did not
            answer within 10 s.
    """
    if url == "inline":
        return Inline()
    if url == "pool":
        from healthlb.simulation.sweep.process_pool import Pool

        return Pool(jobs)
    scheme, _, place = url.partition("://")
    if scheme != "dask" or not (place == "local" or _is_address(place)):
        raise ConfigError(f"executor: {url!r}, must be inline, pool, dask://local or dask://host:port")
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError(f'executor: {url!r} needs Dask: install "healthlb[sim-cluster]"')
    from healthlb.simulation.sweep.cluster import Dask

    return Dask(place, jobs)


def _is_address(place: str) -> bool:
    match = _ADDRESS.fullmatch(place)
    if match is None or not 0 < int(match["port"]) < 65_536:
        return False
    try:
        return match["ipv6"] is None or bool(ipaddress.IPv6Address(match["ipv6"]))
    except ValueError:
        return False
