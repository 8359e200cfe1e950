from __future__ import annotations

import pytest

from healthlb.core.messages import Code, ConnectivityState, Endpoint, Fail
from healthlb.core.pickers import ANY_CALL
from healthlb.core.snapshot import Snapshot, SubchannelView

CONNECTING, READY = ConnectivityState.CONNECTING, ConnectivityState.READY
FAILURE, SHUTDOWN = ConnectivityState.TRANSIENT_FAILURE, ConnectivityState.SHUTDOWN


def view(number: int, state: ConnectivityState, reason: str) -> SubchannelView:
    return SubchannelView(number, Endpoint(f"10.0.0.{number}:1"), state, None, reason, 0, (), (0, 0, 0))


def snapshot(
    state: ConnectivityState, *views: SubchannelView, service: str | None = "svc", error: str = ""
) -> Snapshot:
    return Snapshot(1, state, views=views, service=service, error=error)


@pytest.mark.parametrize(
    ("picture", "text"),
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
def test_describe_says_who_lacks_what(picture: Snapshot, text: str) -> None:
    assert picture.describe() == text


def test_calls_fail_in_transient_failure_only() -> None:
    failing = snapshot(FAILURE, view(1, FAILURE, "refused"))

    assert failing.failure == Fail(Code.UNAVAILABLE, failing.describe())
    assert [snapshot(state).failure for state in (CONNECTING, READY, SHUTDOWN)] == [None] * 3


def test_without_a_picker_there_is_nothing_to_pick() -> None:
    assert snapshot(CONNECTING).picker.pick(ANY_CALL) is None
