"""The pickers: which names there are (gRPC's policy names, and those that users register), and how one is made."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from healthlb.core.pickers import (
    least_request,
    peak_ewma,
    pick_first,
    random_pick,
    ring_hash,
    round_robin,
    weighted_round_robin,
)
from healthlb.core.pickers.arguments import with_arguments
from healthlb.core.pickers.contract import ANY_CALL as ANY_CALL
from healthlb.core.pickers.contract import ANY_REPEATABLE_CALL as ANY_REPEATABLE_CALL
from healthlb.core.pickers.contract import CallEnd as CallEnd
from healthlb.core.pickers.contract import CallInfo as CallInfo
from healthlb.core.pickers.contract import Picker as Picker
from healthlb.core.pickers.contract import PickerBuilder as PickerBuilder
from healthlb.core.pickers.contract import PickerFactory as PickerFactory
from healthlb.core.pickers.contract import PickerSource as PickerSource
from healthlb.core.pickers.contract import check_factory
from healthlb.core.pickers.contract import flag as flag
from healthlb.core.pickers.contract import hook as hook
from healthlb.core.user_code import name_of, words
from healthlb.errors import ConfigError

_registry: dict[str, Callable[..., PickerBuilder]] = {
    "round_robin": round_robin.RoundRobin,
    "pick_first": pick_first.PickFirst,
    "random": random_pick.RandomPick,
    "weighted_round_robin": weighted_round_robin.WeightedRoundRobin,
    "least_request": least_request.LeastRequest,
    "peak_ewma": peak_ewma.PeakEwma,
    "ring_hash": ring_hash.RingHash,
}

# C-core's names that are not those of gRPC's specification.
_GRPC_NAMES = {"ring_hash_experimental": "ring_hash"}
_OUTLIERS = "outlier_detection_experimental"
_BALANCERS = "grpclb"

_SHIPPED = frozenset(_registry.values())


def is_shipped(factory: object) -> bool:
    """Whether a factory is one of healthlb's own, whose pickers need no check."""
    return type(factory) in _SHIPPED


def register_picker(name: str, factory: Callable[..., PickerBuilder]) -> None:
    """Make a picker known by name, for `picker=` and for service configs.

    Args:
        name: letters, digits and underscores, as gRPC's policy names.
        factory: a callable that needs no arguments and returns a `PickerFactory`; a class will do. Keyword
            arguments that it can take are what a service config may give: `{"my_policy": {"minShare": 1}}` is
            `min_share=1`.

    Raises:
        ConfigError: the name is malformed or that of one of healthlb's own, or the factory is not callable, or a class
            without `build`.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"picker name must be letters, digits and underscores, not {name!r}")
    if _registry.get(name) in _SHIPPED:
        raise ConfigError(f"picker {name!r} is healthlb's own: register yours under another name")
    if not callable(factory):
        raise ConfigError(f"picker {name!r} must be registered with a callable, not {factory!r}")
    if isinstance(factory, type) and not callable(getattr(factory, "build", None)):
        raise ConfigError(f"picker {name!r} must be registered with a PickerFactory (it has build), not {factory!r}")
    _registry[name] = factory


def picker_names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_registry))


def make_factory(source: PickerSource, rng: random.Random) -> PickerBuilder:
    """Return a new factory for `picker=`, seeded from `rng`.

    Raises:
        ConfigError: the name is unknown, the callable raises or does not return a factory, or its `seed` raises.
    """
    if isinstance(source, str):
        if source not in _registry:
            raise ConfigError(f"picker must be one of {', '.join(picker_names())} or a callable, not {source!r}")
        source = _registry[source]
    if not callable(source):
        raise ConfigError(f"picker must be a name or a callable that returns a PickerFactory, not {source!r}")
    factory: PickerBuilder = _asked(f"the picker {name_of(source)}", source)
    if not is_shipped(factory):
        check_factory(factory)
    seed = hook(factory, "seed")
    if seed is not None:
        _asked(f"seed of the picker factory {name_of(factory)}", seed, rng)
    return factory


def _asked(what: str, code: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a piece of user code returns; a ConfigError of its own is raised as it is."""
    try:
        return code(*arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{what} raised {words(error)}") from error


def service_config_picker(entries: Sequence[Mapping[str, Any]], ignored: list[str] | None = None) -> PickerSource:
    """Return the first policy of a `loadBalancingConfig` that is known here, with its arguments.

    Args:
        entries: objects with one policy each.
        ignored: gets the names of arguments that the policy does not take; None makes them an error.

    Raises:
        ConfigError: none is known, or an argument has a wrong value.
    """
    choices = [choice for entry in entries for choice in entry.items()]
    for name, arguments in choices:
        known = _GRPC_NAMES.get(name, name)
        if known in _registry:
            return known if arguments == {} else with_arguments(known, _registry[known], arguments, ignored)
        if name == _OUTLIERS and isinstance(arguments, Mapping) and ignored is not None:
            ignored += (f"{name}.{key} (pass outliers=)" for key in arguments if key != "childPolicy")
            return service_config_picker(_children(name, arguments), ignored)
    for name, arguments in choices:
        if name == _BALANCERS and isinstance(arguments, Mapping) and ignored is not None:
            # As in C-core where no balancer answers. There it is known, and precedes what comes behind it.
            ignored.append(f"{name} (no balancer is asked, only its childPolicy is taken)")
            return service_config_picker(_children(name, arguments), ignored)
    names = [name for name, _ in choices]
    raise ConfigError(
        f"loadBalancingConfig or loadBalancingPolicy must name one of {', '.join(picker_names())}, not {names!r}"
    )


def _children(name: str, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the `childPolicy` of a policy: a list of objects, `round_robin` where there is none."""
    children = arguments.get("childPolicy")
    if children is None:
        return [{"round_robin": {}}]
    if not isinstance(children, list | tuple) or not all(isinstance(child, Mapping) for child in children):
        raise ConfigError(f"{name}.childPolicy must hold objects with one policy each, not {children!r}")
    return list(children)
