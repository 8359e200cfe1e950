"""Views of a channel with another policy, interceptors above them, and policies from a service config."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import ConfigError, Failover
from tests.backends.clients import eventually
from tests.failover.local import Local, fail
from tests.failover.storm import comes_to_rest, view
from tests.failover.support import ANY, Call, InOrder, failure, outcome, ready, seconds
from tests.parity.aio_face import AioClient
from tests.parity.face import ARITIES, METHODS, Client, Face
from tests.parity.fleet import Fleet, addresses

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


# --- views ------------------------------------------------------------------------------------------


def test_a_view_has_its_own_policy_and_nothing_else(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = ready(face, backends, Failover())
    watches = [backend.stats().watches_open for backend in backends]
    safe, single = view(client, ANY), view(client, None)
    backends[0].behave(fail="UNAVAILABLE")

    assert Call(safe).make() == "b1"
    for other in (client, single):
        assert len(failure(Call(other).make).attempts) == 1
    assert [backend.stats().watches_open for backend in backends] == watches
    assert [status.picks for status in safe.subchannels()] == [status.picks for status in client.subchannels()]
    comes_to_rest(client)


def test_closing_a_view_closes_nothing_else(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = ready(face, [backend], Failover())
    first, second = view(client, ANY), view(client, ANY)
    ongoing = Call(client, sleep=0.3).begin()
    first.close()

    assert second.call() == client.call() == ongoing.result().decode() == "b0"
    assert client.state() == "READY"


def test_closing_the_channel_closes_its_views(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = ready(face, [backend])
    other = view(client, ANY)
    client.close()

    with pytest.raises(ValueError, match="closed"):
        other.call()


def test_a_view_of_a_view(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends, None)

    assert Call(view(view(client, None), ANY)).make() == "b1"


def test_a_view_may_be_made_before_the_first_use(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = face.open(addresses(backends), failover=None, picker=InOrder)
    other = view(client, ANY)
    client.wait_until_ready(2)

    assert Call(other).make() == "b1"


@pytest.mark.parametrize("wrong", [7, "yes", {}, Failover])
def test_a_view_of_something_that_is_no_policy(face: Face, wrong: object) -> None:
    client = face.open(["127.0.0.1:1"])

    with pytest.raises(ConfigError, match="failover must be a Failover or None, not"):
        client.channel.with_failover(wrong)


# --- interceptors -----------------------------------------------------------------------------------


class Tagging(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds metadata, and counts what it sees."""

    def __init__(self) -> None:
        """See nothing yet."""
        self.seen: list[str] = []

    def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen.append(details.method)
        tagged = details._replace(metadata=[*(details.metadata or ()), ("x-tag", "1")])
        return continuation(tagged, request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept
    intercept_stream_stream = _intercept


class _AioTagging:
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    async def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        self._seen.append(details.method if isinstance(details.method, str) else details.method.decode())
        details.metadata.add("x-tag", "1")
        return await continuation(details, request)


class _AioUnary(_AioTagging, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _AioTagging._intercept


class _AioResponses(_AioTagging, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _AioTagging._intercept


class _AioRequests(_AioTagging, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = _AioTagging._intercept


class _AioBoth(_AioTagging, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _AioTagging._intercept


def intercepted(face: Face, targets: list[str], seen: list[str]) -> Client:
    """Return a view of a channel, with an interceptor in front."""
    if face.name == "sync":
        client = view(ready_at(face, targets), ANY)
        tagging = Tagging()
        tagging.seen = seen
        client.channel = grpc.intercept_channel(client.channel, tagging)
        return client
    interceptors = [kind(seen) for kind in (_AioUnary, _AioResponses, _AioRequests, _AioBoth)]
    return view(ready_at(face, targets, interceptors=interceptors), ANY)


def ready_at(face: Face, targets: list[str], **arguments: Any) -> Client:
    """Return a client of servers that have no health service."""
    return face.ready(targets, None, picker=InOrder, **arguments)


@pytest.mark.parametrize("arity", ARITIES)
def test_an_interceptor_sees_one_call_and_every_attempt_has_its_metadata(face: Face, arity: str) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        fail(context)
        yield b""

    def refuse_one(request: Any, context: grpc.ServicerContext) -> Any:
        fail(context)

    def answer_one(request: Any, context: grpc.ServicerContext) -> bytes:
        # All are read first: grpc.aio may hide the status of a call that it is still writing to (1.85.1).
        return b"answer" if isinstance(request, bytes) or list(request) else b""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        yield answer_one(request, context)

    is_stream = arity.endswith("stream")
    one: Any = {arity: refuse if is_stream else refuse_one}
    other: Any = {arity: answer if is_stream else answer_one}
    seen: list[str] = []
    with Local(**one) as first, Local(**other) as second:
        client = intercepted(face, [first.address, second.address], seen)

        assert outcome(client.start(arity), arity) == b"answer"
        assert seen == [METHODS[arity]]
        assert [(server.calls, server.metadata[0]["x-tag"]) for server in (first, second)] == [(1, "1"), (1, "1")]


def test_the_error_behind_an_interceptor(face: Face) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        fail(context, details="not now")

    with Local(unary_unary=refuse) as server:
        client = intercepted(face, [server.address], [])
        for run in (client.call, lambda: client.start().result()):
            error = failure(run)

            assert (error.code(), error.details()) == (UNAVAILABLE, "not now")
            assert len(error.attempts) == 3


# --- service configs --------------------------------------------------------------------------------


def retrying(**more: Any) -> dict[str, Any]:
    """Return a config whose Unary is retried."""
    policy = {
        "maxAttempts": 2,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    name = [{"service": "test.Echo", "method": "Unary"}]
    return {"methodConfig": [{"name": name, "retryPolicy": policy | more}]}


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_a_retry_policy_is_followed(face: Face, fleet: Fleet, code: str) -> None:
    backends = fleet.lend(3)
    backends[0].behave(fail=code)
    client = face.ready(addresses(backends), picker=InOrder, service_config=retrying())
    call = Call(client)

    # 20 % less than the initial backoff at least.
    assert 0.08 <= seconds(call.make) < 10
    assert call.executions(*backends) == [1, 1, 0]
    backends[1].behave(fail=code)
    assert len(failure(client.call).attempts) == 2
    # Another method has no policy.
    stream = Call(client)
    assert len(failure(stream.begin("unary_stream").drain).attempts) == 1
    assert stream.executions(*backends) == [1, 0, 0]


def test_an_explicit_policy_wins_over_the_config(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = face.ready(addresses(backends), picker=InOrder, service_config=retrying(), failover=Failover())

    assert len(failure(client.call).attempts) == 1
    assert len(failure(view(client, None).call).attempts) == 1
    assert Call(view(client, ANY)).make() == "b1"


def test_retry_throttling_is_the_channels(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE")
    config = retrying(initialBackoff="0.001s") | {"retryThrottling": {"maxTokens": 4, "tokenRatio": 0.1}}
    client = face.ready(addresses(backends), picker=InOrder, service_config=config)
    attempts = [len(failure(client.call).attempts) for _ in range(3)]

    # Three tokens are more than half of four, two are not.
    assert attempts == [2, 1, 1]


def test_a_hedging_policy_is_followed(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=30)
    hedging = {"maxAttempts": 2, "hedgingDelay": "0.1s", "nonFatalStatusCodes": ["UNAVAILABLE"]}
    config = {"methodConfig": [{"name": [{"service": "test.Echo"}], "hedgingPolicy": hedging}]}
    client = face.ready(addresses(backends), picker=InOrder, service_config=config)

    assert client.call() == "b1"
    eventually(lambda: backends[0].stats().in_flight == 0)
    comes_to_rest(client)


@pytest.mark.parametrize(("most", "timeout"), [("0.1s", None), ("0.1s", 60.0), ("60s", 0.1)])
def test_a_methods_timeout_is_an_upper_bound(face: Face, fleet: Fleet, most: str, timeout: float | None) -> None:
    (backend,) = fleet.lend()
    backend.behave(sleep=60)
    client = face.ready([backend.address], service_config={"methodConfig": [{"name": [{}], "timeout": most}]})
    error: list[grpc.RpcError] = []

    assert 0.1 <= seconds(lambda: error.append(failure(lambda: client.call(timeout=timeout)))) < 10
    assert error[0].code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_wait_for_ready_of_a_method_is_the_default_of_its_calls(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    config = {"methodConfig": [{"name": [{"service": "test.Echo", "method": "Unary"}], "waitForReady": True}]}
    client = face.open([backend.address], service_config=config)

    assert failure(lambda: client.call(wait_for_ready=False)).code() is UNAVAILABLE
    assert failure(lambda: client.start("unary_stream").drain()).code() is UNAVAILABLE
    assert failure(lambda: client.call(timeout=0.3)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = client.start()
    backend.set("SERVING", "svc")
    assert waiting.result() == b"b0"


def test_the_aio_face_takes_the_same_config(face: Face, fleet: Fleet) -> None:
    """JSON text, and the closest name."""
    (backend,) = fleet.lend()
    backend.behave(sleep=30)
    text = (
        '{"methodConfig": [{"name": [{}], "timeout": "30s"},'
        ' {"name": [{"service": "test.Echo", "method": "Unary"}], "timeout": "0.1s"}]}'
    )
    client = face.ready([backend.address], service_config=text)

    assert seconds(lambda: failure(client.call)) < 10
    assert isinstance(client, AioClient) == (face.name == "aio")
