"""Whether a disk has room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from os import PathLike

from healthlb.config import check_number
from healthlb.errors import ConfigError
from healthlb.server.checks.unhealthy import Unhealthy


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
