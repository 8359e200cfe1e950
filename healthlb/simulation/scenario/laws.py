"""How long things take: laws of service times, gaps and delays, drawn in nanoseconds.

A draw is one call of `random.Random.random`, turned into a value by the inverse of the law's distribution
function. So a law never takes more of its stream than another would, and the same calls come whatever the law; and
nothing depends on a library whose streams may change (NumPy's are not promised, NEP 19).

    [service]                                               a law in a scenario file
    "10ms"                                                  always that
    { dist = "exponential", mean = "10ms" }                 cv2 = 1
    { dist = "deterministic", value = "10ms" }
    { dist = "uniform", low = "5ms", high = "15ms" }
    { dist = "lognormal", mean = "10ms", p99 = "80ms" }     or cv2 = 3
    { dist = "bimodal", short = "1ms", long = "100ms", share = 0.05 }
    { dist = "pareto", low = "1ms", high = "10s", alpha = 1.2 }
    { dist = "empirical", values = ["1ms", "2ms", "9ms"] }  or file = "times.txt", one duration a line
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

from healthlb.config import check_number
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration, read_durations

_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(0.99)
# No draw of `random()` is 0 to the normal's inverse.
_LEAST = 2.0**-54

Random = Callable[[], float]


class Law(Protocol):
    """A distribution of durations."""

    @property
    def mean(self) -> float:
        """Of the draws, in nanoseconds."""

    @property
    def mean_square(self) -> float:
        """The mean of the draws' squares, which waiting grows with (Pollaczek and Khinchine)."""

    def draw(self, random: Random, /) -> int:
        """Return the next duration in nanoseconds, from one number of `random`, a `random.Random.random`."""


@dataclass(frozen=True, slots=True)
class Deterministic:
    """Always the same; it draws nonetheless, so that the stream stays in step.

    Attributes:
        value: in nanoseconds.
    """

    value: int

    @property
    def mean(self) -> float:
        """The value."""
        return self.value

    @property
    def mean_square(self) -> float:
        """Its square."""
        return float(self.value) ** 2

    def draw(self, random: Random, /) -> int:
        """Return the value."""
        random()
        return self.value


@dataclass(frozen=True, slots=True)
class Exponential:
    """Memoryless: the gaps of a Poisson process, and the service time of textbooks.

    Attributes:
        mean: in nanoseconds.
    """

    mean: float

    @property
    def mean_square(self) -> float:
        """Twice the mean's square."""
        return 2 * self.mean**2

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return int(-math.log(1.0 - random()) * self.mean + 0.5)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between two bounds.

    Attributes:
        low: in nanoseconds.
        high: in nanoseconds.
    """

    low: int
    high: int

    @property
    def mean(self) -> float:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def mean_square(self) -> float:
        """Of the whole range."""
        return (self.low**2 + self.low * self.high + self.high**2) / 3

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return int(self.low + (self.high - self.low) * random() + 0.5)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """The usual shape of measured service times.

    Attributes:
        mean: in nanoseconds.
        sigma: of the logarithm.
    """

    mean: float
    sigma: float
    _scale: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scale", self.mean * math.exp(-(self.sigma**2) / 2))

    @classmethod
    def with_cv2(cls, mean: float, cv2: float) -> Lognormal:
        """Return the one whose variance is `cv2` times the mean's square."""
        return cls(mean, math.sqrt(math.log1p(cv2)))

    @classmethod
    def with_p99(cls, mean: float, p99: float) -> Lognormal:
        """Return the one with this 99th percentile, the less spread one of the two that have it.

        Raises:
            ConfigError: no lognormal law has such a tail: p99 is below the mean or above 15 times the mean.
        """
        ratio = p99 / mean
        most = math.exp(_Z99**2 / 2)
        if not 1 <= ratio <= most:
            raise ConfigError(f"p99 must be 1 to {most:.1f} times the mean of a lognormal law, not {ratio:.3g} times")
        # ln(p99 / mean) = z s - s**2 / 2, solved for s.
        return cls(mean, _Z99 - math.sqrt(max(0.0, _Z99**2 - 2 * math.log(ratio))))

    @property
    def mean_square(self) -> float:
        """Grows with the exponential of sigma's square."""
        return self.mean**2 * math.exp(self.sigma**2)

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return int(self._scale * math.exp(self.sigma * _NORMAL.inv_cdf(random() or _LEAST)) + 0.5)


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Mostly short, now and then long: caches, or scans among look-ups.

    Attributes:
        short: in nanoseconds.
        long: in nanoseconds.
        share: of the long ones, 0 to 1.
    """

    short: int
    long: int
    share: float

    @property
    def mean(self) -> float:
        """By their shares."""
        return self.short * (1 - self.share) + self.long * self.share

    @property
    def mean_square(self) -> float:
        """By their shares."""
        return float(self.short) ** 2 * (1 - self.share) + float(self.long) ** 2 * self.share

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return self.long if random() < self.share else self.short


@dataclass(frozen=True, slots=True)
class BoundedPareto:
    """A heavy tail that ends.

    Attributes:
        low: the least, in nanoseconds.
        high: the most, in nanoseconds.
        alpha: the tail's exponent; above 0, and the lower the heavier.
    """

    low: int
    high: int
    alpha: float
    _share: float = field(init=False, repr=False, compare=False)
    _power: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_share", 1 - (self.low / self.high) ** self.alpha)
        object.__setattr__(self, "_power", -1 / self.alpha)

    def _moment(self, order: int) -> float:
        low, high, alpha = float(self.low), float(self.high), self.alpha
        power: float = low**order
        if abs(alpha - order) < 1e-9:
            return alpha * power * math.log(high / low) / self._share
        whole: float = 1 - (low / high) ** (alpha - order)
        return alpha * power / (alpha - order) * whole / self._share

    @property
    def mean(self) -> float:
        """Of what lies between the bounds."""
        return self._moment(1)

    @property
    def mean_square(self) -> float:
        """Of what lies between the bounds."""
        return self._moment(2)

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return int(self.low * (1.0 - random() * self._share) ** self._power + 0.5)


@dataclass(frozen=True, slots=True)
class Empirical:
    """What was measured, each value as likely as any other.

    Attributes:
        values: in nanoseconds; at least one.
    """

    values: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
        return math.fsum(self.values) / len(self.values)

    @property
    def mean_square(self) -> float:
        """Of the values."""
        return math.fsum(float(value) ** 2 for value in self.values) / len(self.values)

    def draw(self, random: Random, /) -> int:
        """Return the next one."""
        return self.values[int(random() * len(self.values))]


def parse_law(key: str, value: object, folder: Path | None = None) -> Law:
    """Return the law that a scenario file describes; a lone duration is deterministic.

    Args:
        key: what an error calls it.
        value: as it stands in the file.
        folder: where the file of an empirical law lies; None for the working directory.

    Raises:
        ConfigError: there is no such law, a key is missing or unknown, or a value is out of its bounds.
    """
    if not isinstance(value, Mapping):
        return Deterministic(parse_duration(key, value))
    table = dict(value)
    dist = table.pop("dist", None)
    if not isinstance(dist, str) or dist not in _PARSERS:
        raise ConfigError(f"{key}.dist must be one of {', '.join(_PARSERS)}, not {dist!r}")
    required, either, parse = _PARSERS[dist]
    for name in required:
        if name not in table:
            raise ConfigError(f"{key} ({dist}) needs {name}")
    if either and len(either & table.keys()) != 1:
        raise ConfigError(f"{key} ({dist}) needs one of {' and '.join(sorted(either))}")
    for name in table:
        if name not in required and name not in either:
            raise ConfigError(f"{key} ({dist}) has no {name}; it takes {', '.join([*required, *sorted(either)])}")
    return parse(key, table, folder)


_Table = Mapping[str, object]


def _bounds(key: str, table: _Table) -> tuple[int, int]:
    low = parse_duration(f"{key}.low", table["low"], low=0)
    return low, parse_duration(f"{key}.high", table["high"], low=low + 1)


def _number(key: str, table: _Table, name: str, *, high: float | None = None) -> float:
    value = table[name]
    check_number(f"{key}.{name}", value, low=0, high=high)
    return float(value)  # type: ignore[arg-type]


def _deterministic(key: str, table: _Table, folder: Path | None) -> Law:
    return Deterministic(parse_duration(f"{key}.value", table["value"]))


def _exponential(key: str, table: _Table, folder: Path | None) -> Law:
    return Exponential(parse_duration(f"{key}.mean", table["mean"], low=1))


def _uniform(key: str, table: _Table, folder: Path | None) -> Law:
    return Uniform(*_bounds(key, table))


def _lognormal(key: str, table: _Table, folder: Path | None) -> Law:
    mean = parse_duration(f"{key}.mean", table["mean"], low=1)
    if "cv2" in table:
        return Lognormal.with_cv2(mean, _number(key, table, "cv2", high=1e6))
    try:
        return Lognormal.with_p99(mean, parse_duration(f"{key}.p99", table["p99"]))
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _bimodal(key: str, table: _Table, folder: Path | None) -> Law:
    short = parse_duration(f"{key}.short", table["short"])
    long = parse_duration(f"{key}.long", table["long"], low=short)
    return Bimodal(short, long, _number(key, table, "share", high=1))


def _pareto(key: str, table: _Table, folder: Path | None) -> Law:
    low = parse_duration(f"{key}.low", table["low"], low=1)
    high = parse_duration(f"{key}.high", table["high"], low=low + 1)
    check_number(f"{key}.alpha", table["alpha"], above=0)
    return BoundedPareto(low, high, _number(key, table, "alpha"))


def _empirical(key: str, table: _Table, folder: Path | None) -> Law:
    values = table.get("values")
    if "file" in table:
        values = _lines(key, table["file"], folder)
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{key} (empirical) must list at least one duration, not {values!r}")
    return Empirical(tuple(parse_duration(f"{key}.values[{place}]", value) for place, value in enumerate(values)))


def _lines(key: str, name: object, folder: Path | None) -> list[float | str]:
    if not isinstance(name, str):
        raise ConfigError(f"{key}.file must be a file's name, not {name!r}")
    try:
        return read_durations((folder or Path()) / name)
    except ConfigError as error:
        raise ConfigError(f"{key}.file: {error}") from error


_Parse = Callable[[str, _Table, Path | None], Law]
_PARSERS: dict[str, tuple[tuple[str, ...], frozenset[str], _Parse]] = {
    "exponential": (("mean",), frozenset(), _exponential),
    "deterministic": (("value",), frozenset(), _deterministic),
    "uniform": (("low", "high"), frozenset(), _uniform),
    "lognormal": (("mean",), frozenset({"cv2", "p99"}), _lognormal),
    "bimodal": (("short", "long", "share"), frozenset(), _bimodal),
    "pareto": (("low", "high", "alpha"), frozenset(), _pareto),
    "empirical": ((), frozenset({"values", "file"}), _empirical),
}
