"""Numbers of a simulation as people read them.

A mean stands beside the half-width of its 95 % confidence interval, in the same unit, wherever there are
replications to have one.
"""

from __future__ import annotations

import math

from healthlb.simulation.checks.estimates import Estimate

_MOST_PLACES = 4
SECONDS = frozenset({"mean", "p50", "p90", "p95", "p99", "p999", "max", "wasted"})
SHARES = frozenset({"error_ratio", "goodput", "tokens_min", "rho"})
# Of these less is better, and of the others below more; of all others neither.
LESS_IS_BETTER = SECONDS | {"errors", "error_ratio"}
MORE_IS_BETTER = frozenset({"ok", "goodput", "ok_rate"})


def written(metric: str, estimate: Estimate, *, signed: bool = False) -> str:
    """Return "12.7 ± 0.1 ms", "4.12 %", "49,080"."""
    half = estimate.half_width()
    factor, unit = _unit(metric, max(abs(estimate.mean), 0.0 if math.isinf(half) else half))
    mean, half = estimate.mean * factor, half * factor
    sign = "+" if signed else ""
    # Three digits of the mean, or two of what is uncertain about it.
    places = _places(mean, 3) if math.isinf(half) or not half else _places(half, 2)
    text = f"{mean:{sign},.{places}f}" if math.isinf(half) else f"{mean:{sign},.{places}f} ± {half:,.{places}f}"
    return f"{text} {unit}" if unit else text


def _unit(metric: str, size: float) -> tuple[float, str]:
    if metric in SHARES:
        return 100, "%"
    if metric in SECONDS:
        return (1, "s") if size >= 1 or not size else (1e3, "ms") if size >= 1e-3 else (1e6, "us")
    return 1, ""


def _places(value: float, digits: int) -> int:
    if value == int(value):
        return 0
    return min(_MOST_PLACES, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def counted(seconds: float | None) -> str:
    """Return a time that is left."""
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def grouped(count: float) -> str:
    """Return a count in few characters: 950, 41k, 1.2M."""
    if count < 1000:
        return f"{count:.0f}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"


def is_better(metric: str, difference: float) -> bool | None:
    """Return whether such a change of a metric is for the better; None where it is neither."""
    if metric in LESS_IS_BETTER:
        return difference < 0
    return difference > 0 if metric in MORE_IS_BETTER else None


def aligned(rows: list[list[str]], left: int = 1) -> list[str]:
    """Return lines of columns: the first `left` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
