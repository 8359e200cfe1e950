"""Calls and faults in, figures and a verdict out.

`summarize` is a function of its arguments alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from healthlb.core.messages import SECOND
from healthlb.demo.allowance import FLIP_NOTICED_WITHIN, blamed, is_excused, is_late
from healthlb.demo.records import CallRecord, Injection
from healthlb.demo.schedule import FaultKind

# Of the calls that were asked for; a machine that makes fewer cannot be trusted to time them.
_ENOUGH = 0.9


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that happened in one run.

    Attributes:
        addresses: of the backends, by index.
        calls: every call, in any order.
        injections: every fault, in order.
        started_at: when the traffic began, in nanoseconds.
        ended_at: when it ended, in nanoseconds.
        asked_rate: how many calls per second there should have been.
        still_out: "address: reason" of each backend that healthlb had not taken back at the end.
        is_interrupted: whether it was cut short.
    """

    addresses: tuple[str, ...]
    calls: Sequence[CallRecord]
    injections: Sequence[Injection]
    started_at: int
    ended_at: int
    asked_rate: float
    still_out: tuple[str, ...] = ()
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """One backend's part; `share` is of all answered calls, 0 to 1."""

    address: str
    calls: int
    errors: int
    share: float


@dataclass(frozen=True, slots=True)
class FaultFigures:
    """What one fault did; all times in seconds.

    Attributes:
        kind: what was done.
        address: to which backend.
        at: when, after the traffic began.
        lasted: until its repair began, or None.
        calls_while_bad: how many calls still reached it.
        last_call_after: from the fault to the start of the last of these, or None for none.
        back_after: from its own recovery to the first call that reached it again, or None.
        excused: failed calls that this fault excuses.
    """

    kind: FaultKind
    address: str
    at: float
    lasted: float | None
    calls_while_bad: int
    last_call_after: float | None
    back_after: float | None
    excused: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The run in figures, and its verdict; all times in seconds.

    Attributes:
        elapsed: how long there was traffic.
        is_interrupted: whether the run was cut short.
        calls: how many were made.
        errors: how many of them failed.
        excused: how many of those a fault excuses, such as calls in flight on a backend that was killed.
        p50: median time of an answered call, or None without any.
        p99: 99 of 100 answered calls took less, or None without any.
        backends: by index.
        faults: in order.
        is_overloaded: whether this machine could not make as many calls as were asked for.
        problems: what should not have happened; none is a good run.
    """

    elapsed: float
    is_interrupted: bool
    calls: int
    errors: int
    excused: int
    p50: float | None
    p99: float | None
    backends: tuple[BackendFigures, ...]
    faults: tuple[FaultFigures, ...]
    is_overloaded: bool
    problems: tuple[str, ...]

    @property
    def is_fine(self) -> bool:
        """Whether nothing was lost that should not have been."""
        return not self.problems


def summarize(run: Run) -> Summary:
    """Work out the figures and the verdict."""
    calls = [blamed(call, run.injections) for call in run.calls]
    failed = [call for call in calls if not call.is_ok]
    lost = [call for call in failed if not any(is_excused(call, injection) for injection in run.injections)]
    elapsed = (run.ended_at - run.started_at) / SECOND
    times = sorted(call.ended_at - call.started_at for call in calls if call.is_ok)
    return Summary(
        elapsed=elapsed,
        is_interrupted=run.is_interrupted,
        calls=len(calls),
        errors=len(failed),
        excused=len(failed) - len(lost),
        p50=quantile(times, 0.5),
        p99=quantile(times, 0.99),
        backends=tuple(_backend(address, index, calls) for index, address in enumerate(run.addresses)),
        faults=tuple(_fault(run, injection, calls) for injection in run.injections),
        is_overloaded=len(calls) < _ENOUGH * run.asked_rate * (elapsed - 1.0),
        problems=(*_losses(run, lost), *_late_calls(run, calls), *_still_out(run)),
    )


def quantile(ordered: Sequence[int], share: float) -> float | None:
    """The value below which `share` of the ordered nanoseconds lie, in seconds."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / SECOND


def _backend(address: str, index: int, calls: Sequence[CallRecord]) -> BackendFigures:
    answered = Counter(call.backend for call in calls if call.is_ok)
    failed = sum(1 for call in calls if not call.is_ok and call.backend == index)
    total = answered.total()
    return BackendFigures(address, answered[index] + failed, failed, answered[index] / total if total else 0.0)


def _fault(run: Run, injection: Injection, calls: Sequence[CallRecord]) -> FaultFigures:
    begun, repairing = injection.began_at, injection.repairing_at
    own = [call for call in calls if call.backend == injection.fault.backend]
    bad = [call.started_at for call in own if _is_between(call.started_at, begun, repairing)]
    return FaultFigures(
        kind=injection.fault.kind,
        address=run.addresses[injection.fault.backend],
        at=(begun - run.started_at) / SECOND,
        lasted=None if repairing is None else (repairing - begun) / SECOND,
        calls_while_bad=len(bad),
        last_call_after=(max(bad) - begun) / SECOND if bad else None,
        back_after=_back_after(injection, own),
        excused=sum(1 for call in calls if not call.is_ok and is_excused(call, injection)),
    )


def _is_between(at: int, begin: int, end: int | None) -> bool:
    return begin <= at and (end is None or at < end)


def _back_after(injection: Injection, own: Sequence[CallRecord]) -> float | None:
    # From the start of the repair on, since the first call may be quicker than the
    # backend's own word that it is well; such a call counts as 0 s.
    if injection.repairing_at is None or injection.repaired_at is None:
        return None
    starts = [call.started_at for call in own if call.is_ok and call.started_at >= injection.repairing_at]
    return max(0, min(starts) - injection.repaired_at) / SECOND if starts else None


def _losses(run: Run, lost: Sequence[CallRecord]) -> list[str]:
    return _grouped(run, lost, lambda call: f"lost with {call.code.name}{_on(run, call)}: {call.details[:160]}")


def _late_calls(run: Run, calls: Sequence[CallRecord]) -> list[str]:
    late = [call for call in calls if any(is_late(call, injection) for injection in run.injections)]
    bound = FLIP_NOTICED_WITHIN / SECOND
    return _grouped(run, late, lambda call: f"sent more than {bound:g} s after NOT_SERVING{_on(run, call)}")


def _on(run: Run, call: CallRecord) -> str:
    return "" if call.backend is None else f" on {run.addresses[call.backend]}"


def _grouped(run: Run, calls: Sequence[CallRecord], describe: Callable[[CallRecord], str]) -> list[str]:
    first: dict[str, int] = {}
    counts = Counter[str]()
    for call in sorted(calls, key=lambda call: call.started_at):
        text = describe(call)
        counts[text] += 1
        first.setdefault(text, call.started_at)
    return [
        f"{count} call{'s' * (count > 1)} {text} (first at {(first[text] - run.started_at) / SECOND:.1f} s)"
        for text, count in counts.items()
    ]


def _still_out(run: Run) -> list[str]:
    return [] if run.is_interrupted else [f"not back at the end: {text}" for text in run.still_out]
