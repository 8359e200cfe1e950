"""What a pick costs, measured on the call path's own objects, without a network.

The one rule: the path is healthlb's own code, from the loading of the snapshot to the counting out of the call;
only the cost of the bare loop is taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import healthlb
from healthlb.control.attempts import FIRST, Attempts
from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.pickers import picker_names
from healthlb.core.snapshot import Snapshot
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import HEALTHLB
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import Block, alternate

_METHOD = "/test.Echo/Unary"
_TARGETED = "round_robin"


class SilentChannel:
    """Stands for a grpcio channel whose calls take no time."""

    def unary_unary(self, method: str, **arguments: Any) -> Callable[..., None]:
        """Return a call that does nothing."""
        return _do_nothing

    def close(self) -> None:
        """Nothing is open."""


def _do_nothing(*arguments: Any) -> None:
    return None


def picks(effort: Effort) -> list[Measurement]:
    """Measure the pick of each registered picker at each size, in microseconds."""
    measurements = []
    for picker in picker_names():
        blocks = {size: _pick_block(open_offline(picker, size), effort.picks) for size in effort.pick_sizes}
        samples = alternate({str(size): block for size, block in blocks.items()}, effort.pick_rounds)
        figure = "pick" if picker == _TARGETED else "pick_other"
        for size in effort.pick_sizes:
            detail = f"{picker}, {size:,} subchannels"
            measurements.append(Measurement(figure, {HEALTHLB: samples[str(size)]}, detail))
        if picker == _TARGETED:
            small, large = (str(effort.pick_sizes[end]) for end in (0, -1))
            growth = [many / few for many, few in zip(samples[large], samples[small], strict=True)]
            measurements.append(Measurement("pick_growth", {HEALTHLB: growth}, f"{int(large):,} : {int(small):,}"))
    return [*measurements, _whole_path(effort)]


def open_offline(picker: str, size: int) -> healthlb.HealthAwareChannel:
    """Return a sync channel that believes in `size` READY subchannels; nothing is connected."""
    channel = healthlb.HealthAwareChannel(["127.0.0.1:1"], picker=picker)
    pool = channel._pool
    ready = tuple(Subchannel(number, 1, Endpoint(f"127.0.0.1:{number}")) for number in range(1, size + 1))
    pool.board.publish(Snapshot(1, ConnectivityState.READY, ready, pool.settings.factory.build(ready)))
    silent = SilentChannel()
    pool.channels._channels.update({(sub.id, sub.generation): silent for sub in ready})  # type: ignore[attr-defined]
    return channel


def _pick_block(channel: healthlb.HealthAwareChannel, count: int) -> Block:
    attempts = Attempts(channel.unary_unary(_METHOD)._method, None, None, None, 0)

    def block() -> float:
        clock, now = time.perf_counter_ns, time.monotonic_ns
        began_at = clock()
        for _ in repeat(None, count):
            attempts.try_pick(FIRST).load.succeed(now())  # type: ignore[union-attr]
        return (clock() - began_at) / count / 1e3 - _loop_cost(count)

    return block


def _whole_path(effort: Effort) -> Measurement:
    call = open_offline(_TARGETED, effort.pick_sizes[0]).unary_unary(_METHOD)

    def block() -> float:
        clock = time.perf_counter_ns
        began_at = clock()
        for _ in repeat(None, effort.picks):
            call(b"")
        return (clock() - began_at) / effort.picks / 1e3 - _loop_cost(effort.picks)

    return Measurement("sync_path", alternate({HEALTHLB: block}, effort.pick_rounds))


def _loop_cost(count: int) -> float:
    clock = time.perf_counter_ns
    began_at = clock()
    for _ in repeat(None, count):
        pass
    return (clock() - began_at) / count / 1e3
