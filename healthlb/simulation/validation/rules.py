"""The arithmetic of ejection, throttling and subsets, asked of the core itself.

Nothing of the core is written down a second time here; what it does is compared with a formula.
"""

from __future__ import annotations

import math
import random
from functools import partial

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.config.outliers import SuccessRate
from healthlb.core.call.budget import RatioBudget, Throttle
from healthlb.core.exclusion.outlier_rules import CallCounts, by_success_rate
from healthlb.core.exclusion.subset import choose
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Endpoint
from healthlb.core.pickers import ANY_CALL, make_factory
from healthlb.simulation.checks import theory
from healthlb.simulation.validation.claim import Claim

_ATTEMPTS = 20_000


def claims(quick: bool = False) -> tuple[Claim, ...]:
    """Return what is claimed of the core's rules."""
    return (*_ejection(), *_budgets(), *_dealing(quick))


def _ejection() -> list[Claim]:
    rows = []
    for factor in (1.6, 1.9):
        rows.append(
            Claim(law="A50 blind spot", case=f"factor {factor:g}, fleets of 5 to 40: wrong verdicts", expected=0,
                  relation="<=", measure=partial(_wrong_verdicts, factor), replications=3, source="gRFC A50")
        )  # fmt: skip
    return rows


def _wrong_verdicts(factor: float, seed: int) -> float:
    """Of all numbers of bad hosts in all fleets, how many are judged otherwise than by k/N < 1 / (1 + f**2)."""
    rng = random.Random(seed)
    rule = SuccessRate(stdev_factor=round(1000 * factor))
    wrong = 0
    for hosts in range(5, 41):
        failures = rng.randint(20, 190)
        for bad in range(1, hosts):
            tallies = [CallCounts(host, 200, failures if host < bad else 1) for host in range(hosts)]
            is_seen = {sub for sub, _ in by_success_rate(tallies, rule)} == set(range(bad))
            wrong += is_seen != (bad / hosts < theory.blind_spot(factor))
    return wrong


def _budgets() -> list[Claim]:
    rows = []
    for ratio in (0.1, 0.2):
        edge = ratio / (1 + ratio)
        for failing, case in ((0.85 * edge, "below: share denied"), (1.15 * edge, "above: share allowed")):
            rows.append(
                Claim(law="A6 throttle's edge", case=f"ratio {ratio:g}, {failing:.1%} fail, {case}", expected=0.05,
                      relation="<=", measure=partial(_minority, ratio, failing), source="f > r / (1 + r)")
            )  # fmt: skip
    rows += [
        Claim(law="A6 throttle's bound", case="10 tokens, ratio 0.1: retries beyond", expected=0, relation="<=",
              measure=_beyond_throttle, source="gRFC A6"),
        Claim(law="retry budget's bound", case="ratio 0.2, 10 a second: retries beyond", expected=0, relation="<=",
              measure=_beyond_budget, source="Finagle's RetryBudget"),
    ]  # fmt: skip
    return rows


def _minority(ratio: float, failing: float, seed: int) -> float:
    """Return how often a retry was denied while tokens should last, or allowed while they should not, once settled."""
    rng = random.Random(seed)
    throttle = Throttle(RetryThrottle(max_tokens=100, token_ratio=ratio))
    allowed = asked = 0
    for attempt in range(_ATTEMPTS):
        if rng.random() < failing:
            throttle.attempt_failed()
        else:
            throttle.call_succeeded()
        if attempt >= _ATTEMPTS // 4:
            asked += 1
            allowed += throttle.withdraw(0)
    lasts = not theory.throttle_drains(failing, ratio)
    return (asked - allowed if lasts else allowed) / asked


def _beyond_throttle(seed: int) -> float:
    """Return by how much retries exceed half of the tokens and what successes earned, at the worst moment."""
    rng = random.Random(seed)
    throttle = Throttle(RetryThrottle(max_tokens=10, token_ratio=0.1))
    retries = successes = 0
    worst = -math.inf
    for attempt in range(_ATTEMPTS):
        # Good times and bad ones.
        if rng.random() < (0.9 if attempt // 1_000 % 2 else 0.05):
            throttle.attempt_failed()
            retries += throttle.withdraw(0)
        else:
            throttle.call_succeeded()
            successes += 1
        worst = max(worst, retries - theory.most_retries(10, 0.1, successes))
    return worst


def _beyond_budget(seed: int) -> float:
    """The same for a share of the calls of the last ten seconds and ten a second."""
    rng = random.Random(seed)
    policy = RetryBudget(ratio=0.2, min_per_second=10, ttl=10)
    budget = RatioBudget(policy)
    now, retries, worst = 0, 0, -math.inf
    for calls in range(1, _ATTEMPTS + 1):
        now += int(rng.random() * SECOND / 100)
        budget.call_started(now)
        retries += rng.random() < 0.8 and budget.withdraw(now)
        # The floor is given anew for each ttl that passes.
        floor = policy.min_per_second * (policy.ttl + now / SECOND)
        worst = max(worst, retries - floor - policy.ratio * calls)
    return worst


def _dealing(quick: bool) -> list[Claim]:
    rows = [
        Claim(law="two choices, static", case="1000 backends: largest excess over the mean to random's", expected=0.5,
              relation="<=", measure=_static_gap, replications=4, source="Azar, Broder, Karlin, Upfal, 1999"),
        Claim(law="random subsets' churn", case="one backend comes: changes in a client's 10 of 50", expected=1,
              relation="<=", measure=_churn, source="gRFC A68"),
    ]  # fmt: skip
    for clients, backends, size in ((100, 100, 5), (100, 100, 25), (500, 10, 5)):
        rows.append(
            Claim(law="random subsets' spread", case=f"{size} of {backends}, {clients} clients: largest to mean",
                  expected=theory.subset_max_to_mean(clients, backends, size), precision=0.1 if quick else 0.03,
                  measure=partial(_spread, clients, backends, size), tolerance=0.03, bias=0.01, source="gRFC A68")
        )  # fmt: skip
    return rows


def _spread(clients: int, backends: int, size: int, seed: int) -> float:
    endpoints = [Endpoint(f"10.{seed}.{place >> 8}.{place & 255}:50051") for place in range(backends)]
    counts = dict.fromkeys((endpoint.address for endpoint in endpoints), 0)
    for client in range(clients):
        for endpoint in choose(endpoints, size, seed * 1_000_003 + client):
            counts[endpoint.address] += 1
    return max(counts.values()) / (clients * size / backends)


def _churn(seed: int) -> float:
    rng = random.Random(seed)
    endpoints = [Endpoint(f"b{place}") for place in range(50)]
    most = 0
    for _ in range(40):
        key = rng.getrandbits(63)
        before = {endpoint.address for endpoint in choose(endpoints, 10, key)}
        shuffled = [*endpoints, Endpoint(f"new{key}")]
        rng.shuffle(shuffled)
        after = {endpoint.address for endpoint in choose(shuffled, 10, key)}
        most = max(most, len(after - before))
    return most


def _static_gap(seed: int) -> float:
    return _largest_excess("least_request", seed) / _largest_excess("random", seed)


def _largest_excess(picker: str, seed: int) -> float:
    """Deal ten calls to each of a thousand backends that never end, and see how many more than ten the fullest has."""
    subs = [Subchannel(place, 1, Endpoint(f"b{place}")) for place in range(1_000)]
    pick = make_factory(picker, random.Random(seed)).build(subs).pick
    for _ in range(10 * len(subs)):
        sub = pick(ANY_CALL)
        assert sub is not None
        sub.load.start()
    return max(sub.load.in_flight for sub in subs) - 10
