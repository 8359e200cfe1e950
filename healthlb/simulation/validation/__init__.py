"""`healthlb simulate validate`: is the simulator right? Laws of queueing theory against what it comes to.

    claim    what must hold, and the judgement on it
    fleet    calls, a real picker and backends: all that a law of queues needs
    queues   the laws of one queue, of many, and of how calls are dealt to them
    rules    the arithmetic of ejection, throttling, subsets and damping, asked of the core itself
    attempts timeouts, retries and hedges, in whole worlds
    worlds   crashes, drains, retry storms and flaps, in whole worlds

What is measured comes from the engine, the backends and the core's own code, what is expected from
`healthlb.simulation.checks.theory`; neither knows the other.
"""

from healthlb.simulation.validation.claim import Claim as Claim
from healthlb.simulation.validation.claim import Finding as Finding
from healthlb.simulation.validation.claim import examine as examine

__all__ = ["Claim", "Finding", "claims", "examine"]


def claims(quick: bool = False) -> tuple[Claim, ...]:
    """Return all that is claimed; `quick` for fewer calls, and so wider tolerances."""
    from healthlb.simulation.validation import attempt_laws, queues, rules, worlds

    return (*queues.claims(quick), *rules.claims(quick), *attempt_laws.claims(quick), *worlds.claims(quick))
