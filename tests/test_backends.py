"""The test servers do what they claim; checked with plain grpcio clients."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.backends import Backend, BackendError
from tests.backends.certs import make_certificates
from tests.backends.clients import (
    CHECK,
    NOT_SERVING,
    PATIENCE,
    SERVICE_UNKNOWN,
    SERVING,
    UNARY,
    Watching,
    call,
    check,
    connected,
    eventually,
    failure,
)


@pytest.fixture(scope="module", params=["sync", "aio"])
def stock(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with Backend(request.param, name="b7", services=("", "svc")) as backend:
        yield backend


@pytest.fixture
def channel(stock: Backend) -> Iterator[grpc.Channel]:
    with connected(stock) as channel:
        yield channel


# The Echo service


def test_every_arity_answers_with_the_name(channel: grpc.Channel) -> None:
    unary = call(channel)
    served = list(channel.unary_stream("/test.Echo/ServerStream")(b""))
    counted = channel.stream_unary("/test.Echo/ClientStream")(iter([b"a", b"b"]))
    echoed = list(channel.stream_stream("/test.Echo/Bidi")(iter([b"a", b"b"])))

    assert unary == b"b7"
    assert served == [b"b7:0", b"b7:1", b"b7:2"]
    assert counted == b"b7:2"
    assert echoed == [b"b7:a", b"b7:b"]


def test_metadata_steers_a_call(channel: grpc.Channel) -> None:
    began_at = time.monotonic()
    metadata = (("x-echo", "1"), ("x-sleep", "0.1"), ("x-trailer", "t"), ("x-pushback", "50"))
    answer, ended = channel.unary_unary(UNARY).with_call(b"ping", metadata=metadata)
    took = time.monotonic() - began_at

    assert answer == b"ping"
    assert took >= 0.1
    assert dict(ended.initial_metadata()) == {"x-backend": "b7"}
    assert dict(ended.trailing_metadata()) == {"x-backend": "b7", "x-trailer": "t", "grpc-retry-pushback-ms": "50"}


def test_a_call_fails_as_told(channel: grpc.Channel) -> None:
    error = failure(lambda: call(channel, fail="RESOURCE_EXHAUSTED", details="no more", trailer="t"))

    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")
    assert dict(error.initial_metadata()) == {}
    assert dict(error.trailing_metadata()) == {"x-backend": "b7", "x-trailer": "t"}


def test_headers_come_first_when_asked_for(channel: grpc.Channel) -> None:
    ongoing = channel.unary_stream("/test.Echo/ServerStream")(b"", metadata=(("x-headers", "1"), ("x-sleep", "60")))
    headers = dict(ongoing.initial_metadata())
    ongoing.cancel()

    assert headers == {"x-backend": "b7"}


def test_a_server_stream_keeps_its_interval(channel: grpc.Channel) -> None:
    began_at = time.monotonic()
    metadata = (("x-count", "5"), ("x-interval", "0.05"))
    messages = list(channel.unary_stream("/test.Echo/ServerStream")(b"", metadata=metadata))
    took = time.monotonic() - began_at

    assert len(messages) == 5
    assert took >= 0.2


def test_behave_steers_every_call_until_reset(stock: Backend, channel: grpc.Channel) -> None:
    stock.behave(fail="INTERNAL", details="broken")
    error = failure(lambda: call(channel))
    overruled = failure(lambda: call(channel, fail="NOT_FOUND"))
    stock.behave()

    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "broken")
    assert overruled.code() == grpc.StatusCode.NOT_FOUND
    assert call(channel) == b"b7"


def test_stats_tell_what_was_executed(stock: Backend, channel: grpc.Channel) -> None:
    before = stock.stats()
    for call_id in ("one", "two", "two"):
        call(channel, id=call_id)
    after = stock.stats()

    assert after.executions["Unary"] == before.executions.get("Unary", 0) + 3
    assert (after.ids["one"], after.ids["two"]) == (1, 2)
    assert ["x-id", "two"] in after.last_metadata["Unary"]
    assert len(after.peers["Unary"]) == len(before.peers.get("Unary", ())) + 1
    assert before.started_at == after.started_at < time.monotonic()


def test_a_cancelled_call_frees_its_handler(stock: Backend, channel: grpc.Channel) -> None:
    before = stock.stats()
    ongoing = channel.unary_unary(UNARY).future(b"", metadata=(("x-sleep", "60"),))
    eventually(lambda: stock.stats().in_flight == before.in_flight + 1)
    ongoing.cancel()
    eventually(lambda: stock.stats().in_flight == before.in_flight)

    assert stock.stats().cancelled == before.cancelled + 1


# Health, by kind


def test_stock_health_follows_set(stock: Backend, channel: grpc.Channel) -> None:
    watching, stranger = Watching(channel, "svc"), Watching(channel, "nobody")
    seen = [watching.next()]
    for status in ("NOT_SERVING", "SERVING"):
        stock.set(status, "svc")
        seen.append(watching.next())

    assert seen == [SERVING, NOT_SERVING, SERVING]
    assert stranger.next() == SERVICE_UNKNOWN
    assert check(channel, "svc") == SERVING
    assert failure(lambda: check(channel, "nobody")).code() == grpc.StatusCode.NOT_FOUND


def test_watches_and_checks_are_counted(stock: Backend, channel: grpc.Channel) -> None:
    before = stock.stats()
    watching = Watching(channel, "svc")
    watching.next()
    check(channel)
    during = stock.stats()
    watching.cancel()
    eventually(lambda: stock.stats().watches_open == during.watches_open - 1)

    assert during.watches_started == before.watches_started + 1
    assert during.watches["svc"] == before.watches.get("svc", 0) + 1
    assert before.started_at < during.watch_times[-1] < time.monotonic()
    assert during.checks == before.checks + 1


def test_set_does_not_hang_while_watches_leave(stock: Backend, channel: grpc.Channel) -> None:
    for turn in range(10):
        watches = [Watching(channel, "flap") for _ in range(10)]
        for watching in watches:
            watching.next()
        for watching in watches:
            watching.cancel()
        stock.set("SERVING" if turn % 2 else "NOT_SERVING", "flap")

    assert check(channel, "flap") == SERVING


def test_the_initial_status_is_for_the_named_services() -> None:
    with Backend(services=("svc",), status="NOT_SERVING") as backend, connected(backend) as channel:
        assert check(channel, "svc") == NOT_SERVING
        assert check(channel) == SERVING


def test_no_health_is_unimplemented() -> None:
    with Backend("no_health") as backend, connected(backend) as channel:
        assert Watching(channel).next() == grpc.StatusCode.UNIMPLEMENTED
        assert failure(lambda: check(channel)).code() == grpc.StatusCode.UNIMPLEMENTED
        assert call(channel) == b"b0"
        stats = backend.stats()
        assert (stats.watches_started, stats.watches_open, stats.checks) == (1, 0, 1)
        with pytest.raises(BackendError, match="no status to set"):
            backend.set("SERVING")


def test_silent_watch_answers_only_checks() -> None:
    with Backend("silent_watch") as backend, connected(backend) as channel:
        watching = Watching(channel)
        eventually(lambda: backend.stats().watches_open == 1)
        backend.set("NOT_SERVING")

        assert watching.is_silent()
        assert check(channel) == NOT_SERVING


def test_answer_once_ends_with_ok() -> None:
    with Backend("answer_once") as backend, connected(backend) as channel:
        first, second = Watching(channel), None
        seen = [first.next(), first.next()]
        backend.set("NOT_SERVING")
        second = Watching(channel)
        seen += [second.next(), second.next()]

        assert seen == [SERVING, grpc.StatusCode.OK, NOT_SERVING, grpc.StatusCode.OK]
        eventually(lambda: backend.stats().watches_open == 0)


def test_watch_error_ends_with_the_code() -> None:
    options = {"code": "UNAVAILABLE", "messages": 2}
    with Backend("watch_error", options=options) as backend, connected(backend) as channel:
        watching = Watching(channel)
        seen = [watching.next() for _ in range(3)]

        assert seen == [SERVING, SERVING, grpc.StatusCode.UNAVAILABLE]
        backend.restart(kind="sync")
        assert Watching(channel).next() == SERVING


def test_garbage_is_no_response_and_stays_open() -> None:
    with Backend("garbage") as backend, connected(backend) as channel:
        watching = Watching(channel)
        message = watching.raw()

        assert message == b"\xff\xff\xff\xff"
        assert watching.is_silent()
        assert backend.stats().watches_open == 1


def test_scripted_watch_sends_any_number() -> None:
    with Backend("scripted_watch", options={"statuses": [1, 42]}) as backend, connected(backend) as channel:
        watching = Watching(channel)
        seen = [watching.next(), watching.next()]
        for status in ("SERVICE_UNKNOWN", 77):
            backend.set(status)
            seen.append(watching.next())

        assert seen == [1, 42, SERVICE_UNKNOWN, 77]


def test_max_age_ends_connections() -> None:
    options = {"max_connection_age_ms": 100, "max_connection_age_grace_ms": 100}
    with Backend("max_age", options=options) as backend, connected(backend) as channel:
        watching = Watching(channel)

        assert watching.next() == SERVING
        assert watching.next() == grpc.StatusCode.UNAVAILABLE
        assert call(channel) == b"b0"


def test_hung_check_leaves_watch_and_calls_alone() -> None:
    with Backend("hung_check", options={"workers": 2}) as backend, connected(backend) as channel:
        hung = [channel.unary_unary(CHECK).future(b"", timeout=60) for _ in range(5)]
        eventually(lambda: backend.stats().checks == 5)

        assert Watching(channel).next() == SERVING
        assert call(channel) == b"b0"
        assert not any(one.done() for one in hung)


# Options


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_require_metadata_covers_the_health_service(kind: str) -> None:
    with Backend(kind, options={"require_metadata": ["token", "s3"]}) as backend, connected(backend) as channel:
        assert failure(lambda: call(channel)).code() == grpc.StatusCode.UNAUTHENTICATED
        assert Watching(channel).next() == grpc.StatusCode.UNAUTHENTICATED
        assert channel.unary_unary(UNARY)(b"", metadata=(("token", "s3"),)) == b"b0"


def test_one_process_listens_on_many_addresses() -> None:
    hosts = ["127.0.0.1:0", "[::1]:0", "unix:"]
    with Backend(options={"hosts": hosts}) as backend:
        assert len(backend.addresses) == 3
        for address in backend.addresses:
            with connected(backend, address) as channel:
                assert call(channel) == b"b0"
        path = backend.addresses[2].removeprefix("unix:")
    assert not os.path.exists(path)


def test_set_reaches_every_port() -> None:
    with Backend(options={"ports": 50}) as backend:
        backend.set("NOT_SERVING")

        assert len(set(backend.addresses)) == 50
        for address in backend.addresses[::10]:
            with connected(backend, address) as channel:
                assert check(channel) == NOT_SERVING


@pytest.mark.parametrize("host", ["::1", "localhost", "unix:"])
def test_a_host_may_be_anything_to_listen_on(host: str) -> None:
    with Backend(host=host) as backend, connected(backend) as channel:
        assert call(channel) == b"b0"
        backend.kill()
        backend.restart()
        assert call(channel) == b"b0"


@pytest.mark.parametrize("is_mutual", [False, True])
def test_tls(tmp_path: Path, is_mutual: bool) -> None:
    certificates = make_certificates(tmp_path, names=["localhost", "127.0.0.1"])
    strange = tmp_path / "strange"
    strange.mkdir()
    credentials = certificates.channel_credentials(mutual=is_mutual)
    wrong = certificates.channel_credentials() if is_mutual else make_certificates(strange).channel_credentials()
    with Backend(options={"tls": certificates.server_options(mutual=is_mutual)}) as backend:
        with grpc.secure_channel(backend.address, credentials) as channel:
            assert call(channel) == b"b0"
        with grpc.secure_channel(backend.address, wrong) as channel:
            error = failure(lambda: channel.unary_unary(UNARY)(b"", timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_misspelt_kinds_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="kind 'async' is none of sync"):
        Backend("async")
    with pytest.raises(ValueError, match="options worker are none of"):
        Backend(options={"worker": 3})
