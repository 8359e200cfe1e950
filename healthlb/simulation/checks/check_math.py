"""What a check may calculate with: a few functions of mathematics, and the closed forms of `theory`.

No argument makes a function take long. Whole numbers are bounded, and where a form has no value it says
so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from healthlb.simulation.checks import theory
from healthlb.simulation.checks.expression import ExpressionError

_MOST = 100_000


def _whole(value: float) -> int:
    if not 0 <= value <= _MOST or value != int(value):
        raise ExpressionError(f"it takes a whole number of 0 to {_MOST}, not {value:g}")
    return int(value)


def _load(rho: float) -> float:
    if not 0 <= rho < 1:
        raise ExpressionError(f"it takes a load of 0 to less than 1, not {rho:g}")
    return rho


def _supermarket(rho: float, d: float = 2) -> float:
    return theory.supermarket(_load(rho), max(1, _whole(d)))


def _em1_mean(stages: float, rho: float) -> float:
    return theory.em1_mean(max(1, _whole(stages)), _load(rho))


# Each with how many arguments it needs and takes.
FUNCTIONS: Mapping[str, tuple[Callable[..., float], int, int]] = {
    "abs": (abs, 1, 1),
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "sqrt": (math.sqrt, 1, 1),
    "exp": (math.exp, 1, 1),
    "log": (math.log, 1, 1),
    "log2": (math.log2, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "in_seconds": (float, 1, 1),
    "erlang_b": (lambda c, a: theory.erlang_b(_whole(c), a), 2, 2),
    "erlang_c": (lambda c, a: theory.erlang_c(_whole(c), a), 2, 2),
    "mmc_mean": (lambda c, rho: theory.mmc_mean(_whole(c), _load(rho)), 2, 2),
    "mm1_mean": (lambda rho: theory.mm1_mean(_load(rho)), 1, 1),
    "mm1_percentile": (lambda rho, share: theory.mm1_percentile(_load(rho), share), 2, 2),
    "mm1k_loss": (lambda rho, room: theory.mm1k_loss(rho, _whole(room)), 2, 2),
    "mg1_fifo_mean": (lambda rho, cv2: theory.mg1_fifo_mean(_load(rho), cv2), 2, 2),
    "dm1_mean": (lambda rho: theory.dm1_mean(_load(rho)), 1, 1),
    "em1_mean": (_em1_mean, 2, 2),
    "supermarket": (_supermarket, 1, 2),
    "noise_band": (lambda picks, backends: theory.noise_band(picks, _whole(backends)), 2, 2),
    "crash_loss": (theory.crash_loss, 3, 3),
    "drain_loss": (theory.drain_loss, 4, 4),
    "blackhole_timeouts": (lambda rate, n, t, d: theory.blackhole_timeouts(rate, _whole(n), t, d), 4, 4),
    "surviving_load": (lambda zones, lost=1.0: theory.surviving_load(_whole(zones), _whole(lost)), 1, 2),
    "reported_share": (theory.reported_share, 3, 3),
    "ejection_share": (lambda n, interval, longest: theory.ejection_share(_whole(n), interval, longest), 3, 3),
    "blind_spot": (theory.blind_spot, 1, 1),
    "most_ejected": (lambda hosts, percent: theory.most_ejected(_whole(hosts), percent), 2, 2),
    "is_metastable": (lambda rho, retries: theory.is_metastable(rho, _whole(retries)), 2, 2),
    "recovery_time": (lambda rho, r, t, c, d: theory.recovery_time(rho, _whole(r), t, c, d), 5, 5),
    "most_retries": (theory.most_retries, 3, 3),
    "throttle_drains": (theory.throttle_drains, 2, 2),
    "damping_peak": (theory.damping_peak, 3, 3),
    "damping_suppresses": (theory.damping_suppresses, 4, 4),
    "damping_release": (theory.damping_release, 3, 3),
    "two_choices_capacity": (lambda s, n, rate: theory.two_choices_capacity(_whole(s), _whole(n), rate), 3, 3),
    "subset_max_to_mean": (lambda c, n, k: theory.subset_max_to_mean(_whole(c), _whole(n), _whole(k)), 3, 3),
}
