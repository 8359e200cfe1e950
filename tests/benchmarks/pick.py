"""What a pick costs, measured on the call path's own objects, without a network.

The one rule: the path is healthlb's own code, from the loading of the snapshot to the counting out of the call;
only the cost of the bare loop is taken away.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import healthlb
from healthlb.control.attempts import Attempts
from healthlb.core.attempts import FIRST
from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.pickers import PickerSource
from healthlb.core.snapshot import Snapshot
from healthlb.pickers import CallEnd, Code, PeakEwma, RingHash
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import Block, alternate

_METHOD = "/test.Echo/Unary"
_TARGETED = "round_robin"
_METADATA = (("x-request", "17"), ("x-user", "user-1234"))


class SilentChannel:
    """Stands for a grpcio channel whose calls take no time."""

    def unary_unary(self, method: str, **arguments: Any) -> Callable[..., None]:
        """Return a call that does nothing."""
        return _do_nothing

    def close(self) -> None:
        """Nothing is open."""


def _do_nothing(*arguments: Any) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Case:
    """One picker as it is measured.

    Attributes:
        figure: whose target it has.
        name: what the row is called.
        picker: for `picker=`.
        weight: gives an endpoint's weight by its number.
    """

    figure: str
    name: str
    picker: PickerSource
    weight: Callable[[int], float] = lambda number: 1.0


def _uneven(number: int) -> float:
    return float(number % 4 + 1)


def _by_header() -> RingHash:
    return RingHash(request_hash_header="x-user")


CASES = (
    Case("pick", "round_robin", "round_robin"),
    Case("pick", "random", "random"),
    Case("pick_other", "pick_first", "pick_first"),
    Case("pick_weighing", "weighted_round_robin", "weighted_round_robin"),
    Case("pick_weighing", "weighted_round_robin, weights 1 to 4", "weighted_round_robin", _uneven),
    Case("pick_weighing", "least_request", "least_request"),
    Case("pick_weighing", "least_request, weights 1 to 4", "least_request", _uneven),
    Case("pick_weighing", "peak_ewma", "peak_ewma"),
    Case("pick_hashing", "ring_hash", "ring_hash"),
    Case("pick_hashing", "ring_hash by a header", _by_header),
)


def picks(effort: Effort) -> list[Measurement]:
    """Measure the pick of each picker at each size, in microseconds, and what a change of health costs."""
    measurements = []
    for case in CASES:
        channels = {size: open_offline(case.picker, size, case.weight) for size in effort.pick_sizes}
        blocks = {str(size): _pick_block(channel, effort.picks) for size, channel in channels.items()}
        samples = alternate(blocks, effort.pick_rounds)
        for size in effort.pick_sizes:
            detail = f"{case.name}, {size:,} subchannels"
            measurements.append(Measurement(case.figure, {HEALTHLB: samples[str(size)]}, detail))
        small, large = (str(effort.pick_sizes[end]) for end in (0, -1))
        growth = [many / few for many, few in zip(samples[large], samples[small], strict=True)]
        detail = f"{case.name}, {int(large):,} : {int(small):,}"
        measurements.append(Measurement("pick_growth", {HEALTHLB: growth}, detail))
        measurements.append(_publication(case, channels[effort.pick_sizes[-1]], effort.pick_rounds))
    return [*measurements, _whole_path(effort)]


def open_offline(
    picker: PickerSource, size: int, weight: Callable[[int], float] = lambda number: 1.0
) -> healthlb.HealthAwareChannel:
    """Return a sync channel that believes in `size` READY subchannels; nothing is connected."""
    channel = healthlb.HealthAwareChannel(["127.0.0.1:1"], picker=picker)
    pool = channel._pool
    make_load = pool.admission.crowd.make_load
    ready = tuple(
        Subchannel(number, 1, Endpoint(f"127.0.0.1:{number}", weight(number)), make_load())
        for number in range(1, size + 1)
    )
    factory = pool.settings.factory
    if isinstance(factory, RingHash):
        factory.endpoints([sub.endpoint for sub in ready])
    picker_over_all = factory.build(ready)
    if isinstance(factory, PeakEwma):
        for sub in ready:
            factory.call_ended(sub, CallEnd(Code.OK, sub.id, 0.01))
    pool.board.publish(Snapshot(1, ConnectivityState.READY, ready, picker_over_all))
    silent = SilentChannel()
    pool.channels._channels.update({(sub.id, sub.generation): silent for sub in ready})  # type: ignore[attr-defined]
    return channel


def _pick_block(channel: healthlb.HealthAwareChannel, count: int) -> Block:
    method = channel.unary_unary(_METHOD)._method
    attempts = Attempts(method, None, _METADATA, None, 0)

    def block() -> float:
        clock, now = time.perf_counter_ns, time.monotonic_ns
        began_at = clock()
        for _ in repeat(None, count):
            attempts.try_pick(FIRST).load.succeed(now())  # type: ignore[union-attr]
        return (clock() - began_at) / count / 1e3 - _loop_cost(count)

    return block


def _publication(case: Case, channel: healthlb.HealthAwareChannel, rounds: int) -> Measurement:
    """The picker that is built when one of all goes out or comes back, and its publication, in milliseconds."""
    board, factory = channel._pool.board, channel._pool.settings.factory
    ready = board.snapshot.ready
    samples = []
    for number in range(rounds):
        now_ready = ready if number % 2 else ready[1:]
        began_at = time.perf_counter_ns()
        snapshot = replace(board.snapshot, generation=number + 2, ready=now_ready, picker=factory.build(now_ready))
        board.publish(snapshot)
        samples.append((time.perf_counter_ns() - began_at) / 1e6)
    return Measurement("publication", {HEALTHLB: samples}, f"{case.name}, {len(ready):,} subchannels")


def _whole_path(effort: Effort) -> Measurement:
    call = open_offline(_TARGETED, effort.pick_sizes[0]).unary_unary(_METHOD)

    def block() -> float:
        clock = time.perf_counter_ns
        began_at = clock()
        for _ in repeat(None, effort.picks):
            call(b"")
        return (clock() - began_at) / effort.picks / 1e3 - _loop_cost(effort.picks)

    return Measurement("sync_path", alternate({HEALTHLB: block}, effort.pick_rounds))


@functools.lru_cache
def _loop_cost(count: int) -> float:
    """What a turn of the bare loop costs at best."""
    clock = time.perf_counter_ns
    samples = []
    for _ in range(50):
        began_at = clock()
        for _ in repeat(None, count):
            pass
        samples.append((clock() - began_at) / count / 1e3)
    return min(samples)
