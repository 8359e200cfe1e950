"""How much a run measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much a run measures; the defaults are those of the published table.

    Attributes:
        rounds: ratios per latency figure; each contestant has one block in each round.
        calls: unary calls in a block of a latency figure.
        throughput_rounds: ratios per throughput figure.
        seconds: length of a block of a throughput figure.
        threads: callers of the sync throughput figure.
        tasks: callers of the aio throughput figure.
        stream_rounds: ratios per streaming figure.
        messages: messages in a block of a streaming figure.
        picks: picks in a block of the pick figures.
        pick_rounds: blocks per picker and size.
        pick_sizes: how many subchannels are picked from.
        publications: changes of health per picker, with the most of these.
        subchannels: of the scale figures.
        idle_seconds: how long the scale figures watch a channel without calls.
        flips: how often all subchannels go out and come back.
        counted_rounds: blocks of calls whose instructions are counted.
        counted_calls: in each of them.
        simulated_calls: in a run of the simulation figures.
        simulation_rounds: runs of them.
    """

    rounds: int = 480
    calls: int = 20
    throughput_rounds: int = 150
    seconds: float = 0.12
    threads: int = 8
    tasks: int = 32
    stream_rounds: int = 150
    messages: int = 500
    picks: int = 2_000
    pick_rounds: int = 150
    pick_sizes: tuple[int, ...] = (10, 1_000, 10_000)
    publications: int = 40
    subchannels: int = 1_000
    idle_seconds: float = 30.0
    flips: int = 3
    counted_rounds: int = 5
    counted_calls: int = 200
    simulated_calls: int = 1_000_000
    simulation_rounds: int = 3


QUICK = Effort(
    rounds=30,
    throughput_rounds=12,
    stream_rounds=12,
    seconds=0.15,
    pick_rounds=30,
    subchannels=200,
    idle_seconds=5.0,
    flips=2,
    counted_rounds=3,
    counted_calls=50,
    simulated_calls=200_000,
    simulation_rounds=1,
)
