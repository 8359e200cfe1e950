"""Whether the machine keeps up: its processors, memory and disks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from os import PathLike

from healthlb.config import check_number
from healthlb.errors import ConfigError
from healthlb.server.checks.unhealthy import Unhealthy, need


def disk_space(path: str | PathLike[str], min_free: float = 0.05) -> Callable[[], None]:
    """Return a check that looks at the file system of a path.

    Args:
        path: a file or folder on it.
        min_free: at least this must be free: bytes from 1 on, below 1 a share of the size; above 0, default 5 %.

    Raises:
        ConfigError: a value is out of its bounds, or of a wrong type.
    """
    if not isinstance(path, str | PathLike):
        raise ConfigError(f"path must be a string or a path, not {path!r}")
    check_number("min_free", min_free, above=0)

    def check() -> None:
        usage = shutil.disk_usage(path)
        needed = min_free * usage.total if min_free < 1 else min_free
        if usage.free < needed:
            raise Unhealthy(f"{usage.free / 2**20:.0f} MiB free on {path}, less than {needed / 2**20:.0f}")

    return check


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
