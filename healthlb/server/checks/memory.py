"""Whether the machine has memory left."""

from __future__ import annotations

from collections.abc import Callable

from healthlb.config import check_number
from healthlb.server.checks.unhealthy import Unhealthy, need


def memory(max_used: float = 0.95) -> Callable[[], None]:
    """Return a check of the machine's memory; it needs psutil.

    Args:
        max_used: the share that may be in use; above 0, at most 1. What can be freed at once counts as free.

    Raises:
        ConfigError: a value is out of its bounds, or psutil is not installed.
    """
    check_number("max_used", max_used, above=0, high=1)
    psutil = need("psutil", "checks")

    def check() -> None:
        used = psutil.virtual_memory().percent / 100
        if used > max_used:
            raise Unhealthy(f"{used:.0%} of the memory is in use, more than {max_used:.0%}")

    return check
