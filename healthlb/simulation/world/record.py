"""What one run of a scenario comes to: plain values that reports, checks and sweeps read.

It has sums and histograms only: a run of a million calls leaves a record of the same size as one of a thousand
in the same span of time, and what is in it can be added over runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from healthlb.core.messages import Fact

if TYPE_CHECKING:
    from healthlb.simulation.engine.histogram import Histogram

BIN = 100_000_000

TRUTHS = ("up", "slow", "failing", "not_serving", "hung", "cut_off", "crashed", "absent")
"""What a backend can be, from good to bad; where more than one holds, the last."""
BELIEFS = ("READY", "CONNECTING", "TRANSIENT_FAILURE", "ejected", "probe", "damped", "absent")
"""What a client can take it for."""

Steps = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One backend through time. Step functions: each pair is the time from which on, in nanoseconds, and the state.

    Attributes:
        backend: its name.
        truth: what it was, of `TRUTHS`.
        belief: what client 0 took it for, of `BELIEFS`.
    """

    backend: str
    truth: Steps
    belief: Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Counts by time, over all clients; bin `i` is from `i * width` to `(i + 1) * width`, warm-up included.

    Attributes:
        width: nanoseconds.
        arrivals: calls that began.
        ok: calls that ended well, by their end.
        errors: calls that ended otherwise, by the name of their status and their end.
        picks: attempts that were sent, by the backend's name.
        attempts: attempts that were sent.
        connects: connections that were begun.
        watch_starts: Watches that were opened.
        tokens: the least that was left of any client's retry budget, as a share from 0 to 1; 1 where none is kept.
        latency: of calls that ended well, by the second of their end.
    """

    width: int = BIN
    arrivals: tuple[int, ...] = ()
    ok: tuple[int, ...] = ()
    errors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    picks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    attempts: tuple[int, ...] = ()
    connects: tuple[int, ...] = ()
    watch_starts: tuple[int, ...] = ()
    tokens: tuple[float, ...] = ()
    latency: tuple[Histogram, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run.

    Attributes:
        scenario: its name.
        title: what it shows.
        policy: the name of the policy that the clients had.
        seed: the scenario's.
        replication: which of its repetitions.
        duration: nanoseconds in which calls arrive.
        warmup: nanoseconds at the beginning that `metrics`, `latency` and `confusion` leave out.
        metrics: numbers by name; times are in seconds.
        bins: counts by time.
        lanes: what each backend was, and was taken for.
        latency: of calls that ended well.
        confusion: nanoseconds by what a backend was and what a client took it for, summed over all pairs of them.
        confusion_of: the same for each backend, summed over clients.
        facts: what client 0 reported, up to a few thousand.
        trace: lines of the trace, where it was asked for as text.
        trace_hash: of every pick and completion, or of transitions and faults, or "", by the trace's level.
        events: of the engine.
        cpu_seconds: that the run took.
    """

    scenario: str
    title: str
    policy: str
    seed: int
    replication: int
    duration: int
    warmup: int
    metrics: Mapping[str, float]
    bins: Bins
    lanes: tuple[Lane, ...]
    latency: Histogram
    confusion: Mapping[tuple[str, str], int]
    confusion_of: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    trace: tuple[str, ...] = ()
    trace_hash: str = ""
    events: int = 0
    cpu_seconds: float = 0.0
