"""A fleet under each kind of fault at each load, with three policies: bare, the defaults and the resilient preset."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from healthlb.simulation.running import run_all
from healthlb.simulation.scenario_files.scenario_file import parse_scenario

POLICIES = ("bare", "default", "resilient")
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# Servers go on with calls that nobody waits for, the oldest first: the worst case for whatever adds work.
_WORLD = """
schema = 1
name = "no-harm"
title = "A fleet under a fault"
seed = {seed}
duration = "30s"
warmup = "2s"
drain = "20s"

[[backend]]
name = "b"
count = 6
slots = 2
service = {{ dist = "lognormal", mean = "40ms", p99 = "200ms" }}

[[client]]
count = {clients}
load = {{ rho = {load} }}
deadline = "800ms"

[policy.bare]
picker = "{picker}"

[policy.default]
picker = "{picker}"
preset = "default"

[policy.resilient]
picker = "{picker}"
preset = {{ name = "resilient", hedging_delay = "200ms" }}

[faults]
timeline = [{faults}]
"""


@dataclass(frozen=True)
class Ill:
    """One kind of fault.

    Attributes:
        faults: as a scenario file has them.
        left: the share of the fleet's work that can be done without those that are ill.
        worst: the fault that this is no worse than, if those that are ill are left alone: where they hang or are slow,
            they relieve the others of calls by losing them, as an honest end does not.
    """

    faults: str
    left: float = 1.0
    worst: str = ""


def _fault(kind: str, target: str, start: int, end: int, more: str = "") -> str:
    return f'{{ kind = "{kind}", target = "{target}", from = "{start}s", until = "{end}s"{more} }}'


_ONE, _HALF = 5 / 6, 1 / 2
FAULTS: Mapping[str, Ill] = MappingProxyType(
    {
        "none": Ill(""),
        "one slow": Ill(_fault("slow", "b0", 10, 20, ", factor = 0.1"), _ONE, "one crashed"),
        "pauses": Ill(_fault("pause", "b0", 6, 26, ', period = "6s", duty = 0.9'), _ONE, "one crashed"),
        "one fails": Ill(_fault("error", "b0", 10, 20, ', rate = 0.5, code = "INTERNAL"'), _ONE),
        "one hangs": Ill(_fault("pause", "b0", 10, 20), _ONE, "one crashed"),
        "one crashed": Ill(_fault("crash", "b0", 10, 20), _ONE),
        "half slow": Ill(_fault("slow", "50%", 10, 20, ", factor = 0.3"), _HALF, "half crashed"),
        "half fails": Ill(_fault("error", "50%", 10, 20, ', rate = 0.5, code = "UNAVAILABLE"'), _HALF),
        "half hangs": Ill(_fault("pause", "50%", 10, 20), _HALF, "half crashed"),
        "half crashed": Ill(_fault("crash", "50%", 10, 20), _HALF),
        "all slow": Ill(_fault("slow", "*", 10, 20, ", factor = 0.5"), _HALF),
        "all fail": Ill(_fault("error", "*", 10, 20, ', rate = 0.3, code = "UNAVAILABLE"')),
    }
)


@cache
def goodputs(fault: str, load: float, seed: int = 2, clients: int = 1, picker: str = "round_robin") -> dict[str, float]:
    """Return the share of the calls that end well, by policy."""
    world = _WORLD.format(load=load, seed=seed, clients=clients, picker=picker, faults=FAULTS[fault].faults)
    runs = run_all(parse_scenario(tomllib.loads(world)), POLICIES).runs
    return {policy: runs[policy][0].metrics["goodput"] for policy in POLICIES}
