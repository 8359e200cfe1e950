"""Every mutated core is noticed: by random worlds, and by the rule that is meant to."""

from __future__ import annotations

import pytest

from healthlb.simulation.fuzzing.campaign import verdict
from healthlb.simulation.fuzzing.worlds import random_world
from tests.simulation.mutants import MUTANTS, mutated

MOST = 300


def killer(name: str) -> tuple[int, str]:
    """Return the first world that notices a mutant, and the rule; those in which it was seen before are tried first."""
    mutant = MUTANTS[name]
    for number in (*mutant.worlds, *range(MOST)):
        rule, _, _ = verdict(random_world(1, number))
        if rule in mutant.rules:
            return number, rule
    return -1, ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutated_core_is_noticed(name: str) -> None:
    with mutated(name) as mutant:
        number, rule = killer(name)

    assert rule in mutant.rules
    assert verdict(random_world(1, number))[:2] == ("", "")


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.rule for mutant in MUTANTS.values()}) >= 18
