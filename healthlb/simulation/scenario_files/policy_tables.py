"""What the clients' channels are given: a policy of a scenario file as the library's own configuration.

What a policy does not name is off, as failover, ejection and heartbeats; a table that it names has the
class's defaults for what is not in it. `preset = "default"` begins with what a channel has by itself instead, and
`preset = "resilient"` with that preset; their tables are then changed by what is named.

The short forms are those of one line each: `picker = "rr"`, `retries = 1`, `budget = { max_tokens = 10, ratio = 0.1 }`,
`panic = 0.5`, `outlier = { interval = "1s", base = "3s", cap = "30s", max_pct = 30, failure_pct = 50 }`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from healthlb.config import DEFAULTS, ChannelConfig, Failover, FlapDamping, HealthCheck, Heartbeat, SlowStart, Subset
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.config.overload import Overload
from healthlb.core.pickers import PickerSource, flag, make_factory, picker_names, service_config_picker
from healthlb.core.random_streams import Streams
from healthlb.presets import resilient
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.scenario import PickerWithArguments, Policy
from healthlb.simulation.scenario_files.config_tables import read_budget, read_config
from healthlb.simulation.scenario_files.table import Table

PICKER_ALIASES = {"rr": "round_robin", "p2c": "least_request", "wrr": "weighted_round_robin", "ewma": "peak_ewma"}
KEYS = (
    *("preset", "picker", "service", "health", "heartbeat", "damping", "failover", "retries", "budget"),
    *("attempt_timeout", "codes", "outliers", "outlier", "overload", "subset", "panic_threshold", "panic"),
    *("slow_start", "drain"),
)
PRESETS = ("default", "resilient")
# What a policy begins with that names no preset.
_OFF = ChannelConfig(health=HealthCheck(heartbeat=None), failover=None, outliers=None, overload=None)


def read_policy(name: str, table: Table) -> Policy:
    """Return a policy.

    Raises:
        ScenarioError: a key is unknown, or a value of the wrong type or out of its bounds.
    """
    for key in KEYS:
        # An error tells of all keys there may be.
        table.raw(key, None)
    base = _read_preset(table)
    service = table.raw("service", "")
    if service is not False and not isinstance(service, str):
        raise table.wrong("service", "text, or false for no health checking")
    picker = _read_picker(table)
    policy = Policy(
        name=name,
        picker=picker,
        service=None if service is False else service,
        health=_read_health(table, base.health),
        failover=_read_failover(table, base.failover),
        outliers=_read_outliers(table, base.outliers),
        subset=_read_subset(table),
        overload=_optional(table, "overload", Overload, base.overload),
        panic_threshold=_read_panic_threshold(table),
        drain=_read_drain(table),
        slow_start=_read_slow_start(table, picker),
    )
    table.done()
    return policy


def default_policy() -> Policy:
    """Return what a channel has by itself."""
    return Policy(name="default")


def _read_preset(table: Table) -> ChannelConfig:
    value = table.raw("preset", None)
    if value is None:
        return _OFF
    given = table.table("preset") if isinstance(value, Mapping) else Table(table.source, table.key("preset"), {})
    name = given.text("name", among=PRESETS) if isinstance(value, Mapping) else table.text("preset", among=PRESETS)
    if name == "default":
        given.done()
        return DEFAULTS
    options: dict[str, Any] = {}
    for option in ("hedging_delay", "attempt_timeout"):
        if option in given:
            length = given.duration(option, None, low=1)
            options[option] = None if length is None else length / 1e9
    given.done()
    return ChannelConfig(**table.checked(resilient, **options))


def _read_picker(table: Table) -> PickerSource:
    value = table.raw("picker", "round_robin")
    if isinstance(value, Mapping):
        return _picker_with_arguments(table, dict(value))
    name = table.text("picker", "round_robin", among=(*picker_names(), *PICKER_ALIASES))
    return PICKER_ALIASES.get(name, name)


def _picker_with_arguments(table: Table, value: dict[str, Any]) -> PickerSource:
    """Return a picker as `{ name = "least_request", choice_count = 3 }`; the arguments are its constructor's."""
    given = Table(table.source, table.key("picker"), value)
    name = given.text("name", among=(*picker_names(), *PICKER_ALIASES))
    del value["name"]
    source = table.checked(service_config_picker, [{PICKER_ALIASES.get(name, name): value}])
    # Its arguments are looked at only when one is made.
    table.checked(make_factory, source, Streams(0).stream("check"))
    if isinstance(source, str):
        return source
    return PickerWithArguments(PICKER_ALIASES.get(name, name), value, source)


def _read_health(table: Table, base: HealthCheck) -> HealthCheck:
    health, has_preset = base, "preset" in table
    if "health" in table:
        health = read_config(table.table("health"), HealthCheck, base if has_preset else None)
    for name, kind in (("heartbeat", Heartbeat), ("damping", FlapDamping)):
        if name in table:
            own = getattr(health, name) if has_preset else None
            health = replace(health, **{name: _optional(table, name, kind, own)})
    return health


def _read_subset(table: Table) -> Subset | None:
    size = table.raw("subset", None)
    if isinstance(size, Mapping) or size is None or size is False:
        subset: Subset | None = _optional(table, "subset", Subset, None)
        return subset
    return Subset(size=table.count("subset", low=1))


def _read_failover(table: Table, base: Failover | None) -> Failover | None:
    short = [name for name in ("retries", "budget", "attempt_timeout", "codes") if name in table]
    if "failover" in table:
        if short:
            raise table.error(f"{table.key(short[0])} and {table.key('failover')} say the same; give one of them")
        failover: Failover | None = _optional(table, "failover", Failover, base)
        return failover
    if not short:
        return base
    if "retries" not in table:
        raise table.error(f"{table.key(short[0])} needs {table.key('retries')}")
    retries = table.count("retries", low=0, high=19)
    timeout = table.duration("attempt_timeout", None, low=1)
    has_budget = table.raw("budget", False) is not False
    return None if retries == 0 else table.checked(
        Failover,
        max_attempts=retries + 1,
        budget=read_budget(table.table("budget")) if has_budget else None,
        attempt_timeout=None if timeout is None else timeout / 1e9,
        **({"codes": table.texts("codes")} if "codes" in table else {}),
    )  # fmt: skip


def _read_outliers(table: Table, base: Outliers | None) -> Outliers | None:
    if "outlier" not in table:
        outliers: Outliers | None = _optional(table, "outliers", Outliers, base)
        return outliers
    if "outliers" in table:
        raise table.error(f"{table.key('outlier')} and {table.key('outliers')} say the same; give one of them")
    return None if table.raw("outlier") is False else _short_outliers(table.table("outlier"))


def _short_outliers(table: Table) -> Outliers:
    """Return ejections as A50 has them; of rules, those that are named, and A50's own two where none is."""
    times = {"interval": "interval", "base": "base_ejection_time", "cap": "max_ejection_time"}
    given: dict[str, Any] = {"base_ejection_time": 30.0, "ejection_growth": None}
    given |= {
        field: table.checked(parse_duration, table.key(name), table.raw(name), low=1) / 1e9
        for name, field in times.items()
        if table.raw(name, None) is not None
    }
    if table.raw("max_pct", None) is not None:
        given["max_ejection_percent"] = table.count("max_pct", low=0, high=100)
    threshold = table.count("failure_pct", None, low=0, high=100)
    factor = table.count("stdev_factor", None, low=0)
    consecutive = table.count("consecutive", None, low=1)
    hosts, volume = table.count("hosts", 5, low=1), table.count("volume", None, low=1)
    is_silent = threshold is None and factor is None and consecutive is None
    rate = SuccessRate(
        stdev_factor=1900 if factor is None else factor, minimum_hosts=hosts, request_volume=volume or 100
    )
    failures = FailurePercentage(
        threshold=85 if threshold is None else threshold, minimum_hosts=hosts, request_volume=volume or 50
    )
    table.done()
    return table.checked(
        Outliers,
        consecutive_failures=consecutive,
        consecutive_connection_failures=None,
        success_rate=rate if is_silent or factor is not None else None,
        failure_percentage=failures if is_silent or threshold is not None else None,
        **given,
    )


def _read_panic_threshold(table: Table) -> float:
    if "panic" in table and "panic_threshold" in table:
        raise table.error(f"{table.key('panic')} and {table.key('panic_threshold')} say the same; give one of them")
    return table.number("panic_threshold" if "panic_threshold" in table else "panic", 0.0, low=0, high=1)


def _read_drain(table: Table) -> float | None:
    drain = table.duration("drain", None, low=1)
    return None if drain is None else drain / 1e9


def _read_slow_start(table: Table, picker: PickerSource) -> SlowStart | None:
    slow_start: SlowStart | None
    if isinstance(table.raw("slow_start", None), str):
        slow_start = SlowStart(window=table.duration("slow_start", low=1) / 1e9)
    else:
        slow_start = _optional(table, "slow_start", SlowStart, None)
    if slow_start is not None and not flag(make_factory(picker, Streams(0).stream("check")), "reads_weight"):
        raise table.error(f"{table.key('slow_start')} needs a picker that reads weights, as weighted_round_robin")
    return slow_start


def _optional(table: Table, name: str, kind: type[Any], base: Any) -> Any:
    """Return a configuration object, None where the file says false, and the base where it says nothing."""
    value = table.raw(name, None)
    if value is None:
        return base
    return None if value is False else read_config(table.table(name), kind, base)
