"""The figures of docs/validation.md are those of the validation."""

from __future__ import annotations

import re

from healthlb.simulation.validation import claims
from tests.docs.pages import ROOT, table_rows


def test_the_figures_of_theory_are_those_that_are_expected() -> None:
    rows = [row for row in table_rows(ROOT / "docs" / "validation.md") if len(row) == 3]
    expected = [float(row[1]) for row in rows if re.fullmatch(r"[0-9.]+", row[1])]
    known = {f"{claim.expected:.6g}" for claim in claims()}

    assert len(expected) >= 12
    for value in expected:
        assert any(abs(float(one) - value) < 6e-4 * max(1, value) for one in known), value
