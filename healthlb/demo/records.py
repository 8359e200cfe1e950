"""What a run leaves behind: calls, and faults as they were really injected.

Values are immutable, and every time is in nanoseconds of `time.monotonic_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.core.messages import Code
from healthlb.demo.schedule import Fault


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call.

    Attributes:
        started_at: when it was made.
        ended_at: when it was over.
        backend: the index of the backend that took it, or None where nothing says which.
        code: how it ended.
        details: the error's text.
    """

    started_at: int
    ended_at: int
    backend: int | None
    code: Code = Code.OK
    details: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it was answered."""
        return self.code is Code.OK


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault as it was carried out; None stands for what has not happened yet.

    Attributes:
        fault: what was planned.
        began_at: when the backend was told to be bad.
        effective_at: when it certainly was: it confirmed, or its process was gone.
        repairing_at: when its repair began.
        repaired_at: when it was well again by its own account.
    """

    fault: Fault
    began_at: int
    effective_at: int | None = None
    repairing_at: int | None = None
    repaired_at: int | None = None
