"""The Picker contract, and the registry of pickers by gRPC's policy names.

The one rule: a picker is immutable and built anew at each change; what must outlive it
(rotation, weights) lives in its factory, one per channel.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol, runtime_checkable

from healthlb.core.load import Subchannel
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
from healthlb.core.pickers.ends import CallEnd as CallEnd
from healthlb.errors import ConfigError


class CallInfo(NamedTuple):
    """What a picker may know of a call.

    Attributes:
        method: the full name, `/package.Service/Method`.
        metadata: the caller's pairs.
        attempt: 1 for the first.
        exclude: ids of subchannels that this call has tried already.
        is_repeatable: whether it may be made again if it fails, since its method is idempotent.
    """

    method: str = ""
    metadata: Sequence[tuple[str, str | bytes]] = ()
    attempt: int = 1
    exclude: Set[int] = frozenset()
    is_repeatable: bool = False


ANY_CALL = CallInfo()
ANY_REPEATABLE_CALL = CallInfo(is_repeatable=True)


class Picker(Protocol):
    """Chooses among READY subchannels. Immutable."""

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the subchannel for this call; never block, never raise. None: nothing to pick.

        If it raises, or returns anything else, the one call that asked ends with INTERNAL and a text that says so.
        """


@runtime_checkable
class PickerFactory(Protocol):
    """Builds a channel's pickers; one per channel. State that outlives a picker lives here.

    What it may have besides:

    - `seed(rng)`: called before the first build with a `random.Random` of its own.
    - `endpoints(endpoints)`: called before a build, with every `Endpoint` of the resolver, READY or not, whenever
      they have changed.
    - `call_ended(sub, end)`: called with a `CallEnd` for each attempt that failed; from the thread that ran it, so
      it must not block, and what it raises goes to the log. With `needs_latency = True` it hears of every attempt,
      and with `needs_reports = True` of every attempt with the backend's load report (gRFC A51).
    - `reads_weight = False`: its pickers do not look at `Subchannel.weight`, so that slow start would come to nothing,
      and asking for it is an error.
    - `needs_call = False`: first attempts give `pick` a blank `CallInfo`, which saves making one per call.
    """

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        """Return a picker over these subchannels, in the resolver's order; maybe none.

        If it raises, the last good picker stays, and calls for which that has nothing that is READY take what is READY
        in turn; if none was ever built, calls end with INTERNAL. It is asked again at the next change, or after a
        second.
        """


PickerSource = str | Callable[[], PickerFactory]

_registry: dict[str, Callable[..., PickerFactory]] = {
    "round_robin": round_robin.RoundRobin,
    "pick_first": pick_first.PickFirst,
    "random": random_pick.RandomPick,
    "weighted_round_robin": weighted_round_robin.WeightedRoundRobin,
    "least_request": least_request.LeastRequest,
    "peak_ewma": peak_ewma.PeakEwma,
    "ring_hash": ring_hash.RingHash,
}

_SHIPPED = frozenset(_registry.values())


def is_shipped(factory: object) -> bool:
    """Whether a factory is one of healthlb's own, whose pickers need no check."""
    return type(factory) in _SHIPPED


def register_picker(name: str, factory: Callable[..., PickerFactory]) -> None:
    """Make a picker known by name, for `picker=` and for service configs.

    Args:
        name: letters, digits and underscores, as gRPC's policy names.
        factory: a callable that needs no arguments and returns a `PickerFactory`; a class will do. Keyword
            arguments that it can take are what a service config may give: `{"my_policy": {"minShare": 1}}` is
            `min_share=1`.

    Raises:
        ConfigError: the name is malformed or the factory is not callable.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"picker name must be letters, digits and underscores, not {name!r}")
    if not callable(factory):
        raise ConfigError(f"picker {name!r} must be registered with a callable, not {factory!r}")
    _registry[name] = factory


def picker_names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_registry))


def make_factory(source: PickerSource, rng: random.Random) -> PickerFactory:
    """Return a new factory for `picker=`, seeded from `rng`.

    Raises:
        ConfigError: the name is unknown, or the callable does not return a factory.
    """
    if isinstance(source, str):
        if source not in _registry:
            raise ConfigError(f"picker must be one of {', '.join(picker_names())} or a callable, not {source!r}")
        source = _registry[source]
    if not callable(source):
        raise ConfigError(f"picker must be a name or a callable that returns a PickerFactory, not {source!r}")
    factory = source()
    if not isinstance(factory, PickerFactory):
        raise ConfigError(f"picker must return a PickerFactory (an object with build), not {factory!r}")
    seed = getattr(factory, "seed", None)
    if seed is not None:
        seed(rng)
    return factory


def service_config_picker(entries: Sequence[Mapping[str, Any]]) -> PickerSource:
    """Return the first policy of a `loadBalancingConfig` that is known here, with its arguments.

    Raises:
        ConfigError: none is known, or it takes no such arguments.
    """
    choices = [choice for entry in entries for choice in entry.items()]
    for name, arguments in choices:
        if name in _registry:
            return name if arguments == {} else with_arguments(name, _registry[name], arguments)
    names = [name for name, _ in choices]
    raise ConfigError(f"loadBalancingConfig names none of {', '.join(picker_names())}: {names!r}")
