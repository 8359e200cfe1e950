"""`healthlb simulate fuzz`: random worlds, and what must hold in each of them.

    worlds          random worlds, from a seed and a number
    ground_truth    what is true in a world, and since when
    wire_log        what the wire has said to a client
    call_ledger     who has called whom, and what came of it
    oracle_context  what all oracles share of one world
    invariants      what must hold
    observed_world  a world that is watched
    campaign        many worlds, on one process or more
    shrinking       a smaller world in which the same does not hold

An oracle that finds something is right, or it is mended; none is ever loosened to pass.
"""
