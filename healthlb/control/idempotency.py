"""Which methods may be executed twice.

The one rule: not known means not idempotent.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions

from healthlb.config import Idempotent

_SAFE = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


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
        return any(fnmatchcase(method, pattern) for pattern in rule)
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    except KeyError:
        return False
    return descriptor.GetOptions().idempotency_level in _SAFE
