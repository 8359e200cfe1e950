"""Makes the classes of small values that are created by the thousand: events, effects, views and snapshots.

They are immutable for the type checker alone. At run time nothing refuses an assignment: a frozen dataclass takes three
to seven times as long to make, and a channel that connects makes a dozen values for each subchannel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Kind = TypeVar("Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(kind: type[Kind]) -> type[Kind]:
    """Make a dataclass with slots of a class. Instances are compared and hashed by their fields, and never changed."""
    return dataclass(slots=True, unsafe_hash=True)(kind)
