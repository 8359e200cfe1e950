"""Which failed calls a fault excuses. All leniency of the demo's verdict is in this file.

It is to shrink. The demo's method is idempotent, so a backend that dies costs nothing; one that hangs
costs the calls that wait for it until it is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from healthlb.core.messages import SECOND, Code
from healthlb.demo.records import CallRecord, Injection
from healthlb.demo.schedule import FaultKind

# The heartbeat's defaults: 10 s of silence and its jitter, then 3 s without an answer.
HANG_NOTICED_WITHIN = 15 * SECOND
# A call to a backend that is not serving is late after this.
FLIP_NOTICED_WITHIN = SECOND


def is_excused(call: CallRecord, injection: Injection) -> bool:
    """Whether this fault is reason enough for this call's failure."""
    begun, sure = injection.began_at, injection.effective_at or injection.began_at
    if injection.fault.kind is FaultKind.HANG:
        is_silence = call.code is Code.DEADLINE_EXCEEDED
        return is_silence and call.ended_at >= begun and call.started_at <= sure + HANG_NOTICED_WITHIN
    return False


def is_late(call: CallRecord, injection: Injection) -> bool:
    """Whether this call reached a backend that had long said it is not serving."""
    if injection.fault.kind is not FaultKind.NOT_SERVING or call.backend != injection.fault.backend:
        return False
    if injection.effective_at is None or call.started_at <= injection.effective_at + FLIP_NOTICED_WITHIN:
        return False
    return injection.repairing_at is None or call.started_at < injection.repairing_at


def blamed(call: CallRecord, injections: Iterable[Injection]) -> CallRecord:
    """The call, with the backend whose fault excuses it where its error does not name one."""
    if call.is_ok or call.backend is not None:
        return call
    for injection in injections:
        if is_excused(call, injection):
            return replace(call, backend=injection.fault.backend)
    return call
