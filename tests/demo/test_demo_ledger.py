from __future__ import annotations

from collections.abc import Sequence

import pytest

from healthlb.core.messages import SECOND, Code
from healthlb.demo.ledger import BackendFigures, FaultFigures, Run, Summary, quantile, summarize
from healthlb.demo.records import CallRecord, Injection
from healthlb.demo.schedule import Fault, FaultKind

ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
START = 1_000 * SECOND


def ns(seconds: float) -> int:
    return START + round(seconds * SECOND)


def answered(at: float, backend: int, took: float = 0.001) -> CallRecord:
    return CallRecord(ns(at), ns(at + took), backend)


def failed(
    at: float, ended: float, backend: int | None = None, code: Code = Code.UNAVAILABLE, details: str = "Socket closed"
) -> CallRecord:
    return CallRecord(ns(at), ns(ended), backend, code, details)


def injected(
    kind: FaultKind,
    backend: int = 1,
    began: float = 2.0,
    effective: float | None = None,
    repairing: float | None = 4.0,
    repaired: float | None = 4.5,
) -> Injection:
    return Injection(
        Fault(kind, backend, began, 4.0),
        began_at=ns(began),
        effective_at=ns(began + 0.005 if effective is None else effective),
        repairing_at=None if repairing is None else ns(repairing),
        repaired_at=None if repaired is None else ns(repaired),
    )


def summary_of(
    calls: Sequence[CallRecord], *injections: Injection, still_out: tuple[str, ...] = (), is_interrupted: bool = False
) -> Summary:
    return summarize(Run(ADDRESSES, calls, injections, ns(0), ns(10), 0.1, still_out, is_interrupted))


def test_a_run_without_calls_is_fine() -> None:
    summary = summary_of([])

    assert summary.is_fine
    assert (summary.calls, summary.p50, summary.p99, summary.elapsed) == (0, None, None, 10.0)


def test_shares_are_of_answered_calls() -> None:
    calls = [answered(1, 0), answered(1, 0), answered(1, 0), answered(1, 1), failed(1.99, 2.01, backend=1)]

    assert summary_of(calls, injected(FaultKind.KILL)).backends == (
        BackendFigures(ADDRESSES[0], 3, 0, 0.75),
        BackendFigures(ADDRESSES[1], 2, 1, 0.25),
        BackendFigures(ADDRESSES[2], 0, 0, 0.0),
    )


def test_a_flip_is_timed_to_the_last_call_and_to_the_first_one_after() -> None:
    calls = [answered(1.9, 1), answered(2.001, 1), answered(2.25, 1), answered(3, 0), answered(4.6, 1), answered(5, 1)]
    summary = summary_of(calls, injected(FaultKind.NOT_SERVING))

    assert summary.is_fine
    assert summary.faults == (FaultFigures(FaultKind.NOT_SERVING, ADDRESSES[1], 2.0, 2.0, 2, 0.25, 0.1, 0),)


def test_a_fault_that_no_call_met_has_no_last_call() -> None:
    figures = summary_of([answered(1, 1)], injected(FaultKind.NOT_SERVING)).faults[0]

    assert (figures.calls_while_bad, figures.last_call_after, figures.back_after) == (0, None, None)


def test_a_call_quicker_than_the_backends_own_word_counts_as_at_once() -> None:
    assert summary_of([answered(4.2, 1)], injected(FaultKind.KILL)).faults[0].back_after == 0.0


def test_a_fault_that_was_not_repaired_has_no_length() -> None:
    injection = injected(FaultKind.KILL, repairing=None, repaired=None)
    figures = summary_of([answered(3, 1)], injection, is_interrupted=True).faults[0]

    assert (figures.lasted, figures.back_after, figures.calls_while_bad) == (None, None, 1)


@pytest.mark.parametrize(
    "call",
    [
        failed(1.5, 1.9),
        failed(1.99, 2.01),
        failed(2.1, 2.2),
        failed(8.0, 8.1),
    ],
    ids=["before the kill", "in flight at the kill", "started after the kill", "long after"],
)
def test_a_kill_excuses_nothing(call: CallRecord) -> None:
    summary = summary_of([call], injected(FaultKind.KILL))

    assert not summary.is_fine
    assert (summary.errors, summary.excused) == (1, 0)


def test_a_flip_excuses_nothing() -> None:
    summary = summary_of([failed(1.99, 2.01, backend=1)], injected(FaultKind.NOT_SERVING))

    assert summary.problems == ("1 call lost with UNAVAILABLE on 127.0.0.1:2: Socket closed (first at 2.0 s)",)


def test_equal_losses_are_told_once() -> None:
    summary = summary_of([failed(6.5, 6.6), failed(6, 6.1), failed(7, 7.1, details="other")])

    assert summary.problems == (
        "2 calls lost with UNAVAILABLE: Socket closed (first at 6.0 s)",
        "1 call lost with UNAVAILABLE: other (first at 7.0 s)",
    )


def test_silence_is_excused_until_the_heartbeat_must_have_noticed() -> None:
    hang = injected(FaultKind.HANG, repairing=20, repaired=20)
    silence = failed(15, 16, 1, Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    late = failed(18, 19, 1, Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    assert summary_of([silence], hang).is_fine
    assert not summary_of([late], hang).is_fine
    assert not summary_of([failed(15, 16, 1)], hang).is_fine


def test_a_call_to_a_backend_that_had_long_flipped_is_a_problem() -> None:
    summary = summary_of([answered(2.9, 1), answered(3.1, 1), answered(3.2, 1)], injected(FaultKind.NOT_SERVING))

    assert summary.problems == ("2 calls sent more than 1 s after NOT_SERVING on 127.0.0.1:2 (first at 3.1 s)",)


def test_calls_after_the_flip_back_are_welcome() -> None:
    assert summary_of([answered(4.1, 1), answered(9, 1)], injected(FaultKind.NOT_SERVING)).is_fine


def test_a_backend_that_is_not_back_at_the_end_is_a_problem() -> None:
    assert summary_of([], still_out=("127.0.0.1:2 is CONNECTING: ",)).problems == (
        "not back at the end: 127.0.0.1:2 is CONNECTING: ",
    )


def test_after_an_interruption_a_backend_may_be_out() -> None:
    assert summary_of([], still_out=("127.0.0.1:2 is CONNECTING: ",), is_interrupted=True).is_fine


@pytest.mark.parametrize(("how_many", "is_overloaded"), [(80, True), (81, False)])
def test_a_machine_that_makes_too_few_calls_is_overloaded(how_many: int, is_overloaded: bool) -> None:
    calls = [answered(1, 0)] * how_many
    summary = summarize(Run(ADDRESSES, calls, (), ns(0), ns(10), asked_rate=10))

    assert summary.is_overloaded is is_overloaded


def test_quantiles() -> None:
    ordered = [second * SECOND for second in range(1, 101)]

    assert quantile(ordered, 0.5) == 51.0
    assert quantile(ordered, 0.99) == 100.0
    assert quantile([], 0.5) is None
