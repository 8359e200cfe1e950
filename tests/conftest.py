"""Hypothesis profiles: repeatable by default, another search with HYPOTHESIS_PROFILE=explore. And the marker `needs`.

`@pytest.mark.needs("grpcio", "1.83", reason="...")`: grpcio itself fails below that version; the test is not collected there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from importlib.metadata import version

import pytest
from hypothesis import HealthCheck, settings

from tests.versions import release

_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("repeatable", derandomize=True, database=None, **_common)
settings.register_profile("explore", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A shell has its background jobs ignore Ctrl-C, and so would the programs that tests start and interrupt.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the installed packages are too old for."""
    reasons = {item: _too_old_for(item) for item in items}
    config.stash[LEFT_OUT] = Counter(reason for reason in reasons.values() if reason)
    config.hook.pytest_deselected(items=[item for item in items if reasons[item]])
    items[:] = [item for item in items if not reasons[item]]


def _too_old_for(item: pytest.Item) -> str | None:
    for marker in item.iter_markers("needs"):
        package, lowest = marker.args
        if release(version(package)) < release(lowest):
            return f"needs {package} {lowest}: {marker.kwargs['reason']}"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why."""
    for reason, number in config.stash.get(LEFT_OUT, Counter[str]()).items():
        terminalreporter.write_line(f"not collected: {number} of what {reason}")
