"""Scenario files: where they are, what is in them, and the scenario that they describe.

A file that is wrong in any way is refused whole, before anything runs, with the file, the key, the value
and the bound. What a file names besides itself (a policy's file, a trace, measured times) is read in first, so that the
content alone says what a scenario is, wherever it is run.
"""

from __future__ import annotations

import os.path
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from healthlb.errors import ConfigError
from healthlb.files import read_text
from healthlb.simulation.checks.checks import check_expectation
from healthlb.simulation.scenario.durations import parse_duration, read_durations
from healthlb.simulation.scenario.scenario import SECOND, BackendGroup, ClientGroup, Expectation, Policy, Scenario
from healthlb.simulation.scenario_files.policy_tables import default_policy, read_policy
from healthlb.simulation.scenario_files.table import ScenarioError, Table
from healthlb.simulation.scenario_files.world_tables import (
    read_addresses,
    read_backends,
    read_clients,
    read_faults,
    zones_of,
)

SCHEMA = 1
LONGEST_RUN = 24 * 3600 * SECOND
# In a checkout the catalogue is the folder at the top; an installed wheel has it beside this module.
CATALOGUES = (Path(__file__).parents[1] / "catalogue", Path(__file__).parents[3] / "simulations")


def catalogue() -> dict[str, Path]:
    """Return the shipped scenarios by name, f2 before f10."""
    folder = next((folder for folder in CATALOGUES if folder.is_dir()), None)
    paths = folder.glob("*.toml") if folder else ()
    return {path.stem: path for path in sorted(paths, key=lambda path: _in_order(path.stem))}


def _in_order(name: str) -> tuple[str, int, str]:
    letters, number, rest = re.fullmatch(r"([^0-9]*)([0-9]*)(.*)", name).groups()  # type: ignore[union-attr]
    return letters, int(number or 0), rest


def find_scenario(name: str) -> Path:
    """Return the file of a shipped scenario, or the file that is named itself.

    Raises:
        ScenarioError: there is neither.
    """
    return find_file(name, "scenario", catalogue)


def find_file(name: str, kind: str, find_shipped: Callable[[], Mapping[str, Path]]) -> Path:
    """Return what is shipped under a name, or the file that is named itself.

    Args:
        name: of either.
        kind: what it is to be, for the error.
        find_shipped: gives what is shipped, by name.

    Raises:
        ScenarioError: there is neither, or what is there is no regular file.
    """
    path = Path(name)
    if path.suffix == ".toml" or os.path.isfile(path):
        return path
    shipped = find_shipped()
    if name not in shipped and os.path.exists(path):
        raise ScenarioError(f"{kind} {name!r} must be a regular file, not a folder or a device")
    if name not in shipped:
        raise ScenarioError(f"there is no {kind} {name!r}: neither a file nor one of {', '.join(shipped) or 'none'}")
    return shipped[name]


def load_scenario(path: Path | str) -> Scenario:
    """Return the scenario of a file.

    Raises:
        ScenarioError: the file cannot be read, or is wrong.
    """
    return parse_scenario(read_content(Path(path)), str(path))


def read_content(path: Path) -> dict[str, Any]:
    """Return what is in a file and in those that it names, as plain values.

    Raises:
        ScenarioError: a file cannot be read, or is no TOML.
    """
    content = _read_toml(path, str(path))
    _include(content, path.parent, str(path))
    content.setdefault("name", path.stem)
    return content


def _read_toml(path: Path, source: str) -> dict[str, Any]:
    text = _read_text(path, source)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of more than 4,300 digits is a ValueError
        raise ScenarioError(f"{path}: {error or 'too deeply nested'}") from error


def _read_text(path: Path, source: str) -> str:
    try:
        return read_text(path)
    except ConfigError as error:
        raise ScenarioError(str(error) if str(path) == source else f"{source}: {error}") from error


def _durations(path: Path, source: str) -> list[float | str]:
    try:
        return read_durations(path)
    except ConfigError as error:
        raise ScenarioError(f"{source}: {error}") from error


def _include(content: dict[str, Any], folder: Path, source: str) -> None:
    policies = content.get("policy")
    for policy in policies.values() if isinstance(policies, dict) else ():
        if isinstance(policy, dict) and isinstance(policy.get("file"), str):
            inner = _read_toml(folder / policy.pop("file"), source)
            policy |= {**inner, **policy}
    for value in _tables(content):
        if value.get("dist") == "empirical" and isinstance(value.get("file"), str):
            value["values"] = _durations(folder / value.pop("file"), source)
        if isinstance(value.get("trace"), str):
            value["trace"] = _durations(folder / value["trace"], source)


def _tables(value: object) -> list[dict[str, Any]]:
    """Return all tables inside of a value, without recursion."""
    found, waiting = [], [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found.append(part)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def parse_scenario(content: Mapping[str, Any], source: str = "scenario") -> Scenario:
    """Return the scenario that a file's content describes.

    Args:
        content: as `read_content` returns it.
        source: the file's name, for errors.

    Raises:
        ScenarioError: a key is unknown, or a value of the wrong type or out of its bounds.
    """
    table = Table(source, "", content)
    if table.count("schema", SCHEMA, low=1) != SCHEMA:
        raise table.wrong("schema", str(SCHEMA))
    duration = table.duration("duration", 10 * SECOND, low=1_000_000)
    if duration > LONGEST_RUN:
        raise table.wrong("duration", "at most 24h")
    warmup = table.duration("warmup", 0)
    if warmup >= duration:
        raise table.wrong("warmup", f"less than the duration of {duration / SECOND:g} s")
    backends, clients = read_backends(_some(table, "backend")), read_clients(_some(table, "client"))
    policies = _read_policies(table)
    scenario = Scenario(
        name=table.text("name", "scenario"),
        title=table.text("title", ""),
        seed=table.count("seed", 1, low=-(2**63), high=2**63 - 1),
        duration=duration,
        warmup=warmup,
        drain=table.duration("drain", 10 * SECOND),
        replications=table.count("replications", 1, low=1, high=100_000),
        backends=backends,
        clients=clients,
        policies=policies,
        faults=read_faults(_fault_tables(table), zones_of(backends), zones_of(clients), duration),
        addresses=_read_resolver(table, zones_of(backends)),
        parameters={**_own_numbers(backends[0], clients[0], warmup), **_read_parameters(table.table("parameters"))},
        expect=_read_expectations(table.table("expect"), policies),
        tags=table.texts("tags"),
    )
    table.done()
    for expectation in scenario.expect:
        table.checked(check_expectation, scenario, expectation, f"expect.{expectation.name}.check")
    return scenario


def _some(table: Table, name: str) -> list[Table]:
    tables = table.tables(name)
    if not tables:
        raise table.error(f"there must be at least one [[{name}]]")
    return tables


def _read_policies(table: Table) -> dict[str, Policy]:
    inner = table.table("policy")
    names = list(inner)
    policies = {name: read_policy(name, inner.table(name)) for name in names}
    return policies or {"default": default_policy()}


def _fault_tables(table: Table) -> list[Table]:
    faults = table.table("faults")
    timeline = faults.tables("timeline")
    faults.done()
    return timeline + table.tables("fault")


def _read_resolver(table: Table, backends: Mapping[str, str]) -> tuple[str, ...] | None:
    inner = table.table("resolver")
    addresses = read_addresses(inner, backends) if "addresses" in inner else None
    inner.done()
    return addresses


def _own_numbers(backends: BackendGroup, clients: ClientGroup, warmup: int) -> dict[str, float]:
    """Return what checks may name of the world itself: that of the first groups, times in seconds."""
    numbers = {
        "slots": float(backends.slots),
        "service": backends.service.mean / SECOND,
        "wire": backends.wire / SECOND,
        "warmup": warmup / SECOND,
    }
    return numbers if clients.deadline is None else {**numbers, "deadline": clients.deadline / SECOND}


def _read_parameters(table: Table) -> dict[str, float]:
    found = {}
    for name in table:
        value = table.raw(name)
        if not name.isidentifier():
            raise table.error(f"{table.key(name)} must have a name of letters, digits and underscores")
        if isinstance(value, str):
            found[name] = table.checked(parse_duration, table.key(name), value) / SECOND
        else:
            found[name] = table.number(name)
    return found


def _read_expectations(table: Table, policies: Mapping[str, Policy]) -> tuple[Expectation, ...]:
    return tuple(expectation for name in table for expectation in _read_expectation(table, name, policies))


def _read_expectation(table: Table, name: str, policies: Mapping[str, Policy]) -> list[Expectation]:
    if isinstance(table.raw(name), str):
        return [Expectation(name=name, check=table.text(name))]
    inner = table.table(name)
    check, why = inner.text("check"), inner.text("why", "")
    value = inner.raw("policy", None)
    names: list[str | None] = list(value) if isinstance(value, list) else [value]
    if "policy" in inner and (not names or not all(isinstance(one, str) and one in policies for one in names)):
        raise inner.wrong("policy", f"one of {', '.join(policies)}, or a list of some")
    inner.done()
    return [Expectation(name=name, check=check, why=why, policy=one) for one in names]
