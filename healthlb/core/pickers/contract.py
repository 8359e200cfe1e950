"""What a picker and its factory are, and what is checked of a factory that the user wrote.

The one rule: a picker is immutable and built anew at each change; what must outlive it (rotation, weights) lives in its
factory, one per channel.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence, Set
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, Protocol

from healthlb.config import check_callable
from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers.orca import LoadReport
from healthlb.core.states import Code
from healthlb.core.user_code import name_of
from healthlb.errors import ConfigError

# Of the backend's making. NOT_FOUND and the like are answers; CANCELLED is the caller's.
BACKEND_FAILURES = frozenset(
    {
        Code.UNAVAILABLE,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.DATA_LOSS,
    }
)


class CallEnd(NamedTuple):
    """One attempt's end.

    Attributes:
        code: its status; CANCELLED says nothing about the backend but how long it had not answered.
        at: when, in nanoseconds on the monotonic clock.
        seconds: how long it took, None for streams, whose length says nothing.
        report: the backend's load report (gRFC A51), None where it sent none or the factory does not need it.
    """

    code: Code
    at: int
    seconds: float | None = None
    report: LoadReport | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the backend is to blame."""
        return self.code in BACKEND_FAILURES


Flag = Literal["needs_call", "needs_latency", "needs_reports", "reads_weight"]
Hook = Literal["seed", "endpoints", "call_ended"]

_FLAGS: tuple[Flag, ...] = ("needs_call", "needs_latency", "needs_reports", "reads_weight")
_HOOKS = {"build": "ready", "seed": "rng", "endpoints": "endpoints", "call_ended": "sub, end"}
# How alike two names are of which one is a misspelling: `need_call`, `call_end`, `endpoint`.
_ALIKE = 0.84


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


class PickerBuilder(Protocol):
    """The least that a factory is: an object with `build`. Everything else of `PickerFactory` is optional."""

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        """Return a picker over these subchannels; see `PickerFactory.build`."""


class PickerFactory:
    """Builds a channel's pickers; one per channel. State that outlives a picker lives here.

    Derive from it, define `build`, and change what else the pickers need. A class that does not derive from it, but has
    a method `build`, is a factory too: what it lacks is as here.

    Attributes:
        needs_call: whether `pick` looks at the `CallInfo` of first attempts; where it does not, they give it a blank
            one, which saves making one for every call. Default True.
        needs_latency: whether `call_ended` hears of the attempts that succeeded, too. Default False.
        needs_reports: whether it hears of all of them, with the load reports that backends send (gRFC A51). Default
            False.
        reads_weight: whether the pickers look at `Subchannel.weight`; where they do not, slow start would come to
            nothing, and asking for it is a `ConfigError`. Default True.
    """

    needs_call: bool = True
    needs_latency: bool = False
    needs_reports: bool = False
    reads_weight: bool = True

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        """Return a picker over these subchannels, in the resolver's order; there may be none.

        If it raises, the last good picker stays, and calls for which that has nothing that is READY take what is READY
        in turn; if none was ever built, calls end with INTERNAL. It is asked again at the next change, or after a
        second.
        """
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def seed(self, rng: random.Random) -> None:
        """Take a random stream of one's own; called once, before the first build. Does nothing by default."""

    def endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Take in every endpoint of the resolver, READY or not; called before a build, whenever they have changed.

        Does nothing by default.
        """

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        """Take in how an attempt ended: one that failed, or any; see `needs_latency` and `needs_reports`.

        It is called in the thread that ran the attempt, so it must not block. What it raises goes to the log. Does
        nothing by default.
        """


PickerSource = str | Callable[[], PickerBuilder]


def flag(factory: PickerBuilder, name: Flag) -> bool:
    """Return what a factory says it needs; the default of `PickerFactory` where it does not say."""
    return bool(getattr(factory, name, getattr(PickerFactory, name)))


def hook(factory: PickerBuilder, name: Hook) -> Callable[..., object] | None:
    """Return a method that a factory has beside `build`, None where it has that of `PickerFactory`, or none."""
    found: Callable[..., object] | None = getattr(factory, name, None)
    return None if getattr(found, "__func__", None) is getattr(PickerFactory, name) else found


def check_factory(factory: object) -> None:
    """Check what a user's factory has, as far as that can be done without a call.

    Raises:
        ConfigError: it has no `build`; a name in it looks like a misspelling of one of `PickerFactory`'s; a flag of it
            is no bool; or a method of it does not take what it will be called with, or is a coroutine function.
    """
    own = list(_own_names(factory))
    build = getattr(factory, "build", None)
    if not callable(build) or getattr(build, "__func__", None) is PickerFactory.build:
        hint = "".join(f"; did you mean {name!r} to be its 'build'?" for name in get_close_matches("build", own, 1))
        raise ConfigError(f"picker must return a PickerFactory (an object with build), not {factory!r}{hint}")
    known = {_plain(name): name for name in (*_FLAGS, *_HOOKS)}
    for name in own:
        meant = [known[one] for one in get_close_matches(_plain(name), known, 1, _ALIKE)]
        if meant and meant[0] not in own:
            raise ConfigError(f"the picker factory {name_of(factory)} has {name!r}: did you mean {meant[0]!r}?")
    for name in _FLAGS:
        value = getattr(factory, name, True)
        if not isinstance(value, bool):
            raise ConfigError(f"the picker factory {name_of(factory)} must have {name} = True or False, not {value!r}")
    for name, arguments in _HOOKS.items():
        method = getattr(factory, name, None)
        if not _takes(method, arguments):
            raise ConfigError(f"the picker factory {name_of(factory)} must have a method {name}({arguments})")
        if method is not None:
            check_callable(f"{name} of the picker factory {name_of(factory)}", method)


def _own_names(factory: object) -> Iterator[str]:
    """Yield the names of the methods and flags that are the user's."""
    for owner in (factory, *(one for one in type(factory).__mro__ if one not in (object, PickerFactory))):
        for name, value in getattr(owner, "__dict__", {}).items():
            if not name.startswith("_") and (isinstance(value, bool) or inspect.isroutine(value)):
                yield name


def _takes(method: Any, arguments: str) -> bool:
    """Whether a method, None for none, can be called with these."""
    try:
        return method is None or inspect.signature(method).bind(*arguments.split(", ")) is not None
    except ValueError:
        return True  # What is written in C need not say what it takes.
    except TypeError:
        return False


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
