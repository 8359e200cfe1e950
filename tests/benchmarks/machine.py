"""Where and with what a run was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Return the machine and the versions, for the report."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "cpu_model": _cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "grpcio": importlib.metadata.version("grpcio"),
        "healthlb": importlib.metadata.version("healthlb"),
        "file_limit": _file_limit(),
    }


def load() -> tuple[float, float, float]:
    """Return the load averages over 1, 5 and 15 minutes."""
    return os.getloadavg()


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
