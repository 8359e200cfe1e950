"""Figures of comparisons, told at the end of a test run: with `-rP` or `--report-log`, else they are dropped."""

from __future__ import annotations

from collections.abc import Mapping


class Tally:
    """Prints what was measured, where pytest captures it."""

    def note(self, what: str, figures: Mapping[str, object]) -> None:
        """Keep one comparison."""
        print(f"{what}: " + ", ".join(f"{name} {figure}" for name, figure in figures.items()))
