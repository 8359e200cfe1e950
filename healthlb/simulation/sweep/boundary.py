"""Where theory sees the edge: the zeros of an expression over the axes.

An edge is found, never drawn by hand, so what is drawn over a map and what is in a table are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from healthlb.simulation.checks.expression import Expression, ExpressionError
from healthlb.simulation.sweep.designs import Axis, in_seconds

_STEPS = 200
_POINTS = 100
_HALVINGS = 50


class Boundary:
    """The boundary of a sweep.

    Args:
        text: an expression over the names of axes; the boundary is where it is 0.
        functions: what it may call.
    """

    def __init__(self, text: str, functions: Mapping[str, Callable[..., float]]) -> None:
        self._expression = Expression(text)
        self._functions = functions

    def along(self, axis: Axis, fixed: Mapping[str, float]) -> list[float]:
        """Return the values of an axis where the boundary crosses it, ascending, the other axes fixed."""
        places = [_at(axis, step / _STEPS) for step in range(_STEPS + 1)]
        signs = [self._sign(axis, place, fixed) for place in places]
        found = []
        for index in range(_STEPS):
            before, after = signs[index], signs[index + 1]
            if before == 0:
                found.append(places[index])
            elif before is not None and after is not None and before * after < 0:
                found.append(self._between(axis, places[index], places[index + 1], fixed))
        return found + ([places[-1]] if signs[-1] == 0 else [])

    def line(self, x: Axis, y: Axis, fixed: Mapping[str, float]) -> tuple[tuple[float, float], ...]:
        """Return points (x, y) of the boundary in the order of the axis on which it is easier to follow."""
        steps = [step / _POINTS for step in range(_POINTS + 1)]
        found = [(at, self.along(y, {**fixed, x.name: at})) for at in (_at(x, step) for step in steps)]
        upwards = [(at, zeros[0]) for at, zeros in found if zeros]
        found = [(at, self.along(x, {**fixed, y.name: at})) for at in (_at(y, step) for step in steps)]
        across = [(zeros[0], at) for at, zeros in found if zeros]
        return tuple(upwards if len(upwards) >= len(across) else across)

    def _between(self, axis: Axis, low: float, high: float, fixed: Mapping[str, float]) -> float:
        side = self._sign(axis, low, fixed)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._sign(axis, middle, fixed) == side:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _sign(self, axis: Axis, place: float, fixed: Mapping[str, float]) -> int | None:
        try:
            value = self._expression.value({**fixed, axis.name: place}, self._functions)
        except ExpressionError:
            # Theory need not have a value everywhere, as 1 / (1 - rho) has none at 1.
            return None
        return (value > 0) - (value < 0)


def _at(axis: Axis, share: float) -> float:
    numbers = [number for value in axis.grid if (number := in_seconds(value)) is not None]
    low, high = min(numbers), max(numbers)
    return float(low * (high / low) ** share if axis.is_log else low + (high - low) * share)
