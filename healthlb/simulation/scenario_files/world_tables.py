"""Who serves, who calls and what goes wrong, from the tables of a scenario file.

What can only be a mistake is one. A fault that strikes nobody, a name that two backends share, or a key
that a fault of its kind does not have, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from healthlb.config import code_name
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.scenario import BackendGroup, ClientGroup, Fault, Load
from healthlb.simulation.scenario_files.table import Table
from healthlb.simulation.world.faults import select
from healthlb.simulation.world.health import CHECKS, MODES

MOST_BACKENDS = 10_000
MOST_CLIENTS = 10_000
MOST_RATE = 1e7
DISCIPLINES = ("fifo", "ps", "lifo", "inf")
HEALTHS = MODES
LOADS = ("poisson", "steady", "closed", "burst", "trace")
CRASH_MODES = ("rst", "blackhole", "half-open")
STATUSES = ("NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN", *MODES)
_AGAIN = ("period", "duty", "phase", "stagger")
# What each kind of fault has besides `target`, `from` and `until`.
FAULTS: Mapping[str, tuple[str, ...]] = {
    "crash": (*_AGAIN, "mode"),
    "health": (*_AGAIN, "mode", "code"),
    "error": (*_AGAIN, "rate", "code", "latency"),
    "slow": (*_AGAIN, "factor"),
    "pause": _AGAIN,
    "blackhole": (*_AGAIN, "clients"),
    "partition": (*_AGAIN, "clients"),
    "goaway": (*_AGAIN, "clients"),
    "drain": (*_AGAIN, "drain", "mode"),
    "resolver": ("period", "duty", "phase", "addresses", "error"),
    "cold": (*_AGAIN, "factor"),
    "stall": (*_AGAIN, "clients"),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_PER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*/\s*(ms|s|m|h)\s*")
_UNITS = {"ms": 1000.0, "s": 1.0, "m": 1 / 60, "h": 1 / 3600}


def read_backends(tables: Sequence[Table]) -> tuple[BackendGroup, ...]:
    """Return the groups of backends, whose names all differ.

    Raises:
        ScenarioError: a key is unknown, or a value of the wrong type or out of its bounds.
    """
    groups = tuple(_read_backend(table) for table in tables)
    _check_names(tables, [(group.name, group.count) for group in groups], MOST_BACKENDS, "backends")
    return groups


def _read_backend(table: Table) -> BackendGroup:
    group = BackendGroup(
        name=_name(table, "b"),
        count=table.count("count", 1, low=1, high=MOST_BACKENDS),
        slots=table.count("slots", 1, low=1, high=1_000_000),
        discipline=table.text("discipline", "fifo", among=DISCIPLINES),
        queue=table.count("queue", None, low=0),
        service=table.law("service"),
        wire=table.duration("wire", 1_000_000),
        jitter=table.duration("jitter", 0),
        zone=table.text("zone", ""),
        weight=table.count("weight", 1, low=1, high=1_000_000),
        speed=table.number("speed", 1.0, above=0, high=1e6),
        max_streams=table.count("max_streams", None, low=1),
        drop_cancelled=table.flag("drop_cancelled"),
        health=table.text("health", "honest", among=HEALTHS),
        checks=table.text("checks", "pool", among=CHECKS),
        max_age=table.duration("max_age", None, low=1_000_000),
        accept=table.duration("accept", 0),
        tls=table.duration("tls", 0),
        watch_lag=table.duration("watch_lag", 0),
        cold=table.duration("cold", 0),
        cold_speed=table.number("cold_speed", 0.1, above=0, high=1),
    )
    if not group.service.mean > 0:
        raise table.wrong("service", "a law whose mean is above 0")
    if group.checks == "loop" and (group.slots, group.discipline) != (1, "fifo"):
        raise table.error(f"{table.key('checks')} = 'loop' needs slots = 1 and discipline = 'fifo'")
    table.done()
    return group


def read_clients(tables: Sequence[Table]) -> tuple[ClientGroup, ...]:
    """Return the groups of clients, whose names all differ.

    Raises:
        ScenarioError: a key is unknown, or a value of the wrong type or out of its bounds.
    """
    groups = tuple(_read_client(table) for table in tables)
    _check_names(tables, [(group.name, group.count) for group in groups], MOST_CLIENTS, "clients")
    return groups


def _read_client(table: Table) -> ClientGroup:
    group = ClientGroup(
        name=_name(table, "c"),
        count=table.count("count", 1, low=1, high=MOST_CLIENTS),
        load=_read_load(table.table("load")),
        start=_read_start(table),
        deadline=table.duration("deadline", None, low=1),
        wait_for_ready=table.flag("wait_for_ready"),
        idempotent=table.flag("idempotent", True),
        zone=table.text("zone", ""),
        work=table.law("work", None),
        cpu=table.duration("cpu", 0),
        dns_cache=table.duration("dns_cache", 0),
    )
    table.done()
    return group


def _read_load(table: Table) -> Load:
    kind = table.text("kind", _kind_of(table), among=LOADS)
    # `closed = { users = 50 }` is the same as `kind = "closed", users = 50`; `burst` likewise.
    inner = table.table(kind) if kind in ("closed", "burst") and kind in table else table
    fanout = table.count("fanout", 1, low=1, high=100_000)
    match kind:
        case "poisson" | "steady":
            rho = table.number("rho", None, above=0, high=100)
            load = Load(kind=kind, rate=_rate(table), rho=rho, fanout=fanout)
            if (load.rate is None) == (load.rho is None):
                raise table.error(f"{table.key('rate')} or {table.key('rho')} must be given, and not both")
        case "closed":
            users = inner.count("users", low=1, high=1_000_000)
            load = Load(kind=kind, users=users, think=inner.law("think", None), fanout=fanout)
        case "burst":
            size = inner.count("size", low=1, high=1_000_000)
            load = Load(kind=kind, size=size, period=inner.duration("period", low=1_000), fanout=fanout)
        case _:
            load = Load(kind=kind, times=_times(table), fanout=fanout)
    inner.done()
    table.done()
    return load


def _kind_of(table: Table) -> str:
    return next((kind for kind in ("closed", "burst", "trace") if kind in table), "poisson")


def _rate(table: Table) -> float | None:
    """Take calls per second, as a number or as "120/s" or "5/ms"."""
    value = table.raw("rate", None)
    if value is None:
        return None
    if isinstance(value, str):
        match = _PER.fullmatch(value)
        if match is None:
            raise table.wrong("rate", "a number of calls per second, or text like '120/s'")
        value = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise table.wrong("rate", "a number of calls per second, or text like '120/s'")
    if not 0 < value <= MOST_RATE:
        raise table.wrong("rate", f"above 0 and at most {MOST_RATE:.0f} per second")
    return float(value)


def _times(table: Table) -> tuple[int, ...]:
    """Take when calls arrive; a file's name was replaced by what is in it before."""
    values = table.raw("trace")
    if not isinstance(values, list) or not values:
        raise table.wrong("trace", "a list of at least one time, or a file's name")
    times = tuple(table.checked(parse_duration, f"{table.key('trace')}[{i}]", value) for i, value in enumerate(values))
    if any(late < early for early, late in pairwise(times)):
        raise table.error(f"{table.key('trace')} must be in order of time")
    return times


def _read_start(table: Table) -> int:
    """Take "sync", or in how much time all clients begin: "5s", or "uniform(5s)"."""
    value = table.raw("start", "sync")
    if value == "sync":
        return 0
    inner = re.fullmatch(r"uniform\((.*)\)", value) if isinstance(value, str) else None
    return table.checked(parse_duration, table.key("start"), inner[1] if inner else value)


# --- faults ----------------------------------------------------------------------------------------


def read_faults(
    tables: Sequence[Table], backends: Mapping[str, str], clients: Mapping[str, str], duration: int
) -> tuple[Fault, ...]:
    """Return what goes wrong.

    Args:
        tables: one for each fault.
        backends: the zones of all backends by name, in order.
        clients: the zones of all clients by name, in order.
        duration: of the run, in nanoseconds.

    Raises:
        ScenarioError: a key is unknown, a value of the wrong type or out of its bounds, or a fault strikes nobody.
    """
    return tuple(_read_fault(table, backends, clients, duration) for table in tables)


def _read_fault(table: Table, backends: Mapping[str, str], clients: Mapping[str, str], duration: int) -> Fault:
    kind = table.text("kind", among=FAULTS)
    keys = FAULTS[kind]
    start = table.duration("from", 0)
    until = table.duration("until", None, low=start + 1)
    if start > duration:
        raise table.wrong("from", f"within the run's {duration / 1e9:g} s")
    fault = Fault(
        kind=kind,
        target=_target(table, "target", backends) if kind not in ("resolver", "stall") else "*",
        start=start,
        until=until,
        period=table.duration("period", None, low=1_000) if "period" in keys else None,
        duty=table.number("duty", 0.5, low=0, high=1) if "duty" in keys else 0.5,
        phase=_phase(table) if "phase" in keys else 0,
        mode=_mode(table, kind),
        rate=table.number("rate", 1.0, low=0, high=1) if "rate" in keys else 1.0,
        factor=_factor(table, kind) if "factor" in keys else 1.0,
        code=_code(table) if "code" in keys else "UNAVAILABLE",
        latency=table.duration("latency", 0) if "latency" in keys else 0,
        clients=_target(table, "clients", clients) if "clients" in keys else "*",
        addresses=read_addresses(table, backends) if kind == "resolver" else (),
        error=table.text("error", "") if kind == "resolver" else "",
        drain=table.duration("drain", 0) if "drain" in keys else 0,
        stagger=table.duration("stagger", 0) if "stagger" in keys else 0,
    )
    _check_period(table, fault)
    table.done()
    return fault


def _check_period(table: Table, fault: Fault) -> None:
    if fault.period is None and ("duty" in table or "phase" in table):
        raise table.error(f"{table.key('duty' if 'duty' in table else 'phase')} needs {table.key('period')}")
    if fault.kind == "resolver" and ("error" in table) == ("addresses" in table):
        raise table.error(f"{table.key('addresses')} or {table.key('error')} must be given, and not both")


def _phase(table: Table) -> int | None:
    return None if table.raw("phase", 0) == "random" else table.duration("phase", 0)


def _factor(table: Table, kind: str) -> float:
    """Take what the speed is multiplied by; a cold start has a tenth of it unless the file says more."""
    return table.number("factor", 0.1, above=0, high=1) if kind == "cold" else table.number("factor", above=0, high=1e6)


def _mode(table: Table, kind: str) -> str:
    if kind in ("crash", "drain"):
        return table.text("mode", "", among=CRASH_MODES)
    return table.text("mode", "", among=STATUSES) if kind == "health" else ""


def _code(table: Table) -> str:
    value = table.text("code", "UNAVAILABLE")
    return table.checked(code_name, table.key("code"), value)


def read_addresses(table: Table, backends: Mapping[str, str]) -> tuple[str, ...]:
    """Take a list of globs as the names of backends, in the list's order; a name comes once."""
    found: dict[str, None] = {}
    for pattern in table.texts("addresses"):
        names = matching(pattern, backends)
        if not names:
            raise table.wrong("addresses", f"a list of names of backends ({_some(backends)}) or of globs over them")
        found |= dict.fromkeys(names)
    return tuple(found)


def _target(table: Table, name: str, zones: Mapping[str, str]) -> str:
    target = table.text(name, "*")
    if not matching(target, zones):
        what = "backends" if name == "target" else "clients"
        raise table.wrong(name, f"a glob over the names of {what} ({_some(zones)}), 'zone:...' or a share like '30%'")
    return target


def matching(target: str, zones: Mapping[str, str]) -> list[str]:
    """Return who is meant by globs, by "zone:a", or by "30%": that share of them, rounded, the first in order."""
    names = list(zones)
    try:
        return [names[number] for number in select(target, names, list(zones.values()))]
    except ConfigError:
        return []


def zones_of(groups: Sequence[BackendGroup] | Sequence[ClientGroup]) -> dict[str, str]:
    """Return the zone of each member of these groups by name, in order."""
    return {f"{group.name}{number}": group.zone for group in groups for number in range(group.count)}


def _name(table: Table, default: str) -> str:
    name = table.text("name", default)
    if not _NAME.fullmatch(name):
        raise table.wrong("name", "up to 64 letters, digits, '_', '.' and '-', a letter or '_' first")
    return name


def _check_names(tables: Sequence[Table], groups: Sequence[tuple[str, int]], most: int, what: str) -> None:
    total = sum(count for _, count in groups)
    if total > most:
        raise tables[0].error(f"there must be at most {most} {what}, not {total}")
    seen: set[str] = set()
    for table, (name, count) in zip(tables, groups, strict=True):
        members = {f"{name}{number}" for number in range(count)}
        if seen & members:
            raise table.wrong("name", f"another: there is a {min(seen & members)} already")
        seen |= members


def _some(names: Mapping[str, str]) -> str:
    shown = list(names)[:4]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown)
