"""Draws docs/images/no-harm.svg from real runs: `python -m docs.draw_no_harm`, from the root. It takes some minutes.

The worlds are those of `tests/simulation/test_no_harm.py`, which holds them to bounds.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean

from healthlb.simulation.report.heatmap import colour, hexadecimal, is_light
from tests.simulation.no_harm import FAULTS, LOADS, POLICIES, goodputs

FILE = Path(__file__).parent / "images" / "no-harm.svg"
SEEDS = (2,)
TITLES = {"bare": "health alone", "default": "defaults", "resilient": "presets.resilient"}
LEFT, TOP, WIDE, HIGH, GAP = 108, 48, 34, 26, 24
# What is lost below this is all the same.
LOWEST = 0.4
_PAPER = '<rect width="100%" height="100%" fill="#fff"/>'


def measure(cell: tuple[str, float]) -> dict[str, float]:
    """Return the goodput of a cell by policy, as the mean over the seeds."""
    runs = [goodputs(*cell, seed) for seed in SEEDS]
    return {policy: fmean(run[policy] for run in runs) for policy in POLICIES}


def text(x: float, y: float, words: str, more: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x:g}" y="{y:g}" {more}>{words}</text>'


def box(x: float, y: float, value: float) -> str:
    """Return a cell: its colour, and the percentage in it."""
    place = max(0.0, (value - LOWEST) / (1 - LOWEST))
    ink = "#000" if is_light(colour(place)) else "#fff"
    words = text(x + WIDE / 2, y + HIGH / 2 + 4, f"{100 * value:.0f}", f'text-anchor="middle" fill="{ink}"')
    return f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" fill="{hexadecimal(place)}"/>{words}'


def panel(number: int, policy: str, cells: dict[tuple[str, float], dict[str, float]]) -> list[str]:
    """Return one policy's map."""
    left = LEFT + number * (len(LOADS) * WIDE + GAP)
    drawn = [text(left, 18, TITLES[policy], 'font-weight="bold"')]
    for column, load in enumerate(LOADS):
        drawn.append(text(left + (column + 0.5) * WIDE, TOP - 8, f"{load:g}", 'text-anchor="middle"'))
        for row, fault in enumerate(FAULTS):
            drawn.append(box(left + column * WIDE, TOP + row * HIGH, cells[fault, load][policy]))
    return drawn


def picture(cells: dict[tuple[str, float], dict[str, float]]) -> str:
    """Return the picture."""
    width = LEFT + len(POLICIES) * (len(LOADS) * WIDE + GAP)
    height = TOP + len(FAULTS) * HIGH + 12
    faults = [
        text(LEFT - 8, TOP + (row + 0.5) * HIGH + 4, fault, 'text-anchor="end"') for row, fault in enumerate(FAULTS)
    ]
    marks = [text(LEFT - 8, TOP - 8, "load", 'text-anchor="end"'), *faults]
    for number, policy in enumerate(POLICIES):
        marks += panel(number, policy, cells)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="12">', _PAPER, *marks, "</svg>", ""])


def main() -> None:
    """Run all worlds, and draw what came of them."""
    cells = [(fault, load) for fault in FAULTS for load in LOADS]
    with ProcessPoolExecutor(os.cpu_count()) as executor:
        measured = dict(zip(cells, executor.map(measure, cells), strict=True))
    FILE.write_text(picture(measured), encoding="utf-8")
    for policy in POLICIES[1:]:
        worst = min(measured, key=lambda cell: measured[cell][policy] - measured[cell]["bare"])
        print(policy, "least beside health alone:", worst, measured[worst])
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
