"""A service config's arguments for a picker: from gRPC's names to those of its callable.

The one rule: nothing is silently ignored. An argument that the callable does not take is an error, or is told of.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from healthlb.config.json_values import number, whole_number
from healthlb.errors import ConfigError

_HUMP = re.compile(r"[A-Z]")
_NUMBERS = {int: whole_number, "int": whole_number, float: number, "float": number}


def with_arguments(
    name: str, make: Callable[..., Any], arguments: object, ignored: list[str] | None = None
) -> Callable[[], Any]:
    """Return `make` with the arguments that a `loadBalancingConfig` gives it: `minRingSize` is `min_ring_size`.

    A callable with an attribute `from_service_config` gets them there by their own names, as a mapping.

    Args:
        name: the policy's.
        make: its callable.
        arguments: by gRPC's names.
        ignored: gets the names of those that it does not take; None makes them an error.

    Raises:
        ConfigError: it does not take one of them, or not this value.
    """
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"loadBalancingConfig.{name} must be an object, not {arguments!r}")
    known = _names_of(make)
    # As in C-core, what is null is not said; who takes anything hears of it.
    said = {key: value for key, value in arguments.items() if known is None or value is not None}
    given = {key: _read(make, key, value) for key, value in said.items() if known is None or snake_case(key) in known}
    # What is false asks for nothing, as enableOobLoadReport often does.
    unknown = {key: value for key, value in said.items() if key not in given and value is not False}
    if unknown and ignored is None:
        raise ConfigError(f"loadBalancingConfig.{name} {_takes(known or ())}, not {unknown!r}")
    if ignored is not None:
        ignored += (f"loadBalancingConfig.{name}.{key}" for key in unknown)

    def checked() -> Any:
        try:
            if hasattr(make, "from_service_config"):
                return make.from_service_config(given)
            return make(**{snake_case(key): value for key, value in given.items()})
        except ConfigError as error:
            raise ConfigError(f"loadBalancingConfig.{name}: {error}") from error

    return checked


def _names_of(make: Callable[..., Any]) -> Collection[str] | None:
    """Return the arguments that a callable takes, in Python's spelling; None for any."""
    parameters = inspect.signature(make).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return sorted(parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY)


def _read(make: Callable[..., Any], key: object, value: object) -> object:
    """Return an argument; a number that is written as a string where the callable declares one."""
    parameter = inspect.signature(make).parameters.get(snake_case(key))
    read = _NUMBERS.get(getattr(parameter, "annotation", None))
    return value if read is None else read(value)


def _takes(known: Collection[str]) -> str:
    return f"takes {', '.join(map(camel_case, known))}" if known else "takes no arguments"


def snake_case(name: object) -> str:
    """Return Python's spelling of a JSON name."""
    return _HUMP.sub(lambda hump: f"_{hump[0].lower()}", str(name))


def camel_case(name: str) -> str:
    """Return the JSON spelling of a Python name."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
