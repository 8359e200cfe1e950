"""Which methods may be executed twice.

The one rule: not known means not idempotent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase

from healthlb.config import Idempotent

_SAFE = (1, 2)  # protobuf's NO_SIDE_EFFECTS and IDEMPOTENT
_MOST_PATTERNS = 3


def is_idempotent(method: str, rule: Idempotent) -> bool:
    """Whether `/package.Service/Method` is idempotent.

    Args:
        method: the full method name.
        rule: `Failover.idempotent`: a bool, patterns, or None for the method's protobuf option
            `idempotency_level` in the default descriptor pool.
    """
    if isinstance(rule, bool):
        return rule
    if rule is not None:
        return bool(matching(method, rule))
    # Nobody has described a method to protobuf where it was not imported, and importing it takes 20 ms.
    descriptor_pool = sys.modules.get("google.protobuf.descriptor_pool")
    if descriptor_pool is None:
        return False
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return False
    is_safe: bool = descriptor.GetOptions().idempotency_level in _SAFE
    return is_safe


def matching(method: str, patterns: Iterable[str]) -> list[str]:
    """Return the patterns that match a full method name."""
    return [pattern for pattern in tuple(patterns) if fnmatchcase(method, pattern)]


def why_not(method: str, rule: Idempotent) -> str:
    """Return what errors say of a method that is not idempotent.

    Args:
        method: the full method name.
        rule: `Failover.idempotent`.
    """
    if rule is None or isinstance(rule, bool):
        return f"{method} is not idempotent: see Failover.idempotent"
    shown = ", ".join(map(repr, list(rule)[:_MOST_PATTERNS])) + (", ..." if len(rule) > _MOST_PATTERNS else "")
    return f"{method} is not idempotent: no pattern of Failover.idempotent matches it ({shown})"
