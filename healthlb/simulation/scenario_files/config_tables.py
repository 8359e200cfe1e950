"""The library's own configuration objects, from the tables of a scenario file.

A table's keys are the fields of the class, under the same names; so that a policy that was tried can be
written down in a program without a translation. Durations may have units, and `false` stands for None.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from healthlb.config import Backoff, Failover, FlapDamping, HealthCheck, Heartbeat, RetryBudget, RetryThrottle
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario_files.table import Table

C = TypeVar("C")

# The durations that the core does not read as nanoseconds from a property of their class.
_SECONDS = frozenset({"attempt_timeout", "hedging_delay", "max_suppress"})
_NESTED: Mapping[tuple[type[Any], str], type[Any]] = {
    (HealthCheck, "backoff"): Backoff,
    (HealthCheck, "reconnect"): Backoff,
    (HealthCheck, "heartbeat"): Heartbeat,
    (HealthCheck, "damping"): FlapDamping,
    (Failover, "backoff"): Backoff,
    (Outliers, "success_rate"): SuccessRate,
    (Outliers, "failure_percentage"): FailurePercentage,
}
# What a channel of a simulation has no use for.
_LEFT_OUT = frozenset({"metadata", "buffer_limit"})


def read_config(table: Table, kind: type[C], base: C | None = None) -> C:
    """Return a configuration object.

    Args:
        table: holds values of its fields.
        kind: the class, a frozen dataclass.
        base: has the values that the table does not name, nor a table in it; None for the class's defaults.

    Raises:
        ScenarioError: a key is unknown, or a value of the wrong type or out of its bounds.
    """
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in _LEFT_OUT:
            continue
        value = table.raw(field.name, None)
        if field.name in table:
            given[field.name] = _value(table, kind, field, value, getattr(base, field.name, None))
    table.done()
    if base is not None:
        made: C = table.checked(dataclasses.replace, base, **given)
        return made
    try:
        return table.checked(kind, **given)
    except TypeError as error:
        missing = [field.name for field in dataclasses.fields(kind) if _is_required(field, given)]  # type: ignore[arg-type]
        raise table.error(f"{table.key(missing[0])} is missing") from error


def is_duration(kind: type[Any], name: str) -> bool:
    """Whether a field of a configuration class is a number of seconds."""
    return name in _SECONDS or hasattr(kind, f"{name}_ns")


def _is_required(field: dataclasses.Field[Any], given: Mapping[str, Any]) -> bool:
    has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return not has_default and field.name not in given


def _value(table: Table, kind: type[Any], field: dataclasses.Field[Any], value: object, base: object) -> object:
    name = field.name
    if value is False and "None" in str(field.type) and "bool" not in str(field.type) and name != "idempotent":
        return None
    if (kind, name) == (Failover, "budget"):
        return read_budget(table.table(name), base if isinstance(base, RetryBudget) else None)
    if (kind, name) in _NESTED:
        return read_config(table.table(name), _NESTED[kind, name], base)
    if is_duration(kind, name):
        return table.checked(parse_duration, table.key(name), value) / 1e9
    return tuple(value) if isinstance(value, list) else value


def read_budget(table: Table, base: RetryBudget | None = None) -> RetryBudget | RetryThrottle:
    """Return a retry budget: gRPC's own where it has `max_tokens`, whose `token_ratio` may be called `ratio`.

    Args:
        table: holds its values.
        base: has those that the table does not name; None for the class's defaults.
    """
    if "max_tokens" not in table:
        return read_config(table, RetryBudget, base)
    tokens = table.number("max_tokens", above=0, high=1000)
    ratio = table.number("token_ratio" if "token_ratio" in table else "ratio", low=0.001)
    table.done()
    if tokens != int(tokens):
        raise table.wrong("max_tokens", "a whole number")
    return RetryThrottle(max_tokens=int(tokens), token_ratio=ratio)
