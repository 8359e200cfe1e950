"""A smaller world in which the same rule does not hold.

A step is kept only where the very same rule is broken after it, so that one finding never turns into
another on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from dataclasses import replace as _replace
from typing import Any

from healthlb.config import DEFAULTS
from healthlb.errors import ConfigError
from healthlb.simulation.fuzzing.campaign import verdict
from healthlb.simulation.fuzzing.worlds import POLICY
from healthlb.simulation.scenario.scenario import BackendGroup, ClientGroup, Fault, Policy, Scenario

_MOST_TRIES = 600
# What is not there is the simplest; what is named here has to be there.
_KEPT = {
    BackendGroup: ("name", "count", "service"),
    ClientGroup: ("name", "count", "load"),
    Fault: ("kind", "target", "start", "until", "addresses"),
}


def replace(one: Any, **options: Any) -> Any:
    """Return a copy with other options, whose names are not known beforehand."""
    return _replace(one, **options)


def shrink(scenario: Scenario, told: Callable[[str], object] = lambda text: None) -> Scenario:
    """Return the smallest world that was found in which the same rule is broken.

    Args:
        scenario: a world in which one is.
        told: called with a line for each step.
    """
    rule, _, _ = verdict(scenario)
    tries = 0
    is_smaller = bool(rule)
    while is_smaller and tries < _MOST_TRIES:
        is_smaller = False
        for what, candidate in _smaller(scenario):
            tries += 1
            if candidate != scenario and _breaks(candidate, rule):
                told(what)
                scenario, is_smaller = candidate, True
                break
            if tries >= _MOST_TRIES:
                break
    return scenario


def _breaks(scenario: Scenario, rule: str) -> bool:
    try:
        return verdict(scenario)[0] == rule
    except ConfigError:
        return False


def _smaller(scenario: Scenario) -> Iterator[tuple[str, Scenario]]:
    """Yield worlds that are smaller by one thing, the greatest steps first."""
    for place in range(len(scenario.faults)):
        yield f"without fault {place}", replace(scenario, faults=_without(scenario.faults, place))
    for name in ("clients", "backends"):
        groups = getattr(scenario, name)
        for place, group in enumerate(groups):
            if len(groups) > 1:
                yield f"without {name} {group.name}", replace(scenario, **{name: _without(groups, place)})
            if group.count > 1:
                fewer = _with(groups, place, replace(group, count=group.count - 1))
                yield f"fewer {name} {group.name}", replace(scenario, **{name: fewer})
    for what, policy in _simpler_policies(scenario.policies[POLICY]):
        yield what, replace(scenario, policies={POLICY: policy})
    for name in ("backends", "clients", "faults"):
        ones = getattr(scenario, name)
        for place, one in enumerate(ones):
            if isinstance(one, ClientGroup) and one.load.fanout > 1:
                alone = replace(one, load=replace(one.load, fanout=1))
                yield f"{name} {place} without fanout", replace(scenario, **{name: _with(ones, place, alone)})
            for option, simple in _simpler(one, _KEPT[type(one)]):
                yield f"{name} {place} without {option}", replace(scenario, **{name: _with(ones, place, simple)})


def _simpler_policies(policy: Policy) -> Iterator[tuple[str, Policy]]:
    for option in ("failover", "outliers", "subset", "overload"):
        yield f"no {option}", replace(policy, **{option: None})
    for option in policy.extras:
        yield f"no {option}", replace(policy, **{option: getattr(DEFAULTS, option)})
    if policy.picker != "round_robin":
        yield "a round robin", replace(policy, picker="round_robin")
    for option, health in _simpler(policy.health, ("backoff", "reconnect", "first_response_timeout", "heartbeat")):
        yield f"health without {option}", replace(policy, health=health)
    if policy.health.heartbeat is not None:
        yield "no heartbeat", replace(policy, health=replace(policy.health, heartbeat=None))
    if policy.outliers is not None:
        for option in ("consecutive_failures", "consecutive_connection_failures", "success_rate", "failure_percentage"):
            yield f"outliers without {option}", replace(policy, outliers=replace(policy.outliers, **{option: None}))
    if policy.failover is not None:
        for option in ("backoff", "attempt_timeout", "hedging_delay", "budget"):
            yield f"failover without {option}", replace(policy, failover=replace(policy.failover, **{option: None}))


def _simpler(one: Any, kept: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield copies with one option as it is by default."""
    bare = {BackendGroup: ("service",), Fault: ("kind",)}.get(type(one), ())
    default = type(one)(**{name: getattr(one, name) for name in bare})
    for field in fields(one):
        if field.name not in kept and getattr(one, field.name) != getattr(default, field.name):
            try:
                yield field.name, replace(one, **{field.name: getattr(default, field.name)})
            except ConfigError:
                continue


def _without(ones: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return ones[:place] + ones[place + 1 :]


def _with(ones: tuple[Any, ...], place: int, one: Any) -> tuple[Any, ...]:
    return (*ones[:place], one, *ones[place + 1 :])
