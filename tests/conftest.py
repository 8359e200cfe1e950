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
from hypothesis import HealthCheck, Phase, settings

from tests.versions import release

# To explain a finding takes a tracer, which makes a state machine so slow that the time of the test is over first.
_phases = [phase for phase in Phase if phase is not Phase.explain]
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "phases": _phases}
# Hypothesis looks for a smaller example for 300 s at most; a test that is ended before that says nothing of what was found.
_SHRINKING = 300

settings.register_profile("repeatable", derandomize=True, database=None, **_common)
settings.register_profile("explore", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A shell has its background jobs ignore Ctrl-C, and so would the programs that tests start and interrupt.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LEFT_OUT = pytest.StashKey[Counter[str]]()


@pytest.hookimpl(trylast=True)  # hypothesis marks its tests before
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the installed packages are too old for, and give hypothesis the time to say what it has found."""
    longest = float(config.getini("timeout"))
    for item in items:
        if item.get_closest_marker("hypothesis") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(longest + _SHRINKING))
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
