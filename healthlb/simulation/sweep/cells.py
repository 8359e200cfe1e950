"""A cell: one run of a scenario under one policy, with some of its numbers replaced.

A cell's key is made of everything its result depends on, the code that decides included. Equal keys mean
equal results, on any machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Value = str | int | float | bool
Overrides = tuple[tuple[str, Value], ...]
Measures = tuple[tuple[str, str], ...]

_KEY_BYTES = 16
# What decides what a cell comes to; reports and the rest of sweeps only show and repeat it.
_DECIDING = (
    *("config/*.py", "presets.py", "core/**/*.py", "simulation/*.py"),
    *(f"simulation/{room}/*.py" for room in ("engine", "scenario", "world", "checks", "scenario_files")),
    *("simulation/sweep/overrides.py", "simulation/sweep/simulating.py"),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run to be made.

    Attributes:
        scenario: hash of the scenario's content.
        policy: the name of one of its policies.
        overrides: pairs of a dotted path into the scenario and what stands there instead, in the order of the paths.
        measures: pairs of a name and an expression over the run, besides its metrics.
        replication: which of the repetitions; 0 is the first. Every cell of the same number sees the same calls.
        engine: `engine_version()`.
    """

    scenario: str
    policy: str
    overrides: Overrides = ()
    measures: Measures = ()
    replication: int = 0
    engine: str = ""

    @functools.cached_property
    def key(self) -> str:
        """The hash of all of it, in hexadecimal."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "engine": self.engine,
            "measures": dict(self.measures),
            "overrides": dict(self.overrides),
            "policy": self.policy,
            "replication": self.replication,
            "scenario": self.scenario,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        """Return the one that `to_json` wrote."""
        return cls(
            scenario=data["scenario"],
            policy=data["policy"],
            overrides=tuple(data["overrides"].items()),
            measures=tuple(data["measures"].items()),
            replication=data["replication"],
            engine=data["engine"],
        )


def canonical(data: object) -> bytes:
    """Return JSON of which equal values have the same bytes.

    Raises:
        ValueError: a number is infinite or none.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def fingerprint(data: object) -> str:
    """Return the hash of canonical JSON, in hexadecimal."""
    return hashlib.blake2b(canonical(data), digest_size=_KEY_BYTES).hexdigest()


@functools.cache
def engine_version() -> str:
    """Return a name for the code that decides: healthlb's core, its configuration and its simulation.

    It is a hash of the source, because nobody remembers to count a number up: a result that other code has made must
    not pass for one of this code.
    """
    root = Path(__file__).parents[2]
    hashed = hashlib.blake2b(digest_size=_KEY_BYTES)
    for path in sorted({path for pattern in _DECIDING for path in root.glob(pattern)}):
        hashed.update(path.relative_to(root).as_posix().encode() + b"\0")
        hashed.update(path.read_bytes() + b"\0")
    return hashed.hexdigest()
