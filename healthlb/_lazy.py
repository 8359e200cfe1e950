"""Public names that are imported at their first use (PEP 562): `healthlb probe` needs none of them.

The one rule: standard library only, and little of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module

# The names that both faces have, by the module that defines them.
COMMON = {
    "healthlb.config": "Backoff Failover HealthCheck Heartbeat RetryBudget RetryThrottle Subset",
    "healthlb.config_outliers": "FailurePercentage Outliers SuccessRate",
    "healthlb.config_overload": "Overload",
    "healthlb.config_stability": "FlapDamping SlowStart",
    "healthlb.control.attempts": "Attempt",
    "healthlb.control.status": "SubchannelStatus",
    "healthlb.core.load": "Subchannel",
    "healthlb.core.messages": "Endpoint",
    "healthlb.core.pickers": "CallInfo Picker PickerFactory register_picker",
    "healthlb.errors": "ChannelClosed ChannelUnusable ConfigError HealthLBError",
    "healthlb.resolvers": "Resolver register_resolver",
}


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
