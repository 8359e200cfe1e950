"""What a pick costs, measured on the call path's own objects, without a network.

The one rule: the path is healthlb's own code, from the loading of the snapshot to the counting out of the call;
only the cost of the bare loop is taken away. Times are CPU time, of which neighbours on the machine take nothing but
the caches; beside the pickers stands what it costs to touch that many counters at all.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import healthlb
from healthlb.calls.attempts import Attempts
from healthlb.core.call.call_attempts import FIRST
from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.pickers import PickerSource
from healthlb.core.snapshot import Snapshot
from healthlb.pickers import CallEnd, Code, PeakEwma, RingHash
from healthlb.sync.grpcio import RECEIVE_STATUS
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import Block, alternate

_METHOD = "/test.Echo/Unary"
_TARGETED = "round_robin"
_METADATA = (("x-request", "17"), ("x-user", "user-1234"))


class SilentChannel:
    """Stands for a grpcio channel whose calls take no time."""

    def unary_unary(self, method: str, **arguments: Any) -> SilentCalls:
        """Return calls that do nothing."""
        return SilentCalls()

    def close(self) -> None:
        """Nothing is open."""


class SilentCalls:
    """Stands for grpcio's multi-callable, as `healthlb.sync.grpcio` uses it."""

    _method = b"/silent"
    _target = b"silent"
    _response_deserializer = _context = _registered_call_handle = _managed_call = None

    def __init__(self) -> None:
        """End every call with OK."""
        self._channel = self
        self.batch_operations = (self,)
        for name, told in (("type", RECEIVE_STATUS), ("code", 0), ("details", ""), ("error_string", "")):
            setattr(self, name, partial(_same, told))
        self.trailing_metadata = partial(_same, ())

    def segregated_call(self, *arguments: Any) -> SilentCalls:
        """Return a call that is over."""
        return self

    def next_event(self) -> SilentCalls:
        """Return its status."""
        return self


def _same(told: object) -> object:
    return told


@dataclass(frozen=True, slots=True)
class Case:
    """One picker as it is measured.

    Attributes:
        figure: whose target it has.
        name: what the row is called.
        picker: for `picker=`.
        weight: gives an endpoint's weight by its number.
        is_busy: whether calls are in flight everywhere; else the first of two that is looked at is as good as any.
    """

    figure: str
    name: str
    picker: PickerSource
    weight: Callable[[int], float] = lambda number: 1.0
    is_busy: bool = False


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
    Case("pick_weighing", "least_request, busy", "least_request", is_busy=True),
    Case("pick_weighing", "least_request, weights 1 to 4", "least_request", _uneven),
    Case("pick_weighing", "least_request, weights 1 to 4, busy", "least_request", _uneven, is_busy=True),
    Case("pick_weighing", "peak_ewma", "peak_ewma"),
    Case("pick_weighing", "peak_ewma, busy", "peak_ewma", is_busy=True),
    Case("pick_hashing", "ring_hash", "ring_hash"),
    Case("pick_hashing", "ring_hash by a header", _by_header),
)


def picks(effort: Effort) -> list[Measurement]:
    """Measure the pick of each picker at each size, in microseconds."""
    measurements = []
    for case in CASES:
        channels = {size: _open(case, size) for size in effort.pick_sizes}
        blocks = {size: _pick_block(channel, effort.picks) for size, channel in channels.items()}
        measurements += _rows(case.figure, "pick_growth", case.name, blocks, effort)
    for name, count in (("touch one subchannel", 1), ("touch two subchannels", 2)):
        channels = {size: open_offline("random", size) for size in effort.pick_sizes}
        blocks = {size: _touch_block(channel, count, effort.picks) for size, channel in channels.items()}
        measurements += _rows("pick_reference", "reference_growth", name, blocks, effort)
    return [*measurements, _whole_path(effort)]


def _rows(figure: str, growth: str, name: str, blocks: dict[int, Block], effort: Effort) -> list[Measurement]:
    samples = alternate({str(size): block for size, block in blocks.items()}, effort.pick_rounds)
    small, large = effort.pick_sizes[0], effort.pick_sizes[-1]
    ratios = [many / few for many, few in zip(samples[str(large)], samples[str(small)], strict=True)]
    return [
        *(Measurement(figure, {HEALTHLB: samples[str(size)]}, f"{name}, {size:,} subchannels") for size in blocks),
        Measurement(growth, {HEALTHLB: ratios}, f"{name}, {large:,} : {small:,}"),
    ]


def _open(case: Case, size: int) -> healthlb.HealthAwareChannel:
    channel = open_offline(case.picker, size, case.weight)
    if case.is_busy:
        for sub in channel._subchannels.holder.snapshot.ready:
            sub.load.in_flight = 1 + sub.id % 3
    return channel


def open_offline(
    picker: PickerSource, size: int, weight: Callable[[int], float] = lambda number: 1.0
) -> healthlb.HealthAwareChannel:
    """Return a sync channel that believes in `size` READY subchannels; nothing is connected."""
    channel = healthlb.HealthAwareChannel(["127.0.0.1:1"], picker=picker)
    pool = channel._subchannels
    make_load = pool.admission.limiter.make_load
    ready = tuple(
        Subchannel(number, 1, Endpoint(f"127.0.0.1:{number}", weight(number)), load=make_load())
        for number in range(1, size + 1)
    )
    factory = pool.settings.factory
    if isinstance(factory, RingHash):
        factory.endpoints([sub.endpoint for sub in ready])
    picker_over_all = factory.build(ready)
    if isinstance(factory, PeakEwma):
        for sub in ready:
            factory.call_ended(sub, CallEnd(Code.OK, sub.id, 0.01))
    pool.holder.publish(Snapshot(1, ConnectivityState.READY, ready, picker_over_all))
    silent = SilentChannel()
    pool.channels._channels.update({(sub.id, sub.generation): silent for sub in ready})  # type: ignore[attr-defined]
    return channel


def _pick_block(channel: healthlb.HealthAwareChannel, count: int) -> Block:
    method = channel.unary_unary(_METHOD)._callee
    attempts = Attempts(method, None, _METADATA, None, 0)

    def block() -> float:
        clock, now = time.thread_time_ns, time.monotonic_ns
        began_at = clock()
        for _ in repeat(None, count):
            attempts.try_pick(FIRST).load.succeed(now())  # type: ignore[union-attr]
        return (clock() - began_at) / count / 1e3 - _loop_cost(count)

    return block


def _touch_block(channel: healthlb.HealthAwareChannel, looked_at: int, count: int) -> Block:
    """The least that any picker has to do: look at counters at random places, and count a call in and out."""
    ready, draw = channel._subchannels.holder.snapshot.ready, random.Random(1).random
    size = len(ready)

    def block() -> float:
        clock, now = time.thread_time_ns, time.monotonic_ns
        began_at = clock()
        for _ in repeat(None, count):
            sub = ready[int(draw() * size)]
            if looked_at == 2:
                other = ready[int(draw() * size)]
                sub = other if other.load.in_flight < sub.load.in_flight else sub
            sub.load.start()
            sub.load.succeed(now())
        return (clock() - began_at) / count / 1e3 - _loop_cost(count)

    return block


def _whole_path(effort: Effort) -> Measurement:
    call = open_offline(_TARGETED, effort.pick_sizes[0]).unary_unary(_METHOD)

    def block() -> float:
        clock = time.thread_time_ns
        began_at = clock()
        for _ in repeat(None, effort.picks):
            call(b"")
        return (clock() - began_at) / effort.picks / 1e3 - _loop_cost(effort.picks)

    return Measurement("sync_path", alternate({HEALTHLB: block}, effort.pick_rounds))


@functools.lru_cache
def _loop_cost(count: int) -> float:
    """What a turn of the bare loop costs at best."""
    clock = time.thread_time_ns
    samples = []
    for _ in range(50):
        began_at = clock()
        for _ in repeat(None, count):
            pass
        samples.append((clock() - began_at) / count / 1e3)
    return min(samples)
