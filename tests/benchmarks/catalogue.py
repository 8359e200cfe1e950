"""What each figure is, and what it has to reach.

The one rule: a target stands here and nowhere else, and no figure is left out because it misses one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.benchmarks.contestants import NATIVE, PLAIN, RETRYING

Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound.

    Attributes:
        of: what is bound: healthlb's ratio to a rival, or its value.
        sense: whether the bound is the most or the least.
        bound: the number.
    """

    of: Literal["ratio", "value"]
    sense: Literal["<=", ">="]
    bound: float

    def is_met(self, number: float) -> bool:
        """Whether `number` is within the bound."""
        return number <= self.bound if self.sense == "<=" else number >= self.bound

    def __str__(self) -> str:
        return f"{'ratio ' if self.of == 'ratio' else ''}{self.sense} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of row.

    Attributes:
        title: what is measured.
        unit: of the samples.
        summary: makes one number of a contestant's samples; the name of the summary if it is not the median.
        target: what to reach, None where there is nothing to reach.
        rivals: whose samples with the same index were taken side by side; the target is healthlb's ratio to the first.
    """

    title: str
    unit: str
    summary: Literal["median", "best", "worst"] = "median"
    target: Target | None = None
    rivals: tuple[str, ...] = ()

    def summarize(self, samples: Sequence[float]) -> float:
        """Return the one number; "best" and "worst" are of figures where less is better."""
        return _SUMMARIES[self.summary](samples)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The samples of one row.

    Attributes:
        figure: the figure's name in `FIGURES`.
        samples: by contestant.
        detail: what tells the row from others of the same figure.
    """

    figure: str
    samples: Samples
    detail: str = ""


_SUMMARIES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "best": min,
    "worst": max,
}

_AS_FAST = Target("ratio", "<=", 1.01)
_AS_MUCH = Target("ratio", ">=", 1.0)
_AS_SMOOTH = Target("ratio", ">=", 1.0)
_BALANCERS = (RETRYING, NATIVE)

FIGURES: Mapping[str, Figure] = {
    "sync_latency": Figure("sync unary p50, 1 thread", "µs", target=_AS_FAST, rivals=_BALANCERS),
    "sync_throughput": Figure("sync unary, 8 threads", "calls/s", target=_AS_MUCH, rivals=_BALANCERS),
    "aio_latency": Figure("aio unary p50, sequential", "µs", target=_AS_FAST, rivals=_BALANCERS),
    "aio_throughput": Figure("aio unary, 32 concurrent", "calls/s", target=_AS_MUCH, rivals=_BALANCERS),
    "sync_stream": Figure("sync server stream", "messages/s", target=_AS_SMOOTH, rivals=(PLAIN,)),
    "sync_bidi": Figure("sync bidi, one message at a time", "messages/s", target=_AS_SMOOTH, rivals=(PLAIN,)),
    "aio_stream": Figure("aio server stream", "messages/s", target=_AS_SMOOTH, rivals=(PLAIN,)),
    "aio_bidi": Figure("aio bidi, one message at a time", "messages/s", target=_AS_SMOOTH, rivals=(PLAIN,)),
    "sync_instructions": Figure("sync, instructions per call:", "k", target=_AS_FAST, rivals=(NATIVE,)),
    "aio_instructions": Figure("aio, instructions per call:", "k", target=_AS_FAST, rivals=(NATIVE,)),
    "pick": Figure("pick", "µs", "best", Target("value", "<=", 1.5)),
    "pick_growth": Figure("pick, cost at", "x", target=Target("value", "<=", 1.25)),
    "pick_weighing": Figure("pick", "µs", "best", Target("value", "<=", 2.5)),
    "pick_hashing": Figure("pick", "µs", "best", Target("value", "<=", 4.0)),
    "pick_other": Figure("pick", "µs", "best"),
    "pick_reference": Figure("without a picker:", "µs", "best"),
    "reference_growth": Figure("without a picker: cost at", "x"),
    "publication": Figure("one goes out or comes back, published:", "ms", target=Target("value", "<=", 20)),
    "sync_path": Figure("sync call path without grpcio's call", "µs", "best"),
    "aio_path": Figure("aio call path without grpcio's call", "µs", "best"),
    "scale_threads": Figure("threads, most ever", "", "worst", Target("value", "<=", 20)),
    "scale_cpu": Figure("idle CPU", "% of a core", target=Target("value", "<=", 1.0)),
    "scale_out": Figure("all go out", "s", "worst", Target("value", "<=", 1.0)),
    "scale_in": Figure("all come back", "s", "worst", Target("value", "<=", 1.0)),
    "scale_memory": Figure("memory (USS) per subchannel", "KiB", target=Target("value", "<=", 150)),
    "scale_rss": Figure("memory (RSS) per subchannel", "KiB", target=Target("value", "<=", 150)),
    "scale_up": Figure("all READY after", "s"),
    "scale_opening_cpu": Figure("CPU time until all READY", "s"),
    "simulation_rate": Figure("simulated calls", "calls per CPU second", target=Target("value", ">=", 50_000)),
    "simulation_million": Figure("simulation of a million calls", "CPU s", target=Target("value", "<=", 25)),
    "simulation_memory": Figure("simulation, most memory", "MB", "worst", Target("value", "<=", 120)),
}
