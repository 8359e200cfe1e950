"""How an attempt ended, as a picker's factory is told."""

from __future__ import annotations

from typing import NamedTuple

from healthlb.core.pickers.orca import LoadReport
from healthlb.core.states import Code

# Of the backend's making. NOT_FOUND and the like are answers; CANCELLED is the caller's.
BACKEND_FAILURES = frozenset(
    {
        Code.UNAVAILABLE,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.RESOURCE_EXHAUSTED,
        Code.DATA_LOSS,
    }
)


class CallEnd(NamedTuple):
    """One attempt's end.

    Attributes:
        code: its status; CANCELLED says nothing about the backend but how long it had not answered.
        at: when, in nanoseconds on the monotonic clock.
        seconds: how long it took, None for streams, whose length says nothing.
        report: the backend's load report (gRFC A51), None where it sent none or the factory does not need it.
    """

    code: Code
    at: int
    seconds: float | None = None
    report: LoadReport | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the backend is to blame."""
        return self.code in BACKEND_FAILURES
