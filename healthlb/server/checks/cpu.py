"""Whether the processors keep up."""

from __future__ import annotations

from collections.abc import Callable

from healthlb.config import check_number
from healthlb.server.checks.unhealthy import Unhealthy, need


def cpu_load(max_load: float = 2.0) -> Callable[[], None]:
    """Return a check of the load average over a minute, per processor; it needs psutil.

    Args:
        max_load: above 0; 1 is a machine that is just busy.

    Raises:
        ConfigError: a value is out of its bounds, or psutil is not installed.
    """
    check_number("max_load", max_load, above=0)
    psutil = need("psutil", "checks")

    def check() -> None:
        load = psutil.getloadavg()[0] / (psutil.cpu_count() or 1)
        if load > max_load:
            raise Unhealthy(f"a load of {load:.2f} per processor, more than {max_load:g}")

    return check
