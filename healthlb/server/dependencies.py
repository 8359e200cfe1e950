"""Which checks a service stands on, and what its status is then.

The one rule: one failed check is NOT_SERVING, one that has not run is UNKNOWN, and SERVING needs all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server.check import Check

Services = Mapping[str, Collection[str]]


def resolve(checks: Mapping[str, Check], services: Services) -> dict[str, tuple[str, ...]]:
    """Return the checks of every service, those of the services it names included; `""` has all critical ones.

    Raises:
        ConfigError: a name that is neither, or both, check and service; a service on nothing; a circle.
    """
    for name, check in checks.items():
        if not isinstance(name, str) or not isinstance(check, Check):
            raise ConfigError(f"checks must map names to Check objects, not {name!r} to {check!r}")
    for service in services:
        if not isinstance(service, str):
            raise ConfigError(f"services must map names to collections of names, not {service!r}")
    both = sorted(set(checks) & set(services))
    if both:
        raise ConfigError(f"{both[0]!r} is a check and a service")
    resolved = {service: _checks_of(service, checks, services, ()) for service in services}
    resolved.setdefault("", tuple(name for name, check in checks.items() if check.critical))
    return resolved


def derive(names: Collection[str], statuses: Mapping[str, ServingStatus]) -> ServingStatus:
    """Return the status of a service that stands on these checks."""
    seen = {statuses[name] for name in names}
    for status in (ServingStatus.NOT_SERVING, ServingStatus.UNKNOWN):
        if status in seen:
            return status
    return ServingStatus.SERVING


def _checks_of(
    service: str, checks: Mapping[str, Check], services: Services, above: tuple[str, ...]
) -> tuple[str, ...]:
    if service in above:
        raise ConfigError(f"services in a circle: {' -> '.join(map(repr, (*above, service)))}")
    named = services[service]
    if isinstance(named, str) or not named:
        raise ConfigError(f"service {service!r} must depend on a collection of one or more names, not {named!r}")
    found: dict[str, None] = {}
    for name in named:
        if not isinstance(name, str):
            raise ConfigError(f"service {service!r} must depend on names, not {name!r}")
        if name in checks:
            found[name] = None
        elif name in services:
            found.update(dict.fromkeys(_checks_of(name, checks, services, (*above, service))))
        else:
            raise ConfigError(f"service {service!r} depends on {name!r}, which is neither a check nor a service")
    return tuple(found)
