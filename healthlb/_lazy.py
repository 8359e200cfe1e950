"""Public names that are imported at their first use (PEP 562): `healthlb probe` needs none of them.

The one rule: standard library only, and little of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

# The names that both faces have, by the module that defines them.
COMMON = {
    "healthlb.config": "Backoff Failover HealthCheck Heartbeat RetryBudget RetryThrottle Subset",
    "healthlb.config.outliers": "FailurePercentage Outliers SuccessRate",
    "healthlb.config.overload": "Overload",
    "healthlb.config.stability": "FlapDamping SlowStart",
    "healthlb.health_client.connectivity": "ConnectivityChange",
    "healthlb.health_client.answer": "HealthAnswer",
    "healthlb.calls.attempts": "Attempt attempts_of",
    "healthlb.control.status": "SubchannelStatus",
    "healthlb.core.load": "Subchannel",
    "healthlb.core.endpoint": "Endpoint",
    "healthlb.core.pickers": "CallInfo Picker PickerFactory register_picker",
    "healthlb.core.states": "ServingStatus",
    "healthlb.errors": "ChannelClosed ChannelUnusable ConfigError HealthLBError InvalidResponse NotServing",
    "healthlb.resolvers": "Resolver register_resolver",
}


class Lazy:
    """A function or class of a module that is imported at the first call.

    Args:
        module: where it is defined.
        name: its name there.
    """

    __slots__ = ("_module", "_name", "_target")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self._target: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it."""
        return (self._target or self._resolve())(*arguments, **named)

    def _resolve(self) -> Any:
        self._target = getattr(import_module(self._module), self._name)
        return self._target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolve(), name)

    # Type hints may be evaluated.
    def __or__(self, other: Any) -> Any:
        return self._resolve() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._resolve()


def lazy(modules: Mapping[str, str]) -> dict[str, Lazy]:
    """Return functions and classes by name that are imported at their first use.

    Args:
        modules: for each module the names that are wanted of it, with blanks between.
    """
    return {name: Lazy(module, name) for module, names in modules.items() for name in names.split()}


def lazy_names(
    package: str, modules: Mapping[str, str], submodules: Collection[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: its name.
        modules: for each module the names that the package takes from it, with blanks between.
        submodules: modules of the package that are its attributes without being imported first.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> object:
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        vars(sys.modules[package])[name] = value
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of, *submodules})

    return get, names
