"""What is claimed, measured and judged.

A claim must be able to fail. A mean counts when its confidence interval, from independent replications,
is narrow enough; it holds when it is within 3.5 standard errors of what theory says and within the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate

MOST_Z = 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that theory says of a system.

    Attributes:
        law: what it is a case of, as "M/M/c".
        case: its parameters and what is asked for.
        expected: by theory.
        measure: runs one replication, from its seed to what came out.
        relation: "=" for a value, "<=" for an upper bound that every replication has to keep.
        replications: the least number of them.
        most: replications, where the confidence interval is not narrow enough before.
        tolerance: of a mean, as a share of what is expected.
        precision: the widest half of a 95 % confidence interval that counts, as a share of what is expected.
        bias: what theory itself leaves open (a limit for large fleets, a histogram's 1 %), as a share.
        source: who says so.
    """

    law: str
    case: str
    expected: float
    measure: Callable[[int], float]
    relation: str = "="
    replications: int = 8
    most: int = 64
    tolerance: float = 0.02
    precision: float = 0.02
    bias: float = 0.0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a claim.

    Attributes:
        claim: the one.
        got: the mean of the replications; of a bound, the largest.
        half_width: half of its 95 % confidence interval; 0 of a bound.
        z: standard errors between the two, beyond what theory leaves open; 0 of a bound.
        count: replications.
        reason: why it does not hold, or "".
    """

    claim: Claim
    got: float
    half_width: float
    z: float
    count: int
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether theory and simulation agree."""
        return not self.reason


def examine(claim: Claim) -> Finding:
    """Run the replications of a claim, and judge."""
    values = [claim.measure(seed) for seed in range(1, claim.replications + 1)]
    if claim.relation == "<=":
        worst = max(values)
        reason = "" if worst <= claim.expected else "above the bound"
        return Finding(claim, worst, 0.0, 0.0, len(values), reason)
    while not _is_precise(claim, values) and len(values) < claim.most:
        values.append(claim.measure(len(values) + 1))
    return _judge(claim, values)


def _is_precise(claim: Claim, values: list[float]) -> bool:
    return Estimate.of(values).half_width() <= claim.precision * abs(claim.expected)


def _judge(claim: Claim, values: list[float]) -> Finding:
    estimate = Estimate.of(values)
    slack = claim.bias * abs(claim.expected)
    # Against the nearest value that theory allows.
    z = estimate.z(min(max(estimate.mean, claim.expected - slack), claim.expected + slack))
    half_width = estimate.half_width()
    distance = abs(estimate.mean - claim.expected)
    if abs(z) >= MOST_Z:
        reason = f"{z:+.1f} standard errors off"
    elif distance > claim.tolerance * abs(claim.expected) + half_width:
        reason = f"{distance / abs(claim.expected):.1%} off, more than {claim.tolerance:.1%}"
    elif not _is_precise(claim, values):
        reason = f"not precise enough: more than {claim.precision:.1%}"
    else:
        reason = ""
    return Finding(claim, estimate.mean, half_width, z, len(values), reason)
