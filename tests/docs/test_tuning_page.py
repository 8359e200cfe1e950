"""What docs/tuning.md and docs/validation.md name is there."""

from __future__ import annotations

import re

from healthlb.simulation.scenario_file import catalogue
from healthlb.simulation.validation import claims
from tests.docs.pages import ROOT, table_rows


def test_advice_rests_on_scenarios_that_are_shipped() -> None:
    named = set(re.findall(r"`([a-z][0-9]+-[a-z-]+)`", (ROOT / "docs" / "tuning.md").read_text()))

    assert len(named) >= 15
    assert named <= catalogue().keys()


def test_the_figures_of_theory_are_those_that_are_expected() -> None:
    rows = [row for row in table_rows(ROOT / "docs" / "validation.md") if len(row) == 3]
    expected = [float(row[1]) for row in rows if re.fullmatch(r"[0-9.]+", row[1])]
    known = {f"{claim.expected:.6g}" for claim in claims()}

    assert len(expected) >= 12
    for value in expected:
        assert any(abs(float(one) - value) < 6e-4 * max(1, value) for one in known), value
