"""A service config's arguments for a picker: from gRPC's names to those of its callable.

The one rule: nothing is silently ignored. An argument that the callable does not take is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from healthlb.errors import ConfigError

_HUMP = re.compile(r"[A-Z]")


def with_arguments(name: str, make: Callable[..., Any], arguments: object) -> Callable[[], Any]:
    """Return `make` with the arguments that a `loadBalancingConfig` gives it: `minRingSize` is `min_ring_size`.

    A callable with an attribute `from_service_config` gets them there as they are, as a mapping.

    Raises:
        ConfigError: it does not take one of them, or not this value.
    """
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"loadBalancingConfig.{name} must be an object, not {arguments!r}")
    given = None if hasattr(make, "from_service_config") else _by_parameter(name, make, arguments)

    def checked() -> Any:
        try:
            return make.from_service_config(arguments) if given is None else make(**given)  # type: ignore[attr-defined]
        except ConfigError as error:
            raise ConfigError(f"loadBalancingConfig.{name}: {error}") from error

    return checked


def _by_parameter(name: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {snake_case(key): (key, value) for key, value in arguments.items()}
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        known = set(wanted)
    else:
        known = {name for name, parameter in parameters.items() if parameter.kind is not parameter.POSITIONAL_ONLY}
    check_known(name, arguments, {key for parameter, (key, _) in wanted.items() if parameter in known}, sorted(known))
    return {parameter: value for parameter, (_, value) in wanted.items()}


def check_known(name: str, arguments: Mapping[str, Any], known: set[str], parameters: list[str]) -> None:
    """Raise ConfigError where `arguments` holds what is not in `known`; the text names the `parameters`."""
    unknown = {key: value for key, value in arguments.items() if key not in known}
    if unknown and not parameters:
        raise ConfigError(f"loadBalancingConfig.{name} takes no arguments, not {unknown!r}")
    if unknown:
        takes = ", ".join(camel_case(parameter) for parameter in parameters)
        raise ConfigError(f"loadBalancingConfig.{name} takes {takes}, not {unknown!r}")


def snake_case(name: object) -> str:
    """Return Python's spelling of a JSON name."""
    return _HUMP.sub(lambda hump: f"_{hump[0].lower()}", str(name))


def camel_case(name: str) -> str:
    """Return the JSON spelling of a Python name."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
