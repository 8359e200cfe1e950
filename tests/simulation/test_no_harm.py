"""No setting of ours turns a busy fleet into an outage: the preset and the defaults beside a policy that only follows health."""

from __future__ import annotations

import tomllib

import pytest

from healthlb.simulation.running import run_all
from healthlb.simulation.scenario_files.scenario_file import parse_scenario
from tests.simulation.no_harm import FAULTS, LOADS, goodputs

# Five backends of two slots, calls of 40 ms (p99 200 ms): the fleet has time for 250 calls a second.
WORLD = """
schema = 1
name = "full-house"
title = "A fleet without a fault"
seed = {seed}
duration = "40s"
warmup = "2s"
drain = "20s"

[[backend]]
name = "b"
count = 5
slots = 2
checks = "{checks}"
service = {{ dist = "lognormal", mean = "40ms", p99 = "200ms" }}

[[client]]
load = {{ rate = "{rate}/s" }}
deadline = "800ms"

[policy.bare]
failover = false
outliers = false

[policy.default]
preset = "default"

[policy.resilient]
preset = {{ name = "resilient", hedging_delay = "200ms" }}

[policy.hasty]
preset = {{ name = "resilient", hedging_delay = "20ms" }}
"""

POLICIES = ("bare", "default", "resilient", "hasty")
# Of all calls: what a policy may lose beyond the bare one. Before there was a gate the preset lost 35 % at 0.8.
NOISE = 0.015


@pytest.mark.parametrize("checks", ["beside", "pool"])
@pytest.mark.parametrize("seed", [2, 5, 7])
@pytest.mark.parametrize("load", [0.1, 0.4, 0.65, 0.8, 0.9])
def test_no_policy_loses_more_than_a_bare_one(load: float, seed: int, checks: str) -> None:
    world = WORLD.format(seed=seed, rate=round(load * 250), checks=checks)
    outcome = run_all(parse_scenario(tomllib.loads(world)), POLICIES)
    lost = {policy: outcome.runs[policy][0].metrics["error_ratio"] for policy in POLICIES}

    assert max(lost.values()) <= lost["bare"] + NOISE, lost


# --- under every kind of fault -----------------------------------------------------------------------------------


# Of all calls, where those that are well can do the work, with a tenth to spare: then protection does no harm.
ROOM, UNHARMED = 0.9, 0.025
# Where they cannot, whatever is done is too much for somebody, and small things decide, as lines are longer than
# deadlines. Before protection gave way it lost up to 65 % of all calls there.
NO_OUTAGE = 0.1


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fault", FAULTS)
def test_protection_does_no_harm(fault: str, load: float) -> None:
    _check(fault, load, seed=2)


@pytest.mark.parametrize("load", [0.5, 0.6, 0.7, 0.8])
@pytest.mark.parametrize("fault", ["one hangs", "half hangs"])
def test_who_hangs_costs_no_more_than_without_protection(fault: str, load: float) -> None:
    # Health alone looks good there, since backends that hang relieve the others of calls by losing them.
    ok = goodputs(fault, load)

    assert min(ok["default"], ok["resilient"]) >= ok["bare"], ok


@pytest.mark.sweep
@pytest.mark.parametrize(("clients", "picker"), [(1, "round_robin"), (1, "least_request"), (8, "round_robin")])
@pytest.mark.parametrize("seed", [5, 7])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fault", FAULTS)
def test_protection_does_no_harm_in_other_fleets(fault: str, load: float, seed: int, clients: int, picker: str) -> None:
    _check(fault, load, seed, clients, picker)


def _check(fault: str, load: float, seed: int, clients: int = 1, picker: str = "round_robin") -> None:
    ill = FAULTS[fault]
    ok = goodputs(fault, load, seed, clients, picker)
    if load <= ROOM * ill.left:
        assert ok["default"] >= ok["bare"] - UNHARMED, ok
        assert ok["resilient"] >= ok["default"] - UNHARMED, ok
        return
    honest = goodputs(ill.worst, load, seed, clients, picker)["bare"] if ill.worst else 1.0
    assert min(ok["default"], ok["resilient"]) >= min(ok["bare"], honest) - NO_OUTAGE, (ok, honest)
