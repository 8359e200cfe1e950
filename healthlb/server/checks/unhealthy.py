"""The error of the built-in checks, and what they share."""

from __future__ import annotations

import importlib
from typing import Any

from healthlb.errors import ConfigError, HealthLBError


class Unhealthy(HealthLBError):
    """A dependency answers, and the answer is not good enough."""


def check_text(option: str, value: object) -> None:
    """Raise ConfigError unless `value` is a string."""
    if not isinstance(value, str):
        raise ConfigError(f"{option} must be a string, not {value!r}")


def need(module: str, extra: str) -> Any:
    """Return an optional module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f'this check needs {module}: install "healthlb[{extra}]"') from error
