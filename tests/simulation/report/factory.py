"""Records of runs that never were: every state, cause and shape that a report has to draw, from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping

from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.world.record import Bins, Lane, RunRecord

SECOND = 1_000_000_000
BIN = SECOND // 10
FAULTS = (
    ("crashed", ("TRANSIENT_FAILURE", "CONNECTING")),
    ("not_serving", ("TRANSIENT_FAILURE",)),
    ("failing", ("ejected", "probe")),
    ("slow", ("READY",)),
    ("hung", ("ejected",)),
    ("cut_off", ("TRANSIENT_FAILURE",)),
    ("crashed", ("damped",)),
)


def lane(backend: str, fault: int | None, duration: int, period: int | None = None, lag: int = SECOND) -> Lane:
    """A lane that is well, or has a fault of `FAULTS` in the middle half, all the time or periodically."""
    if fault is None:
        return Lane(backend, ((0, "up"),), ((0, "CONNECTING"), (duration // 500, "READY")))
    state, beliefs = FAULTS[fault % len(FAULTS)]
    start, end = duration // 4, 3 * duration // 4
    truth, belief = [(0, "up")], [(0, "CONNECTING"), (duration // 500, "READY")]
    period = period or 2 * (end - start)
    for at in range(start, end, period):
        until = min(at + period // 2, end)
        truth += [(at, state), (until, "up")]
        seen, back = min(at + lag, until), min(until + lag, at + period)
        belief += [(seen, beliefs[0]), ((seen + back) // 2, beliefs[-1]), (back, "READY")]
    return Lane(backend, tuple(truth), tuple(belief))


def histogram(rng: random.Random, count: int, mean: float) -> Histogram:
    """Exponential latencies of `mean` seconds."""
    made = Histogram()
    for _ in range(count):
        made.add(int(SECOND * (0.002 + rng.expovariate(1 / mean))))
    return made


def bins(rng: random.Random, names: list[str], duration: int, rate: float, mean: float, is_faulty: bool) -> Bins:
    """Counts that have a dent with errors in their middle half."""
    count = max(1, -(-duration // BIN))
    arrivals = [max(0, round(rng.gauss(rate / 10, (rate / 10) ** 0.5))) for _ in range(count)]
    is_bad = [is_faulty and count // 4 <= index < 3 * count // 4 for index in range(count)]
    unavailable = [
        round(total * rng.uniform(0, 0.15)) if bad else 0 for total, bad in zip(arrivals, is_bad, strict=True)
    ]
    late = [
        round(total * rng.uniform(0, 0.1)) if bad and index % 7 else 0
        for index, (total, bad) in enumerate(zip(arrivals, is_bad, strict=True))
    ]
    ok = [a - b - c for a, b, c in zip(arrivals, unavailable, late, strict=True)]
    errors = {"UNAVAILABLE": tuple(unavailable), "DEADLINE_EXCEEDED": tuple(late)} if is_faulty else {}
    picks: dict[str, list[int]] = {name: [] for name in names}
    for total, bad in zip(arrivals, is_bad, strict=True):
        weights = [0.1 if bad and index % 2 else 1.0 for index in range(len(names))]
        counts = dict.fromkeys(names, 0)
        for name in rng.choices(names, weights, k=total) if names else ():
            counts[name] += 1
        for name in names:
            picks[name].append(counts[name])
    seconds = max(1, -(-duration // SECOND))
    return Bins(
        arrivals=tuple(arrivals), ok=tuple(ok), errors=errors, picks={name: tuple(values) for name, values in picks.items()},
        attempts=tuple(arrivals), connects=tuple(5 * len(names) if index == 0 else int(bad and index % 10 == 0) * 3 for index, bad in enumerate(is_bad)),
        watch_starts=tuple(5 * len(names) if index == 0 else int(bad and index % 10 == 1) * 2 for index, bad in enumerate(is_bad)),
        tokens=tuple(max(0.1, 1 - 0.02 * (index - count // 4)) if bad else 1.0 for index, bad in enumerate(is_bad)),
        latency=tuple(histogram(rng, max(1, min(200, int(rate))), mean * (4 if is_faulty and seconds // 4 <= index < 3 * seconds // 4 else 1)) for index in range(seconds)),
    )  # fmt: skip


def record(
    *, backends: int = 8, duration: int = 30 * SECOND, rate: float = 400.0, seed: int = 1, policy: str = "tuned", title: str = "A bit of everything goes wrong",
    scenario: str = "everything", names: list[str] | None = None, faults: Mapping[int, int] | None = None, period: int | None = None, replication: int = 0, mean: float = 0.01,
) -> RunRecord:  # fmt: skip
    """A whole record; `faults` says which backend has which of `FAULTS`, by default every second the next."""
    rng = random.Random(f"{seed}/{policy}/{replication}")
    names = [f"b{index}" for index in range(backends)] if names is None else names
    faults = {2 * index + 1: index for index in range(len(names) // 2)} if faults is None else faults
    made = bins(rng, names, duration, rate, mean, bool(faults))
    latency = Histogram()
    for each in made.latency:
        latency.merge(each)
    requests, ok = sum(made.arrivals), sum(made.ok)
    metrics = {
        "requests": float(requests), "ok": float(ok), "errors": float(requests - ok), "in_flight": 0.0,
        "goodput": ok / requests if requests else 1.0, "error_ratio": 1 - ok / requests if requests else 0.0, "attempts": 1.1 * requests,
        "attempts_per_request": 1.1 + 0.02 * rng.random(), "mean": latency.mean / SECOND, "p50": latency.quantile(0.5) / SECOND,
        "p99": latency.quantile(0.99) / SECOND, "p999": latency.quantile(0.999) / SECOND, "imbalance": 1.1 + rng.random() / 5, "connects": 44.0 + rng.randrange(4),
        "ejections": float(rng.randrange(5)), "wasted": 2.5 * rng.random(), "odd <metric>": 1.0,
    }  # fmt: skip
    confusion = {("up", "READY"): 170 * SECOND, ("up", "TRANSIENT_FAILURE"): 3 * SECOND, ("crashed", "READY"): SECOND // 3, ("crashed", "TRANSIENT_FAILURE"): 22 * SECOND, ("failing", "ejected"): 14 * SECOND, ("slow", "READY"): 9 * SECOND}  # fmt: skip
    return RunRecord(
        scenario=scenario, title=title, policy=policy, seed=seed, replication=replication, duration=duration, warmup=duration // 15, metrics=metrics, bins=made,
        lanes=tuple(lane(name, faults.get(index), duration, period) for index, name in enumerate(names)), latency=latency, confusion=confusion if names else {},
        trace_hash="8f2b" * 8, events=4 * requests, cpu_seconds=0.5,
    )  # fmt: skip
