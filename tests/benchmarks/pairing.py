"""Blocks that take turns.

The one rule: whatever the neighbours on this machine do for longer than a block hits all contestants alike, and no
contestant always comes first or always follows the same other.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Mapping

Block = Callable[[], float]
Samples = dict[str, list[float]]


def alternate(blocks: Mapping[str, Block], rounds: int) -> Samples:
    """Run each block once a round, in an order that goes through all permutations.

    Args:
        blocks: by contestant; each returns one figure.
        rounds: how often.

    Returns:
        The figures by contestant; those with the same index were measured side by side.
    """
    samples: Samples = {name: [] for name in blocks}
    orders = itertools.cycle(itertools.permutations(blocks))
    gc.collect()
    gc.freeze()  # Or each of the collections below would walk through everything that was ever imported.
    try:
        for order in itertools.islice(orders, rounds):
            for name in order:
                gc.collect()  # Nobody pays for the garbage of the one before; in a block the collector runs as always.
                samples[name].append(blocks[name]())
    finally:
        gc.unfreeze()
    return samples
