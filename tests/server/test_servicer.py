"""Check, Watch and List over real connections, sync, blocking and aio."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent import futures
from contextlib import closing
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from healthlb.errors import ConfigError
from healthlb.server import HealthServicer, senders
from healthlb.server.listing import LIST, decode_list, encode_list
from tests.backends.clients import Watching, eventually, failure
from tests.server.served import PATIENCE, Served, connected, request

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


def test_check_answers_with_the_status(served: Served, stub: Any) -> None:
    for service, status in {"": SERVING, "a": SERVING, "b": UNKNOWN, "c": NOT_SERVING}.items():
        served.set(service, status)

        assert stub.Check(request(service), timeout=PATIENCE).status == status
        assert served.servicer.get(service) == status


def test_check_of_an_unknown_service_is_not_found(served: Served, stub: Any) -> None:
    error = failure(lambda: stub.Check(request("never"), timeout=PATIENCE))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")


def test_watch_begins_with_the_status(served: Served, stub: Any) -> None:
    served.set("svc", NOT_SERVING)

    assert Watching(stub.channel, "").next() == SERVING
    assert Watching(stub.channel, "svc").next() == NOT_SERVING


def test_watch_of_an_unknown_service_hears_of_it_later(served: Served, stub: Any) -> None:
    watching = Watching(stub.channel, "svc")

    assert watching.next() == SERVICE_UNKNOWN
    served.set("other", SERVING)
    assert watching.is_silent()
    for status in (SERVING, NOT_SERVING, SERVING):
        served.set("svc", status)
        assert watching.next() == status


def test_equal_statuses_are_told_once(served: Served, stub: Any) -> None:
    watching = Watching(stub.channel)
    seen = [watching.next()]
    for _ in range(5):
        served.set("", SERVING)
    served.set("", NOT_SERVING)
    seen.append(watching.next())

    assert seen == [SERVING, NOT_SERVING]
    assert watching.is_silent()


def test_every_watcher_hears_every_service_of_its_own(served: Served, stub: Any) -> None:
    watchings = {(number, name): Watching(stub.channel, name) for number in range(3) for name in ("a", "b")}

    assert {watching.next() for watching in watchings.values()} == {SERVICE_UNKNOWN}
    served.set("a", SERVING)
    served.set("b", NOT_SERVING)
    for (_, name), watching in watchings.items():
        assert watching.next() == (SERVING if name == "a" else NOT_SERVING)


def test_a_client_that_leaves_is_forgotten(served: Served, stub: Any) -> None:
    watchings = [Watching(stub.channel, name) for name in ("svc", "")]
    for watching in watchings:
        watching.next()

    assert served.registry.watcher_count() == 2
    for watching in watchings:
        watching.cancel()
    eventually(lambda: served.registry.watcher_count() == 0)
    served.set("svc", SERVING)
    assert watchings[0].next() == grpc.StatusCode.CANCELLED


def test_shutdown_and_resume(served: Served, stub: Any) -> None:
    served.set("svc", SERVING)
    watching = Watching(stub.channel, "svc")
    seen = [watching.next()]
    served.enter_graceful_shutdown()
    seen.append(watching.next())
    served.set("svc", SERVING)

    assert stub.Check(request("svc"), timeout=PATIENCE).status == NOT_SERVING
    assert watching.is_silent()
    served.resume()
    seen.append(watching.next())
    served.set("svc", UNKNOWN)
    seen.append(watching.next())
    assert seen == [SERVING, NOT_SERVING, SERVING, UNKNOWN]


def test_close_ends_watches_so_that_the_server_stops_at_once(served: Served, stub: Any) -> None:
    known, unknown = Watching(stub.channel), Watching(stub.channel, "never")
    assert (known.next(), unknown.next()) == (SERVING, SERVICE_UNKNOWN)
    served.close_servicer()

    assert [known.next(), known.next()] == [NOT_SERVING, grpc.StatusCode.UNAVAILABLE]
    assert unknown.next() == grpc.StatusCode.UNAVAILABLE
    assert Watching(stub.channel).next() == grpc.StatusCode.UNAVAILABLE
    assert stub.Check(request(), timeout=PATIENCE).status == NOT_SERVING
    stopping = threading.Thread(target=served.stop, args=(60.0,))
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def listed(stub: Any) -> dict[str, int]:
    """What List says, for clients whose protobuf does not know it too."""
    return decode_list(stub.channel.unary_unary(LIST)(b"", timeout=PATIENCE))


def test_list_gives_every_service(served: Served, stub: Any) -> None:
    served.set("svc", NOT_SERVING)

    assert listed(stub) == {"": SERVING, "svc": NOT_SERVING}


def test_list_of_more_than_100_is_refused(served: Served, stub: Any) -> None:
    for number in range(99):
        served.set(f"svc {number}", SERVING)

    assert len(listed(stub)) == 100
    served.set("one more", SERVING)
    error = failure(lambda: listed(stub))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_list_is_read_as_it_was_written() -> None:
    statuses = {"": 1, "süß": 0, "long" * 50: 2}

    assert decode_list(encode_list(statuses)) == statuses
    assert decode_list(b"") == {}


@pytest.mark.parametrize(
    "message", [b"\x0a\x05ab", b"\x08\x01", b"\xff", b"\x0a\x02\x0a\x09", b"\x0a\x04\x12\x02\x08\xff"]
)
def test_what_is_no_list_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="not a HealthListResponse"):
        decode_list(message)


@pytest.mark.needs("grpcio-health-checking", "1.85", reason="it has no List to compare with")
def test_a_list_encoded_by_hand_is_the_same() -> None:
    statuses = {"": 1, "süß": 0, "long" * 50: 2}
    decoded = health_pb2.HealthListResponse.FromString(encode_list(statuses))

    assert {name: entry.status for name, entry in decoded.statuses.items()} == statuses


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_hostile_client_is_refused_and_costs_nothing(kind: str) -> None:
    with closing(Served(kind)) as served, connected(served) as stub:
        calls, outcomes = [], Counter[Any]()
        for hundred in range(20):
            calls += [stub.Watch(request(f"random {hundred} {number}")) for number in range(100)]
            outcomes.update(_first(call) for call in calls[-100:])

        assert outcomes == {SERVICE_UNKNOWN: 100, grpc.StatusCode.RESOURCE_EXHAUSTED: 1900}
        assert served.registry.watcher_count() == 100
        for call in calls:
            call.cancel()
        eventually(lambda: served.registry.watcher_count() == 0)
        assert "0 unknown names" in repr(served.servicer)


def _first(call: Any) -> Any:
    try:
        return next(call).status
    except grpc.RpcError:
        return call.code()


def test_a_long_name_is_an_invalid_argument(served: Served, stub: Any) -> None:
    assert Watching(stub.channel, "x" * 1025).next() == grpc.StatusCode.INVALID_ARGUMENT


def test_bad_statuses_are_the_callers_fault(served: Served) -> None:
    with pytest.raises(ConfigError, match="not 7"):
        served.set("svc", 7)


def test_watches_hold_no_thread(served_without_threads: Served) -> None:
    with connected(served_without_threads) as stub:
        before = threading.active_count()
        watchings = [stub.Watch(request()) for _ in range(50)]

        assert [next(watching).status for watching in watchings] == [SERVING] * 50
        # Of the client's side grpcio makes no thread per unread stream either.
        assert threading.active_count() - before < 12
        assert stub.Check(request(), timeout=PATIENCE).status == SERVING
        for watching in watchings:
            watching.cancel()


@pytest.mark.parametrize("kind", ["sync", "blocking"])
def test_no_thread_stays_once_nobody_watches(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_IDLE", 0.05)
    others = set(threading.enumerate())

    def own() -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - others if "healthlb-health" in thread.name]

    with closing(Served(kind)) as served, connected(served) as stub:
        for status in (NOT_SERVING, SERVING):
            watching = Watching(stub.channel)
            watching.next()
            served.set("", status)
            assert watching.next() == status
            assert own()
            watching.cancel()
            eventually(lambda: not own())


def test_two_servicers_keep_their_own_settings() -> None:
    pools = [futures.ThreadPoolExecutor(1) for _ in range(2)]
    servicers = [HealthServicer(is_free, pool) for is_free, pool in zip((False, True), pools, strict=True)]

    assert [servicer.Watch.experimental_non_blocking for servicer in servicers] == [False, True]
    assert [servicer.Watch.experimental_thread_pool for servicer in servicers] == pools


class RecordingPool(futures.ThreadPoolExecutor):
    """Counts what it was given."""

    submitted = 0

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.submitted += 1
        return super().submit(*arguments, **options)


def test_watch_starts_in_the_pool_it_was_given() -> None:
    pool = RecordingPool(2)
    with closing(Served(experimental_thread_pool=pool)) as served, connected(served) as stub:
        assert next(stub.Watch(request())).status == SERVING
        assert stub.Check(request()).status == SERVING

    assert pool.submitted == 1


def test_a_subclass_may_wrap_watch() -> None:
    seen = []

    class Counted(HealthServicer):
        def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
            seen.append(request.service)
            return super().Watch(request, context, send_response_callback)

    with closing(Served(servicer=Counted())) as served, connected(served) as stub:
        assert next(stub.Watch(request("svc"))).status == SERVICE_UNKNOWN

    assert seen == ["svc"]


class Opaque(grpc.ServerInterceptor):
    """Wraps handlers as many interceptors do: grpcio no longer sees that Watch can do without a thread."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if not handler.response_streaming:
            return handler
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: handler.unary_stream(request, context),
            handler.request_deserializer,
            handler.response_serializer,
        )


def test_watch_works_behind_interceptors_that_hide_it() -> None:
    servicer = HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[Opaque()])
    servicer.add_to_server(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        watching = Watching(channel)

        assert watching.next() == SERVING
        servicer.set("", NOT_SERVING)
        assert watching.next() == NOT_SERVING
        servicer.close()
        assert watching.next() == grpc.StatusCode.UNAVAILABLE
    server.stop(None)


def test_a_status_set_before_the_start_comes_first() -> None:
    servicer = HealthServicer()
    servicer.set("svc", NOT_SERVING)
    with closing(Served(servicer=servicer)) as served, connected(served) as stub:
        assert next(stub.Watch(request("svc"))).status == NOT_SERVING
