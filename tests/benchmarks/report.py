"""The table and the JSON of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.catalogue import FIGURES, Figure, Measurement
from tests.benchmarks.contestants import AGAIN, CONTESTANTS, HEALTHLB, NATIVE, PLAIN, RETRYING
from tests.benchmarks.statistics import Ratio, pairwise_ratio

_NAMES = {HEALTHLB: "healthlb", NATIVE: "native (b)", RETRYING: "with retryPolicy (c)", PLAIN: "plain (a)"}
_LETTERS = {NATIVE: "b", RETRYING: "c", PLAIN: "a"}
_HEADER = ("figure", *(_NAMES[name] for name in CONTESTANTS), "ratio [95 %]", "noise [95 %]", "target", "met?")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One figure of a run.

    Attributes:
        measurement: its samples.
        figure: what it is.
        numbers: one per contestant that took part.
        ratios: healthlb's to each rival that it was measured side by side with.
        noise: healthlb's ratio to itself, measured as one more rival; None where it was not.
    """

    measurement: Measurement
    figure: Figure
    numbers: dict[str, float]
    ratios: dict[str, Ratio]
    noise: Ratio | None = None

    @property
    def ratio(self) -> Ratio | None:
        """The one that the target is for."""
        return self.ratios[self.figure.rivals[0]] if self.ratios else None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met, None without one."""
        target = self.figure.target
        if target is None or HEALTHLB not in self.numbers:
            return None
        if target.of == "value":
            return target.is_met(self.numbers[HEALTHLB])
        return None if self.ratio is None else target.is_met(self.ratio.median)

    @property
    def verdict(self) -> str:
        """The last column; "?" where the interval, and what the method is off by, reach over the bound."""
        if self.is_met is None or self.figure.target is None:
            return ""
        word = "yes" if self.is_met else "no"
        if self.figure.target.of == "value" or self.ratio is None:
            return word
        off = 0.0 if self.noise is None else abs(self.noise.median - 1)
        ends = self.ratio.low - off, self.ratio.high + off
        return word if len({self.figure.target.is_met(end) for end in ends}) == 1 else f"{word}?"

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        title = " ".join(filter(None, (self.figure.title, self.measurement.detail)))
        shown = (_number(self.numbers.get(name), self.figure.unit) for name in CONTESTANTS)
        ratios = "; ".join(f"{_LETTERS[name]}: {ratio}" for name, ratio in self.ratios.items())
        return (title, *shown, ratios, str(self.noise or ""), str(self.figure.target or ""), self.verdict)


def rows(measurements: Iterable[Measurement]) -> list[Row]:
    """Return a row for each figure; contestants that were measured apart come together."""
    merged: dict[tuple[str, str], dict[str, Sequence[float]]] = {}
    for one in measurements:
        merged.setdefault((one.figure, one.detail), {}).update(one.samples)
    return [_row(Measurement(figure, samples, detail)) for (figure, detail), samples in merged.items()]


def _row(measurement: Measurement) -> Row:
    figure, samples = FIGURES[measurement.figure], measurement.samples
    numbers = {name: figure.summarize(values) for name, values in samples.items()}
    ratios = {name: pairwise_ratio(samples[HEALTHLB], samples[name]) for name in figure.rivals}
    noise = pairwise_ratio(samples[HEALTHLB], samples[AGAIN]) if AGAIN in samples else None
    return Row(measurement, figure, numbers, ratios, noise)


def table(rows: Sequence[Row]) -> str:
    """Return the run as a Markdown table."""
    lines = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    texts = [_line(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([texts[0], _line("-" * width for width in widths), *texts[1:]])


def document(rows: Sequence[Row], **about: Any) -> dict[str, Any]:
    """Return everything there is to say of a run, for JSON."""
    return {**about, "figures": [_record(row) for row in rows]}


def _record(row: Row) -> dict[str, Any]:
    return {
        "figure": row.measurement.figure,
        "title": row.figure.title,
        "detail": row.measurement.detail,
        "unit": row.figure.unit,
        "summary": row.figure.summary,
        "numbers": row.numbers,
        "ratios": {name: dataclasses.asdict(ratio) for name, ratio in row.ratios.items()},
        "noise": dataclasses.asdict(row.noise) if row.noise else None,
        "verdict": row.verdict,
        "target": dataclasses.asdict(row.figure.target) if row.figure.target else None,
        "is_met": row.is_met,
        "samples": row.measurement.samples,
    }


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(number: float | None, unit: str) -> str:
    if number is None:
        return ""
    digits = 0 if number >= 100 or number == int(number) else 2
    return f"{number:,.{digits}f} {unit}".rstrip()
