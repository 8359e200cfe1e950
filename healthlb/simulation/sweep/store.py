"""Results on disk: files of lines that are only ever added to, in one directory.

Nothing is written over. Every run adds a file of its own, so that several may work on one directory, and
`cat` merges what machines have done: a cell that comes twice counts once.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from healthlb.simulation.sweep.results import Line, Result, read_line

SUFFIX = ".jsonl"


class Store:
    """The results of a directory.

    Attributes:
        directory: where the files are; made with the first result.
        complaints: what was wrong with lines that were left out, for people to read.
        conflicts: keys whose results differ from each other, though they must not.
        torn: how many last lines were cut off, as when a process is killed while it writes.
    """

    def __init__(self, directory: Path, *, is_fresh: bool = False) -> None:
        """Read what is there.

        Args:
            directory: need not exist.
            is_fresh: whether to leave what is there aside.
        """
        self.directory = directory
        self.complaints: list[str] = []
        self.conflicts: list[str] = []
        self.torn = 0
        self._results: dict[str, Result] = {}
        self._sums: dict[str, str] = {}
        self._shard: BinaryIO | None = None
        if not is_fresh:
            self._read()

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> Result | None:
        """Return a cell's result, without its histogram, or None."""
        return self._results.get(key)

    def add(self, lines: Sequence[Line]) -> None:
        """Write results, all at once, and know them from now on."""
        if not lines:
            return
        shard = self._shard = self._shard or self._opened()
        shard.write("".join(line.text for line in lines).encode())
        shard.flush()
        for line in lines:
            self._keep(line)

    def close(self) -> None:
        """Close the file that was written."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def digest(self, keys: Iterable[str]) -> str:
        """Return a hash of the results of these cells, whatever the order they came in.

        Two runs of a sweep that have the same digest have the same results, to the last bit of each number.
        """
        hashed = hashlib.blake2b(digest_size=16)
        for key in sorted(set(keys)):
            hashed.update(f"{key} {self._sums.get(key, 'missing')}\n".encode())
        return hashed.hexdigest()

    def _opened(self) -> BinaryIO:
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}{SUFFIX}"
        shard = (self.directory / name).open("xb")
        # Where files are joined with `cat`, this ends a line that the one before has not.
        shard.write(b"\n")
        return shard

    def _read(self) -> None:
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            for number, line, is_whole in _lines(path):
                try:
                    self._keep(read_line(line))
                except ValueError as error:
                    if is_whole:
                        self.complaints.append(f"{path.name}, line {number}: {error}")
                    else:
                        self.torn += 1

    def _keep(self, line: Line) -> None:
        if line.result.is_passing:
            return
        known = self._sums.setdefault(line.key, line.sum)
        if known != line.sum:
            self.conflicts.append(line.key)
        self._results.setdefault(line.key, line.result)


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.decode(errors="replace"), line.endswith(b"\n")
