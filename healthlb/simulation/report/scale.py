"""From numbers to places: linear and logarithmic scales, their ticks, and how numbers are written.

Ticks are numbers a person would choose (1, 2 or 5 times a power of ten; for time what a clock shows), and
every one of them is written with just the digits that tell it from its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SECOND = 1_000_000_000
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
# No line breaks between a number and its unit.
SPACE = "\N{NO-BREAK SPACE}"
# What a clock shows, in seconds; below and above them: 1, 2, 5 and powers of ten.
_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Scale(Protocol):
    """Where a number stands between the low end (0) and the high end (1), and which numbers are marked."""

    @property
    def ticks(self) -> tuple[float, ...]:
        """The numbers to mark, ascending."""

    def place(self, value: float) -> float:
        """Return the place of `value`, between 0 and 1; what is outside is put on the edge."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Equal steps for equal differences.

    Attributes:
        low: the number at 0.
        high: the number at 1, above `low`.
        ticks: the numbers to mark.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the place of `value`."""
        return _clamped((value - self.low) / (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Log:
    """Equal steps for equal ratios.

    Attributes:
        low: the number at 0, above zero.
        high: the number at 1, above `low`.
        ticks: the numbers to mark.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the place of `value`; zero and less are at the low end."""
        if value <= self.low:
            return 0.0
        return _clamped(math.log(value / self.low) / math.log(self.high / self.low))


def linear(values: Sequence[float], *, low: float | None = 0.0, count: int = 4) -> Linear:
    """Return a linear scale that holds all values, from a tick to a tick.

    Args:
        values: what is drawn; may be empty.
        low: where the scale begins at the latest; None: with the values.
        count: about how many steps there are.
    """
    least = min(values, default=0.0) if low is None else min(low, *values, low)
    most = max(values, default=1.0)
    if most <= least:
        most = least + (abs(least) or 1.0)
    step = nice_step((most - least) / count)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    ticks = tuple(_rounded(index * step) for index in range(first, last + 1))
    return Linear(ticks[0], ticks[-1], ticks)


def logarithmic(values: Sequence[float]) -> Log:
    """Return a logarithmic scale that holds all positive values; over many decades only powers of ten are marked."""
    positive = [value for value in values if value > 0]
    low, high = (min(positive), max(positive)) if positive else (1.0, 10.0)
    steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    first, last = math.floor(math.log10(low) - 1), math.ceil(math.log10(high) + 1)
    marks = [_rounded(step * 10.0**power) for power in range(first, last + 1) for step in steps]
    bottom = max(mark for mark in marks if mark <= low * (1 + 1e-9))
    top = min(mark for mark in marks if mark >= high * (1 - 1e-9) and mark > bottom)
    return Log(bottom, top, tuple(mark for mark in marks if bottom <= mark <= top))


def clock(duration: int, *, count: int = 8) -> Linear:
    """Return the scale of a time axis of `duration` nanoseconds, in seconds: it ends with the run, not with a tick."""
    length = max(duration, 1) / SECOND
    wanted = length / count
    step = nice_step(wanted) if wanted < 1 else next((step for step in _CLOCK if step >= wanted), nice_step(wanted))
    ticks = tuple(_rounded(index * step) for index in range(int(length / step + 1e-9) + 1))
    return Linear(0.0, length, ticks)


def nice_step(wanted: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is not below `wanted`."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(_rounded(step * power) for step in (1, 2, 5, 10) if step * power >= wanted * (1 - 1e-9))


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")


def _clamped(place: float) -> float:
    return min(1.0, max(0.0, place))


# --- how numbers are written -------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Write a time of `value` seconds in the unit that suits it: "250 µs", "12 ms", "1.5 s", "2 min", "3 h"."""
    if value == 0:
        return f"0{SPACE}s"
    if not math.isfinite(value):
        return plain(value)
    unit, length = unit_of(abs(value))
    return plain(value / length) + SPACE + unit


def unit_of(size: float) -> tuple[str, float]:
    """Return the unit that suits a time of `size` seconds, and its length in seconds."""
    for unit, length, below in (("ns", 1e-9, 1e-6), ("µs", 1e-6, 1e-3), ("ms", 1e-3, 1.0), ("s", 1.0, 120.0)):
        # 0.99996 ms would be written as 1,000 µs.
        if float(f"{size:.3g}") < below:
            return unit, length
    return ("min", 60.0) if size < 7200 else ("h", 3600.0)


def moment(value: float, step: float) -> str:
    """Write a tick of a time axis: in seconds while the steps are short, else as a clock does."""
    if step < 60:
        return f"{plain(value * 1000)}{SPACE}ms" if step < 0.1 else f"{plain(value)}{SPACE}s"
    whole = round(value)
    if step < 3600 and whole < 7200:
        return f"{whole // 60}{SPACE}min"
    return f"{whole // 3600}:{whole % 3600 // 60:02}{SPACE}h"


def plain(value: float) -> str:
    """Write a number with at most three significant digits, and thousands set apart by narrow spaces."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(value, DASH)
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    size = abs(rounded)
    if size < 1e-4 or size >= 1e9:
        mantissa, _, power = f"{value:.2e}".partition("e")
        digits = mantissa.rstrip("0").rstrip(".")
        return f"{digits}e{int(power)}".replace("-", MINUS)
    return decimal(rounded, max(0, 2 - math.floor(math.log10(size))), is_trimmed=True)


def decimal(value: float, decimals: int, *, is_trimmed: bool = False) -> str:
    """Write a number with so many decimals, without zeros at their end if it is trimmed."""
    whole, _, rest = f"{abs(value):,.{decimals}f}".partition(".")
    if is_trimmed:
        rest = rest.rstrip("0")
    shown = whole.replace(",", "\N{NARROW NO-BREAK SPACE}") + (f".{rest}" if rest else "")
    return (MINUS if value < 0 and shown.strip("0.") else "") + shown


def share(value: float) -> str:
    """Write a share of one as a percentage: "0 %", "0.12 %", "99.95 %"; what is not all is never written as all."""
    rest = 1 - value
    if 0 < rest < 0.01:
        decimals = min(8, 1 - math.floor(math.log10(100 * rest)))
        # Cut, not rounded: 99.9999 % of the calls is not every call.
        cut = math.floor(round(value * 100 * 10**decimals, 3)) / 10**decimals
        return f"{decimal(cut, decimals, is_trimmed=True)}{SPACE}%"
    return f"{plain(value * 100)}{SPACE}%" if math.isfinite(value) else plain(value)
