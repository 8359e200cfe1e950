from __future__ import annotations

from healthlb.config import HealthCheck
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Drained,
    Endpoint,
    HealthReported,
    Resolved,
    WatchClosed,
)
from healthlb.core.snapshot import SubchannelView
from tests.core.configs import config_of

READY = ConnectivityState.READY


def serving() -> Balancer:
    balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None)), seed=1)
    balancer.handle(Resolved((Endpoint("a"),)), 1 * SECOND)
    balancer.handle(ConnectivityChanged(1, READY), 2 * SECOND)
    balancer.handle(DataReady(1, 1), 3 * SECOND)
    balancer.handle(HealthReported(1, 1, 1), 4 * SECOND)
    return balancer


def view(balancer: Balancer) -> SubchannelView:
    (only,) = balancer.snapshot.views
    return only


def only_ready(balancer: Balancer) -> Subchannel:
    (handle,) = balancer.snapshot.ready
    return handle


def calls(sub: Subchannel, *, succeed: int, fail: int, stay: int = 0) -> None:
    for _ in range(succeed + fail + stay):
        assert sub.load.start()
    for _ in range(succeed):
        sub.load.succeed(SECOND)
    for _ in range(fail):
        sub.load.fail()


def test_since_is_when_the_state_was_entered() -> None:
    balancer = serving()
    times = [view(balancer).since]
    balancer.handle(HealthReported(1, 1, 1), 5 * SECOND)
    times.append(view(balancer).since)
    balancer.handle(HealthReported(1, 1, 2), 6 * SECOND)
    times.append(view(balancer).since)
    balancer.handle(HealthReported(1, 1, 3), 7 * SECOND)
    times.append(view(balancer).since)

    assert times == [4 * SECOND, 4 * SECOND, 6 * SECOND, 6 * SECOND]


def test_counts_outlive_connections() -> None:
    balancer = serving()
    old = only_ready(balancer)
    calls(old, succeed=3, fail=2, stay=1)
    assert (view(balancer).loads, view(balancer).past) == ((old.load,), (0, 0, 0))

    balancer.handle(CallFailed(1, 1, Code.UNAVAILABLE, is_refused=True), 5 * SECOND)
    balancer.handle(DataReady(1, 2), 5 * SECOND)
    new = only_ready(balancer)
    calls(new, succeed=10, fail=0)
    assert (view(balancer).loads, view(balancer).past) == ((old.load, new.load), (0, 0, 0))

    old.load.abandon()
    balancer.handle(Drained(1, 1), 6 * SECOND)
    assert (view(balancer).loads, view(balancer).past) == ((new.load,), (6, 3, 2))


def test_a_view_is_the_same_until_something_changes() -> None:
    balancer = serving()
    before = view(balancer)
    balancer.handle(Resolved((Endpoint("a"),)), 5 * SECOND)

    assert view(balancer) is before


def test_a_new_weight_reaches_pickers_and_views() -> None:
    balancer = serving()
    handle = only_ready(balancer)
    endpoint = Endpoint("a", weight=3.0, locality="here", attributes={"rack": 7})
    balancer.handle(Resolved((endpoint,)), 5 * SECOND)

    assert only_ready(balancer) is handle
    assert (handle.weight, handle.endpoint, view(balancer).endpoint) == (3.0, endpoint, endpoint)


def test_a_weight_that_changes_while_there_is_no_connection_counts_later() -> None:
    balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None)), seed=1)
    balancer.handle(Resolved((Endpoint("a"),)), SECOND)
    balancer.handle(Resolved((Endpoint("a", weight=3.0),)), SECOND)
    balancer.handle(ConnectivityChanged(1, READY), SECOND)
    balancer.handle(DataReady(1, 1), SECOND)
    balancer.handle(HealthReported(1, 1, 1), SECOND)

    assert only_ready(balancer).weight == 3.0


def test_the_reason_of_an_ended_watch_outlives_news_of_the_connection_for_calls() -> None:
    balancer = serving()
    balancer.handle(WatchClosed(1, 1, Code.UNAVAILABLE, "bye"), 20 * SECOND)
    balancer.handle(CallFailed(1, 1, Code.UNAVAILABLE, is_refused=True), 20 * SECOND)
    balancer.handle(DataReady(1, 2), 20 * SECOND)

    assert view(balancer).reason == "SERVING, and watched again: health watch ended with UNAVAILABLE: bye"
