"""What this process uses."""

from __future__ import annotations

import gc
import os
import resource

import psutil


def raise_file_limit() -> None:
    """Allow as many open files as the machine lets us; servers started later inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def threads() -> int:
    """How many threads there are, C-core's included."""
    return len(os.listdir("/proc/self/task"))


def cpu_seconds() -> float:
    """CPU time used so far, in user and system mode, by all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory() -> tuple[int, int]:
    """Bytes that only this process holds (USS), and bytes resident (RSS), without garbage."""
    gc.collect()
    info = psutil.Process().memory_full_info()
    return info.uss, info.rss
