"""What a change of health costs in a large channel: from the event to the published picker, without a network.

The one rule: the path is the driver's: the core handles the event and makes the snapshot, the factory builds a picker
where it must, and the board publishes it.
"""

from __future__ import annotations

import time
from dataclasses import replace

from healthlb.config import HealthCheck
from healthlb.control.board import Board
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    HealthReported,
    Resolved,
    ServingStatus,
)
from healthlb.core.pickers import PickerFactory
from healthlb.core.probing import with_probes
from healthlb.pickers import RingHash, RoundRobin
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort


def changes(effort: Effort) -> list[Measurement]:
    """Measure how long it takes until a changed status is published, in milliseconds."""
    size = effort.pick_sizes[-1]
    balancer = _well(size)
    board = Board(balancer.snapshot)
    factories: dict[str, PickerFactory] = {"round_robin": RoundRobin(), "ring_hash": RingHash()}
    measurements = []
    for name, factory in factories.items():
        samples = {HEALTHLB: _samples(balancer, board, factory, effort.pick_rounds)}
        measurements.append(Measurement("health_change", samples, f"{name}, {size:,} subchannels"))
    return measurements


def _well(size: int) -> Balancer:
    """Return a balancer whose subchannels are all READY."""
    balancer = Balancer("", HealthCheck(), seed=1)
    balancer.handle(Resolved(tuple(Endpoint(f"127.0.0.1:{number}") for number in range(1, size + 1))), SECOND)
    for sub in range(1, size + 1):
        balancer.handle(ConnectivityChanged(sub, ConnectivityState.READY), SECOND)
        balancer.handle(DataReady(sub, 1), SECOND)
        balancer.handle(HealthReported(sub, 1, ServingStatus.SERVING), SECOND)
    return balancer


def _samples(balancer: Balancer, board: Board, factory: PickerFactory, rounds: int) -> list[float]:
    if isinstance(factory, RingHash):
        factory.endpoints([view.endpoint for view in balancer.snapshot.views])
    samples = []
    for number in range(rounds):
        status = ServingStatus.SERVING if number % 2 else ServingStatus.NOT_SERVING
        began_at = time.perf_counter_ns()
        balancer.handle(HealthReported(1, 1, status), SECOND)
        snapshot = balancer.snapshot
        picker = with_probes(factory.build(snapshot.ready), snapshot.probes)
        board.publish(replace(snapshot, picker=picker))
        samples.append((time.perf_counter_ns() - began_at) / 1e6)
    return samples
