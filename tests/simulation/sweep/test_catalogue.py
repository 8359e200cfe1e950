"""The sweeps that are shipped: each is sound, and the first of its cells runs without a failure."""

from __future__ import annotations

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.sweep import simulating
from healthlb.simulation.sweep.cells import engine_version
from healthlb.simulation.sweep.files import read
from healthlb.simulation.sweep.rounds import Rounds

SWEEPS = simulating.sweeps()


def test_there_are_some() -> None:
    assert SWEEPS.keys() >= {"retry-storm", "throttle", "flap-period", "blind-spot", "many-clients"}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_shipped_sweep_is_sound_and_its_first_cell_runs(name: str) -> None:
    sweep = read(SWEEPS[name], simulating.find_scenario)
    simulating.examine(sweep)
    (first, *_) = next(iter(Rounds(sweep, engine_version(), {}.get)))
    result = simulating.simulate(sweep.world, first)

    assert sweep.name == name
    assert sweep.title
    assert result.broken == ()
    assert result.metrics.keys() >= {*sweep.metrics}


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="there is no sweep 'nothing': neither a file nor one of blind-spot"):
        simulating.find_sweep("nothing")
