"""One measurement in a process of its own: `python -m tests.benchmarks.jobs JOB`, a JSON object.

The one rule: nothing of a measurement is left for the next. grpcio's aio poller, say, is one for all loops of a
process, so the control loop of a sync channel would share it with a benchmark of aio calls.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import aio_calls, instructions, pick, publication, scale, simulation, sync_calls
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB, NATIVE
from tests.benchmarks.effort import Effort

PARTS = ("latency", "throughput", "streaming", "instructions", "pick", "scale", "simulation")
FACES = ("sync", "aio")

_ROOT = Path(__file__).resolve().parents[2]
_FACES: dict[str, Any] = {"sync": sync_calls, "aio": aio_calls}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process measures.

    Attributes:
        part: one of `PARTS`.
        face: one of `FACES`; "" where it does not matter.
        contestant: the one that has the process to itself; "" where all share it.
        row: the one row of its part that is wanted, as `rows` names it; "" for all.
    """

    part: str
    face: str = ""
    contestant: str = ""
    row: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.part, self.face, self.contestant, self.row)))


class JobFailed(RuntimeError):
    """A measurement's process failed; its traceback is on stderr."""


def rows() -> dict[str, Job]:
    """Return what measures each row that can be repeated by itself."""
    found = {f"{face}_{part}": Job(part=part, face=face) for face in FACES for part in ("latency", "throughput")}
    for face in FACES:
        for row in (f"{face}_stream", f"{face}_bidi"):
            found[row] = Job(part="streaming", face=face, row=row)
        for way in instructions.WAYS:
            found[f"{face}_instructions: {way}"] = Job(part="instructions", face=face, row=way)
    return found


def plan(parts: tuple[str, ...], faces: tuple[str, ...]) -> Iterator[Job]:
    """Yield the jobs of a run."""
    for part in parts:
        if part in ("latency", "throughput", "streaming", "instructions"):
            yield from (Job(part=part, face=face) for face in faces)
        elif part in ("pick", "simulation"):
            yield Job(part=part)
        elif part == "scale":
            for face in faces:
                yield from (Job(part=part, face=face, contestant=name) for name in (HEALTHLB, NATIVE))


def run(job: Job, effort: Effort) -> list[Measurement]:
    """Run a job in a process of its own.

    Raises:
        JobFailed: it did not end well.
    """
    order = json.dumps({"job": dataclasses.asdict(job), "effort": dataclasses.asdict(effort)})
    command = [sys.executable, "-m", "tests.benchmarks.jobs", order]
    finished = subprocess.run(command, stdout=subprocess.PIPE, cwd=_ROOT, check=False)
    if finished.returncode:
        raise JobFailed(f"{job} ended with {finished.returncode}")
    return [Measurement(**measurement) for measurement in json.loads(finished.stdout)]


def measure(job: Job, effort: Effort) -> list[Measurement]:
    """Run a job in this process."""
    match job.part:
        case "pick":
            return [*pick.picks(effort), *publication.publications(effort)]
        case "simulation":
            return simulation.simulations(effort)
        case "scale":
            return scale.scale(effort, job.face, job.contestant)
        case "instructions":
            return instructions.instructions(effort, job.face, job.row)
        case _:
            work: Callable[..., list[Measurement]] = getattr(_FACES[job.face], job.part)
            return work(effort, job.row)


def _main() -> None:
    order = json.loads(sys.argv[1])
    sizes = tuple(order["effort"].pop("pick_sizes"))
    measurements = measure(Job(**order["job"]), Effort(pick_sizes=sizes, **order["effort"]))
    json.dump([dataclasses.asdict(measurement) for measurement in measurements], sys.stdout)


if __name__ == "__main__":
    _main()
