"""How fast and how small a simulated world is: 100 backends, 10 clients, the whole core, faults throughout.

The one rule: time is the process's CPU time, since a simulation waits for nothing; and each run has a process of its
own that imports nothing but the simulator, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

from healthlb.config import Failover
from healthlb.simulation.scenario.laws import Exponential
from healthlb.simulation.scenario.scenario import (
    MILLISECOND,
    SECOND,
    BackendGroup,
    ClientGroup,
    Fault,
    Load,
    Policy,
    Scenario,
)
from healthlb.simulation.world.world import run
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort

_RATE = 22_000  # calls per second of virtual time: 55 % of what the backends can take
_KIB_PER_MB = 1024


def simulations(effort: Effort) -> list[Measurement]:
    """Measure whole runs."""
    runs = [_run(effort.simulated_calls) for _ in range(effort.simulation_rounds)]
    detail = f"{effort.simulated_calls:,} calls"
    return [
        Measurement("simulation_rate", {HEALTHLB: [calls / seconds for calls, seconds, _ in runs]}),
        Measurement("simulation_million", {HEALTHLB: [1e6 * seconds / calls for calls, seconds, _ in runs]}, detail),
        Measurement("simulation_memory", {HEALTHLB: [memory for _, _, memory in runs]}, detail),
    ]


def _run(calls: int) -> tuple[int, float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.simulation", str(calls)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(finished.stdout)
    return found["calls"], found["seconds"], found["memory"]


def make_scenario(calls: int) -> Scenario:
    """Return a world that makes about so many calls."""
    end = calls * SECOND // _RATE
    return Scenario(
        name="benchmark",
        duration=end,
        drain=SECOND,
        backends=(BackendGroup(count=100, slots=4, service=Exponential(10 * MILLISECOND)),),
        clients=(ClientGroup(count=10, load=Load(rate=_RATE / 10), deadline=300 * MILLISECOND),),
        policies={"busy": Policy(picker="least_request", failover=Failover(idempotent=True))},
        faults=(
            Fault(kind="crash", target="b0", period=2 * SECOND),
            Fault(kind="health", target="b3", period=SECOND, duty=0.7),
            Fault(kind="error", target="b7", rate=0.2),
            Fault(kind="slow", target="b9", factor=0.3),
        ),
    )


def _main() -> None:
    record = run(make_scenario(int(sys.argv[1])), "busy")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB
    found = {"calls": record.metrics["requests"], "seconds": record.cpu_seconds, "memory": peak}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _main()
