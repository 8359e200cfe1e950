"""Settings that go together, as keyword arguments for `HealthAwareChannel`.

The one rule: a preset uses what a user could write, and its figures are tested against real faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from healthlb.config import Failover, HealthCheck, Heartbeat, Idempotent, RetryBudget
from healthlb.config.outliers import Outliers

__all__ = ["resilient"]


def resilient(
    idempotent: Idempotent = None, *, hedging_delay: float | None = 0.1, attempt_timeout: float | None = 5.0
) -> Mapping[str, Any]:
    """Return the arguments of a channel on which faults of single backends cost idempotent calls nothing.

    Failed attempts and those without an answer go elsewhere, and three of them in a row take a backend out. A backend
    that is out of reach is noticed within 1.5 s even without calls.

    Args:
        idempotent: the methods that may be executed twice, as for `Failover`.
        hedging_delay: seconds after which a unary call is sent to another backend as well; above what your calls
            usually take. None for never; at least 0.
        attempt_timeout: seconds for each attempt, of every method; above what your slowest calls and streams take.
            None for the call's deadline only; above 0.

    Raises:
        ConfigError: a value is out of its bounds.
    """
    return {
        "health": HealthCheck(heartbeat=Heartbeat(interval=1.0, timeout=0.5)),
        "failover": Failover(
            max_attempts=4,
            codes=("UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"),
            idempotent=idempotent,
            budget=RetryBudget(ratio=0.2, min_per_second=20.0),
            attempt_timeout=attempt_timeout,
            hedging_delay=hedging_delay,
        ),
        "outliers": Outliers(consecutive_failures=3, max_ejection_time=120.0, interval=5.0),
    }
