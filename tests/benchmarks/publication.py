"""What a change of health costs the control thread: from the event to the published picker, with all subchannels READY.

The one rule: the way is the driver's own: the balancer takes in the event, the publisher has the picker built, and the
board takes the snapshot. CPU time, in milliseconds.
"""

from __future__ import annotations

import random
import time

from healthlb.config.outliers import Outliers
from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.core.balancer import Balancer
from healthlb.core.messages import ConnectivityChanged, ConnectivityState, DataReady, Endpoint, HealthReported, Resolved
from healthlb.core.pickers import make_factory
from healthlb.core.publication import Publisher
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort
from tests.benchmarks.pick import CASES, Case
from tests.core.configs import config_of

_NOW = 1_000_000_000
_SERVING, _NOT_SERVING = 1, 2


def publications(effort: Effort) -> list[Measurement]:
    """Measure how long it takes until one of many is out or back in."""
    return [_measure(case, effort.pick_sizes[-1], effort.publications) for case in CASES if not case.is_busy]


def _measure(case: Case, size: int, rounds: int) -> Measurement:
    balancer = _all_ready(case, size)
    holder = SnapshotHolder(balancer.snapshot)
    publisher = Publisher(make_factory(case.picker, random.Random(1)), holder.snapshot)
    samples = []
    for number in range(rounds + 1):
        event = HealthReported(size // 2, 1, _SERVING if number % 2 else _NOT_SERVING)
        began_at = time.thread_time_ns()
        balancer.handle(event, _NOW)
        publisher.publish(balancer.snapshot)
        holder.publish(publisher.published)
        samples.append((time.thread_time_ns() - began_at) / 1e6)
        assert len(holder.snapshot.ready) == size - 1 + number % 2
    # At the first one the factory sees all of them for the first time, and ring_hash makes its ring.
    return Measurement("publication", {HEALTHLB: samples[1:]}, f"{case.name}, {size:,} subchannels")


def _all_ready(case: Case, size: int) -> Balancer:
    balancer = Balancer("svc", config_of(outliers=Outliers()), 1)
    endpoints = tuple(Endpoint(f"127.0.0.1:{number}", case.weight(number)) for number in range(1, size + 1))
    balancer.handle(Resolved(endpoints), _NOW)
    for sub in range(1, size + 1):
        for event in (
            ConnectivityChanged(sub, ConnectivityState.READY),
            DataReady(sub, 1),
            HealthReported(sub, 1, _SERVING),
        ):
            balancer.handle(event, _NOW)
    return balancer
