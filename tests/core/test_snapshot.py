from __future__ import annotations

from dataclasses import replace

import pytest

from healthlb.core.call.load_shedding import with_share
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Endpoint, Fail
from healthlb.core.pickers import ANY_CALL, Picker
from healthlb.core.pickers.checked import CheckedPicker
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.publication import with_probes
from healthlb.core.shedding import Shedding
from healthlb.core.snapshot import NOTHING, Snapshot, SubchannelView
from healthlb.core.user_code import Guard

CONNECTING, READY = ConnectivityState.CONNECTING, ConnectivityState.READY
FAILURE, SHUTDOWN = ConnectivityState.TRANSIENT_FAILURE, ConnectivityState.SHUTDOWN


def view(number: int, state: ConnectivityState, reason: str) -> SubchannelView:
    return SubchannelView(number, Endpoint(f"10.0.0.{number}:1"), state, None, reason, 0, (), (0, 0, 0))


def snapshot(
    state: ConnectivityState, *views: SubchannelView, service: str | None = "svc", error: str = ""
) -> Snapshot:
    return Snapshot(1, state, views=views, service=service, error=error)


@pytest.mark.parametrize(
    ("current", "text"),
    [
        (snapshot(CONNECTING), "no addresses for service 'svc': not resolved yet"),
        (snapshot(CONNECTING, service=None), "no addresses: not resolved yet"),
        (snapshot(FAILURE, error="NXDOMAIN"), "no addresses for service 'svc': NXDOMAIN"),
        (
            snapshot(FAILURE, view(1, FAILURE, "NOT_SERVING"), service=""),
            "1 subchannel for service '': 1 TRANSIENT_FAILURE; 10.0.0.1:1: NOT_SERVING",
        ),
        (
            snapshot(CONNECTING, view(1, FAILURE, "refused"), view(2, CONNECTING, "connecting"), service=None),
            "2 subchannels: 1 CONNECTING, 1 TRANSIENT_FAILURE; 10.0.0.1:1: refused; 10.0.0.2:1: connecting",
        ),
        (
            snapshot(READY, view(1, READY, "SERVING"), view(2, FAILURE, "refused"), error="SERVFAIL"),
            "2 subchannels for service 'svc': 1 READY, 1 TRANSIENT_FAILURE; 10.0.0.2:1: refused; resolver: SERVFAIL",
        ),
        (
            snapshot(READY, view(1, READY, "SERVING")),
            "1 subchannel for service 'svc': 1 READY",
        ),
        (
            snapshot(FAILURE, *(view(number, FAILURE, "x") for number in range(1, 6))),
            "5 subchannels for service 'svc': 5 TRANSIENT_FAILURE; 10.0.0.1:1: x; 10.0.0.2:1: x; 10.0.0.3:1: x; "
            "10.0.0.4:1: x; 10.0.0.5:1: x",
        ),
        (
            snapshot(FAILURE, *(view(number, FAILURE, "no heartbeat") for number in range(1, 8))),
            "7 subchannels for service 'svc': 7 TRANSIENT_FAILURE; 10.0.0.1:1: no heartbeat; "
            "10.0.0.2:1: no heartbeat; 10.0.0.3:1: no heartbeat; 10.0.0.4:1: no heartbeat; 10.0.0.5:1: no heartbeat; "
            "and 2 more",
        ),
    ],
)
def test_describe_says_who_lacks_what(current: Snapshot, text: str) -> None:
    assert current.describe() == text


def advised(number: int, remedy: str) -> SubchannelView:
    return replace(view(number, FAILURE, "x"), remedy=remedy)


@pytest.mark.parametrize(
    ("views", "told"),
    [
        ([advised(1, "do this")], "do this"),
        ([advised(1, "do this"), advised(2, "do this")], "do this"),
        ([advised(1, "do this"), advised(2, "")], "for 10.0.0.1:1: do this"),
        ([advised(1, "do this"), view(2, READY, "SERVING")], "for 10.0.0.1:1: do this"),
        (
            [advised(1, "do this"), advised(2, "do that"), advised(3, "do this")],
            "for 10.0.0.1:1, 10.0.0.3:1: do this; or for 10.0.0.2:1: do that",
        ),
        (
            [*(advised(number, "do this") for number in range(1, 8)), advised(8, "")],
            "for 10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1, 10.0.0.4:1, 10.0.0.5:1 and 2 more: do this",
        ),
    ],
)
def test_a_remedy_says_for_whom_it_is_unless_it_is_for_all(views: list[SubchannelView], told: str) -> None:
    assert snapshot(FAILURE, *views).describe().partition(". What to do: ")[2] == told


def test_a_remedy_that_stands_in_the_text_is_not_told_again() -> None:
    current = snapshot(FAILURE, replace(view(1, FAILURE, "refused: do this"), remedy="do this"), view(2, FAILURE, "x"))

    assert "What to do" not in current.describe()


def test_a_picker_that_chose_none_of_those_that_are_ready_is_named() -> None:
    subs = tuple(Subchannel(number, 1, Endpoint(f"10.0.0.{number}:1")) for number in (1, 2))
    spare = RoundRobin().build(subs)
    own = CheckedPicker(NOTHING, subs, spare, name="Odd", guard=Guard())
    none, some = snapshot(READY), replace(snapshot(READY, view(1, READY, "SERVING")), ready=subs)
    plain = "1 subchannel for service 'svc': 1 READY"
    half = Shedding(1, 2, 0.5, lambda: 0.9)
    pickers: list[Picker] = [own, with_probes(own, subs), with_share(with_probes(own, subs), half)]

    for picker in pickers:
        waited = some.picked_by(picker)
        assert waited.describe(has_waited=True) == f"{plain}; the picker Odd returned None from pick"
        assert waited.describe() == plain
        assert none.picked_by(picker).describe(has_waited=True) == none.describe()
    for picker in (spare, with_probes(spare, subs), with_share(spare, half)):
        assert some.picked_by(picker).describe(has_waited=True) == plain


def test_calls_fail_in_transient_failure_only() -> None:
    failing = snapshot(FAILURE, view(1, FAILURE, "refused"))

    assert failing.failure == Fail(Code.UNAVAILABLE, failing.describe())
    assert [snapshot(state).failure for state in (CONNECTING, READY, SHUTDOWN)] == [None] * 3


def test_calls_that_fail_on_one_snapshot_share_their_text() -> None:
    failing = snapshot(FAILURE, view(1, FAILURE, "refused"))

    assert failing.failure is failing.failure


def test_without_a_picker_there_is_nothing_to_pick() -> None:
    assert snapshot(CONNECTING).picker.pick(ANY_CALL) is None
