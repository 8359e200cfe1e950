"""What a caller sees of a value, as text that is the same in every run: no addresses, no times, no private names."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio

_ADDRESS = re.compile(r"(ipv4:|ipv6:)?(%5B|\[)?(127\.0\.0\.1|localhost|::1)(%5D|\])?:\d+")
_IDENTITY = re.compile(r"0x[0-9a-f]{6,}")
_RUN = re.compile(r"/[rs]\d+/")

ABSTRACT: dict[str, type] = {
    name: kind
    for module, prefix in ((grpc, ""), (grpc.aio, "aio."))
    for name, kind in ((f"{prefix}{name}", getattr(module, name)) for name in dir(module))
    if inspect.isclass(kind) and (inspect.isabstract(kind) or issubclass(kind, BaseException))
}


class Described(str):
    """What was described already."""


def describe(value: Any) -> str:
    """Return what a caller sees of `value`."""
    if isinstance(value, Described):
        return value
    if isinstance(value, grpc.Call | grpc.Future | grpc.aio.Call):
        return f"<call: {_classes(value)}>"
    if isinstance(value, BaseException):
        return describe_error(value)
    if isinstance(value, str | bytes | bool | int | type(None)):
        return scrub(repr(value))
    if isinstance(value, float):
        return "a float"
    if isinstance(value, grpc.StatusCode):
        return value.name
    if value is grpc.aio.EOF:
        return "EOF"
    if isinstance(value, grpc.aio.Metadata):
        return f"Metadata{[tuple(pair) for pair in value]}"
    if type(value) in (tuple, list):
        return "[" + ", ".join(describe(part) for part in value) + "]"
    if isinstance(value, tuple):  # a pair of metadata
        return "(" + ", ".join(describe(part) for part in value) + ")"
    return f"<{_classes(value) or _public_name(value)}>"


def describe_error(error: BaseException) -> Described:
    """Return what a caller sees of an error that was raised; a call that is an error must be over."""
    parts = [f"args={describe(error.args)}"]
    for name in ("code", "details", "initial_metadata", "trailing_metadata"):
        ask = getattr(error, name, None)
        if callable(ask):
            parts.append(f"{name}={_answer(ask)}")
    if "secret" in f"{error!r}{error}{error.args!r}":
        parts.append("WITH A SECRET")
    return Described(f"{_public_name(error)}({', '.join(parts)}; {_classes(error)})")


def _answer(ask: Any) -> str:
    try:
        return describe(ask())
    except Exception as error:
        return f"raises {type(error).__name__}"


def _classes(value: Any) -> str:
    """Return the public classes of grpcio that `value` is an instance of."""
    return " ".join(name for name, kind in ABSTRACT.items() if isinstance(value, kind))


def _public_name(value: Any) -> str:
    """Return the name of its first class that is public, and not healthlb's."""
    kinds = (kind for kind in type(value).__mro__ if not kind.__module__.startswith("healthlb"))
    return next(kind.__name__ for kind in kinds if _is_public(kind))


def _is_public(kind: type) -> bool:
    return kind in ABSTRACT.values() if kind.__module__.startswith("grpc") else not kind.__name__.startswith("_")


def scrub(text: str) -> str:
    """Return `text` without addresses, identities and the names of runs."""
    return _RUN.sub("/run/", _IDENTITY.sub("0x...", _ADDRESS.sub("<address>", text)))


def kind_of_seconds(seconds: float | None) -> str:
    """Return how much time remains, coarsely."""
    if seconds is None:
        return "none"
    return "over" if seconds <= 0 else "within 60 s" if seconds <= 60 else "far"


def pending_tasks() -> Iterator[asyncio.Task[Any]]:
    """Yield the tasks of the running loop that are not over, but this one."""
    return (task for task in asyncio.all_tasks() if task is not asyncio.current_task())
