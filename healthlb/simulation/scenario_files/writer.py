"""A scenario as a TOML file: what `scenario_file` reads back as the same scenario.

What is as it is by default is left out. Durations are written with their unit, to the nanosecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from healthlb.config import Failover, HealthCheck
from healthlb.config.outliers import Outliers
from healthlb.config.overload import Overload
from healthlb.core.pickers import flag, make_factory
from healthlb.core.random_streams import Streams
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import UNITS
from healthlb.simulation.scenario.laws import (
    Bimodal,
    BoundedPareto,
    Deterministic,
    Empirical,
    Exponential,
    Law,
    Lognormal,
    Uniform,
)
from healthlb.simulation.scenario.scenario import (
    BackendGroup,
    ClientGroup,
    Fault,
    Load,
    PickerWithArguments,
    Policy,
    Scenario,
)
from healthlb.simulation.scenario_files.config_tables import is_duration
from healthlb.simulation.scenario_files.world_tables import matching, zones_of

_TIMES = frozenset({
    *("wire", "jitter", "max_age", "accept", "tls", "watch_lag", "cold", "deadline", "start"),
    *("period", "cpu", "dns_cache", "until", "phase", "latency", "drain", "stagger", "duration", "warmup"),
})  # fmt: skip
_DISTS: Mapping[type[Any], tuple[str, tuple[str, ...]]] = {
    Exponential: ("exponential", ("mean",)),
    Uniform: ("uniform", ("low", "high")),
    Bimodal: ("bimodal", ("short", "long", "share")),
    BoundedPareto: ("pareto", ("low", "high", "alpha")),
}


def to_toml(scenario: Scenario) -> str:
    """Return the text of a scenario file.

    Raises:
        ConfigError: something in it cannot be written down, as a law or a picker of a program's own.
    """
    lines = [f"{name} = {value}" for name, value in _head(scenario)]
    for kind, groups in (("backend", scenario.backends), ("client", scenario.clients)):
        for group in groups:
            lines += ["", f"[[{kind}]]", *_pairs(group, ("name", "count"))]
    for name, policy in scenario.policies.items():
        lines += ["", f"[policy.{_text(name)}]", *(f"{key} = {value}" for key, value in _policy(policy))]
    for fault in filter(partial(_strikes, scenario), scenario.faults):
        lines += ["", "[[fault]]", *_pairs(fault, ("target", "addresses"), skipped=_unused(fault))]
    return "\n".join([*lines, ""])


def _strikes(scenario: Scenario, fault: Fault) -> bool:
    """Whether a fault has any effect: a file that has one without is refused."""
    backends, clients = zones_of(scenario.backends), zones_of(scenario.clients)
    is_of_server = fault.kind not in ("resolver", "stall")
    return bool(matching(fault.clients, clients)) and (not is_of_server or bool(matching(fault.target, backends)))


def _head(scenario: Scenario) -> Iterator[tuple[str, str]]:
    yield from (("schema", "1"), ("name", _text(scenario.name)))
    if scenario.title:
        yield "title", _text(scenario.title)
    yield "seed", str(scenario.seed)
    for name in ("duration", "warmup", "drain"):
        yield name, _time(getattr(scenario, name))
    if scenario.replications != 1:
        yield "replications", str(scenario.replications)
    if scenario.addresses is not None:
        yield "resolver", f"{{ addresses = {_value('addresses', scenario.addresses)} }}"


def _pairs(one: BackendGroup | ClientGroup | Fault, kept: tuple[str, ...], skipped: frozenset[str] = frozenset()
           ) -> Iterator[str]:  # fmt: skip
    """Yield a line for each field that is not as it is by default, or that is kept in any case."""
    bare = {BackendGroup: ("service",), Fault: ("kind",)}.get(type(one), ())
    default = type(one)(**{name: getattr(one, name) for name in bare})
    for field in fields(one):
        name, value = field.name, getattr(one, field.name)
        is_plain = value == getattr(default, name) and name not in (*bare, *kept, "load")
        if is_plain or name in skipped or (name == "until" and value is None):
            continue
        key = {"start": "from"}.get(name, name) if isinstance(one, Fault) else name
        yield f"{key} = {_value('until' if key == 'from' else name, value)}"


def _unused(fault: Fault) -> frozenset[str]:
    """Return what a fault of this kind does not have, or has without effect."""
    is_of_client = fault.kind in ("resolver", "stall")
    names = {"target"} if is_of_client else set()
    if fault.period is None:
        names |= {"duty", "phase"}
    if fault.kind != "resolver" or fault.error:
        names.add("addresses")
    return frozenset(names)


def _policy(policy: Policy) -> Iterator[tuple[str, str]]:
    picker = policy.picker
    if isinstance(picker, PickerWithArguments):
        arguments = (f"{name} = {_value('', value)}" for name, value in picker.arguments.items())
        yield "picker", f"{{ {', '.join([f'name = {_text(picker.name)}', *arguments])} }}"
    elif isinstance(picker, str):
        yield "picker", _text(picker)
    else:
        raise ConfigError(f"a picker that has no name cannot be written down: {picker!r}")
    if policy.service != "":
        yield "service", "false" if policy.service is None else _text(policy.service)
    yield "health", _config(policy.health)
    for name, kind in (("failover", Failover), ("outliers", Outliers), ("overload", Overload)):
        value = getattr(policy, name)
        assert value is None or isinstance(value, kind)
        yield name, "false" if value is None else _config(value)
    if policy.subset is not None:
        yield "subset", _config(policy.subset)
    # Slow start is refused where the picker takes no notice of weights, and has no effect there.
    reads_weight = flag(make_factory(policy.picker, Streams(0).stream("check")), "reads_weight")
    for name, value in policy.extras.items():
        if name == "slow_start" and not reads_weight:
            continue
        # A number alone is seconds in a file, as it is here; by this name scenarios and faults have nanoseconds.
        yield name, _config(value) if is_dataclass(value) else _value("", value)


def _config(one: Any) -> str:
    """Return an inline table of a configuration object's fields, those that are as by default left out."""
    default = type(one)() if isinstance(one, HealthCheck | Failover | Outliers | Overload) else None
    parts = []
    for field in fields(one):
        value = getattr(one, field.name)
        if default is None or value != getattr(default, field.name):
            parts.append(f"{field.name} = {_option(type(one), field.name, value)}")
    return f"{{ {', '.join(parts)} }}" if parts else "{}"


def _option(kind: type[Any], name: str, value: Any) -> str:
    if value is None:
        return "false"
    if is_dataclass(value):
        return _config(value)
    return repr(float(value)) if is_duration(kind, name) else _value("", value)


def _value(name: str, value: Any) -> str:
    if isinstance(value, Load):
        return _load(value)
    if name in ("service", "work"):
        return _law(value)
    if name == "phase" and value is None:
        return '"random"'
    if name in _TIMES:
        return _time(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        value = sorted(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value('', one) for one in value)}]"
    return repr(value) if isinstance(value, int | float) else _text(str(value))


def _load(load: Load) -> str:
    fanout = "" if load.fanout == 1 else f", fanout = {load.fanout}"
    return f"{{ {_arrivals(load)}{fanout} }}"


def _arrivals(load: Load) -> str:
    match load.kind:
        case "closed":
            think = "" if load.think is None else f", think = {_law(load.think)}"
            return f"closed = {{ users = {load.users}{think} }}"
        case "burst":
            return f"burst = {{ size = {load.size}, period = {_time(load.period)} }}"
        case "trace":
            return f"trace = [{', '.join(_time(at) for at in load.times)}]"
    name = "rho" if load.rate is None else "rate"
    return f'kind = "{load.kind}", {name} = {getattr(load, name)!r}'


def _law(law: Law) -> str:
    if isinstance(law, Deterministic):
        return _time(law.value)
    if isinstance(law, Empirical):
        return f'{{ dist = "empirical", values = [{", ".join(_time(value) for value in law.values)}] }}'
    if isinstance(law, Lognormal):
        ratio = (law.mean_square / law.mean**2) - 1
        return f'{{ dist = "lognormal", mean = {_time(law.mean)}, cv2 = {ratio!r} }}'
    if type(law) not in _DISTS:
        raise ConfigError(f"a law that has no name cannot be written down: {law!r}")
    dist, names = _DISTS[type(law)]
    parts = [f"{name} = {_number(name, getattr(law, name))}" for name in names]
    return f'{{ dist = "{dist}", {", ".join(parts)} }}'


def _number(name: str, value: float) -> str:
    return repr(value) if name in ("share", "alpha") else _time(value)


def _time(nanoseconds: float) -> str:
    whole = round(nanoseconds)
    unit = next(unit for unit in ("s", "ms", "us", "ns") if whole % UNITS[unit] == 0)
    return f'"{whole // UNITS[unit]}{unit}"'


def _text(value: str) -> str:
    # What JSON quotes, TOML's basic strings take, but for the delete character.
    return json.dumps(value).replace("\x7f", "\\u007f")
