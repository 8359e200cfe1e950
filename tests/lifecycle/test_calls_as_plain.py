"""Sync calls beside those of a plain grpcio channel: what is taken when, who runs what, how a call ends.

Each scenario is a function of a channel; what it returns on ours is compared with what it returns on grpcio's own. Ours
is *fresh* (the call waits for the first connection), READY, or its first attempt fails.
"""

from __future__ import annotations

import contextvars
import copy
import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.experimental
import pytest

import healthlb
from healthlb import Failover
from tests.failover.local import Local
from tests.failover.support import InOrder
from tests.lifecycle.support import PATIENCE, eventually

UNARY, STREAM, CLIENT_STREAM, BIDI = (
    "/test.Echo/Unary",
    "/test.Echo/ServerStream",
    "/test.Echo/ClientStream",
    "/test.Echo/Bidi",
)
METHODS = {"unary_unary": UNARY, "unary_stream": STREAM, "stream_unary": CLIENT_STREAM, "stream_stream": BIDI}
ALICE = (("token", "alice"),)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

Scenario = Callable[[grpc.Channel], Any]
user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def told(context: grpc.ServicerContext) -> bytes:
    """Return the token, after what the caller steers: a sleep, or a failure."""
    metadata = dict(context.invocation_metadata())
    time.sleep(float(metadata.get("sleep", 0)))
    if "fail" in metadata:
        context.set_trailing_metadata((("reason", "asked"),))
        context.abort(UNAVAILABLE, "told to fail")
    return metadata.get("token", "").encode()


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    return request + told(context)


def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    token = told(context)
    yield from (request, token)


@pytest.fixture(scope="module")
def server() -> Iterator[Local]:
    """Serve an echo of each arity that adds the caller's token."""
    with Local(
        unary_unary=unary,
        unary_stream=stream,
        stream_unary=lambda requests, context: unary(b"".join(requests), context),
        stream_stream=lambda requests, context: stream(b"".join(requests), context),
    ) as local:
        yield local


@pytest.fixture(scope="module")
def broken() -> Iterator[Local]:
    """Refuse every call without a word, whatever was sent."""

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(UNAVAILABLE, "not here")

    def refuse_all(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        refuse(request, context)
        yield b""

    with Local(unary_unary=refuse, unary_stream=refuse_all, stream_unary=refuse, stream_stream=refuse_all) as local:
        yield local


@pytest.fixture(params=["fresh", "ready", "retried"])
def play(request: pytest.FixtureRequest, server: Local, broken: Local) -> Iterator[Callable[[Scenario], Any]]:
    """Return what plays a scenario on a plain channel, then on one of ours, and compares."""
    opened: list[Any] = []

    def ours() -> grpc.Channel:
        targets = [broken.address, server.address] if request.param == "retried" else [server.address]
        failover = Failover(idempotent=True)
        channel = healthlb.HealthAwareChannel(targets, None, failover=failover, picker=InOrder, outliers=None)
        opened.append(channel)
        if request.param != "fresh":
            channel.wait_until_ready(PATIENCE, len(targets))
        return channel

    def run(scenario: Scenario) -> Any:
        with grpc.insecure_channel(server.address) as plain:
            wanted = scenario(plain)
        assert scenario(ours()) == wanted
        return wanted

    yield run
    for channel in opened:
        channel.close()
        assert not any(status.in_flight for status in channel.subchannels())


def forms(channel: grpc.Channel, timeout: float = PATIENCE, **serializers: Any) -> dict[str, Callable[..., Any]]:
    """Return all forms of a call as functions of what one request is made of, which return the response in one."""
    made: dict[str, Any] = {arity: getattr(channel, arity)(name, **serializers) for arity, name in METHODS.items()}
    return {
        "call": lambda request, **terms: made["unary_unary"](request, timeout, **terms),
        "with_call": lambda request, **terms: made["unary_unary"].with_call(request, timeout, **terms)[0],
        "future": lambda request, **terms: made["unary_unary"].future(request, timeout, **terms).result(),
        "stream": lambda request, **terms: b"".join(made["unary_stream"](request, timeout, **terms)),
        "client stream": lambda request, **terms: made["stream_unary"](iter([request]), timeout, **terms),
        "its future": lambda request, **terms: made["stream_unary"].future(iter([request]), timeout, **terms).result(),
        "bidi": lambda request, **terms: b"".join(made["stream_stream"](iter([request]), timeout, **terms)),
    }


def raised(run: Callable[[], Any]) -> Any:
    """Return what a function returned, or what it raised, in words that both channels share."""
    try:
        return run()
    except grpc.RpcError as error:
        return type(error).__name__, error.code(), error.details()  # type: ignore[attr-defined]
    except Exception as error:
        return type(error).__mro__[-3 if isinstance(error, ValueError) else 0].__name__, str(error)


# --- what is taken when ------------------------------------------------------------------------------


def test_a_request_is_taken_when_the_call_is_made(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        method: Any = channel.unary_unary(UNARY, request_serializer=bytes)
        request, futures = bytearray(), []
        for letter in b"abcd":
            request.append(letter)
            futures.append(method.future(request, PATIENCE))
        return [future.result() for future in futures]

    assert play(scenario) == [b"a", b"ab", b"abc", b"abcd"]


def test_metadata_is_taken_when_the_call_is_made(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        method: Any = channel.unary_unary(UNARY)
        metadata: list[Any] = []
        futures = []
        for token in ("alice", "bob"):
            metadata[:] = [("token", token)]
            futures.append(method.future(b"", PATIENCE, metadata))
        return [future.result() for future in futures]

    assert play(scenario) == [b"alice", b"bob"]


def test_metadata_may_be_a_generator(server: Local) -> None:
    """grpcio loses it in some forms."""
    with healthlb.HealthAwareChannel([server.address], None) as channel:
        for name, form in forms(channel).items():
            assert form(b"x", metadata=(pair for pair in ALICE)) == b"xalice", name


def test_each_call_s_own_context_and_thread(play: Any) -> None:
    """The serializer runs in the caller's thread; requests are read by one thread, in a context of its own."""

    def scenario(channel: grpc.Channel) -> Any:
        here = threading.current_thread()
        seen: list[Any] = []

        def serialize(request: bytes) -> bytes:
            seen.append((user.get(), threading.current_thread() is here))
            return request

        def requests() -> Iterator[bytes]:
            token = user.set("reader")
            threads = {threading.current_thread()}
            for request in (b"a", b"b", b"c"):
                yield request
                threads.add(threading.current_thread())
            user.reset(token)
            seen.append(("requests", len(threads), user.get()))

        unary: Any = channel.unary_unary(UNARY, request_serializer=serialize)
        client_stream: Any = channel.stream_unary(CLIENT_STREAM)
        bidi: Any = channel.stream_stream(BIDI)
        for name in ("alice", "bob"):
            user.set(name)
            unary.future(b"", PATIENCE).result()
            unary(b"", PATIENCE)
        user.set("nobody")
        assert client_stream(requests(), PATIENCE) == b"abc"
        assert client_stream.future(requests(), PATIENCE).result() == b"abc"
        assert list(bidi(requests(), PATIENCE))[0] == b"abc"
        return seen

    assert play(scenario)[0] == ("alice", True)


def test_parameters_by_name(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        client_stream: Any = channel.stream_unary(CLIENT_STREAM)
        bidi: Any = channel.stream_stream(BIDI)
        unary: Any = channel.unary_unary(UNARY)
        return (
            client_stream(request_iterator=iter([b"a"]), timeout=PATIENCE),
            client_stream.with_call(request_iterator=iter([b"a"]), timeout=PATIENCE)[0],
            client_stream.future(request_iterator=iter([b"a"]), timeout=PATIENCE).result(),
            list(bidi(request_iterator=iter([b"a"]), timeout=PATIENCE, metadata=None, credentials=None)),
            unary(request=b"a", timeout=PATIENCE, wait_for_ready=True, compression=grpc.Compression.Gzip),
        )

    play(scenario)


# --- arguments that cannot work ----------------------------------------------------------------------


def refuse(request: Any) -> bytes:
    raise KeyError("serializer")


@pytest.mark.parametrize(
    ("serializers", "terms"),
    [
        ({"request_serializer": refuse}, {}),
        ({"request_serializer": lambda request: None}, {}),
        ({"response_deserializer": refuse}, {}),
        ({"response_deserializer": lambda response: None}, {}),
        ({}, {"metadata": (("InVaLiD", "value"),)}),
        ({}, {"metadata": (("key", "line\nbreak"),)}),
        ({}, {"metadata": (("key", 1),)}),
        ({}, {"metadata": (("key-bin", "text"),)}),
        ({}, {"metadata": 5}),
        ({}, {"compression": 7}),
        ({}, {"credentials": 5}),
        ({}, {"credentials": grpc.ssl_channel_credentials()}),
    ],
)
def test_errors_are_raised_where_grpcio_raises_them(play: Any, serializers: Any, terms: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        return {
            name: raised(lambda form=form: form(b"x", **terms)) for name, form in forms(channel, **serializers).items()
        }  # type: ignore[misc]

    play(scenario)


@pytest.mark.parametrize("timeout", ["5", float("nan"), float("-inf"), -1, -1e18, 10**400])
def test_timeouts_of_every_kind(server: Local, timeout: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        unary: Any = channel.unary_unary(UNARY)
        bidi: Any = channel.stream_stream(BIDI)
        run = {
            "call": lambda: unary(b"", timeout),
            "future": lambda: unary.future(b"", timeout).result(PATIENCE),
            "bidi": lambda: list(bidi(iter([b""]), timeout)),
        }
        return {name: raised(form)[:2] for name, form in run.items()}

    with grpc.insecure_channel(server.address) as plain:
        wanted = scenario(plain)
    with healthlb.HealthAwareChannel([server.address], None, overload=healthlb.Overload(max_in_flight=2)) as channel:
        for _ in range(3):
            assert scenario(channel) == wanted
        channel.wait_until_ready(PATIENCE)
        for _ in range(3):
            assert scenario(channel) == wanted
        # Three calls that raised before they began would have used up the cap.
        assert channel.unary_unary(UNARY)(b"x", PATIENCE) == b"x"
        assert channel._subchannels.admission.limiter.in_flight == 0


@pytest.mark.parametrize("timeout", [float("inf"), 1e18])
def test_a_timeout_without_end(server: Local, timeout: float) -> None:
    """For grpcio it is past; see docs/compatibility.md."""
    with healthlb.HealthAwareChannel([server.address], None) as channel:
        for name, form in forms(channel, timeout).items():
            assert form(b"x") == b"x", name


def test_a_method_s_name_may_be_bytes(play: Any) -> None:
    assert play(lambda channel: channel.unary_unary(UNARY.encode())(b"x", PATIENCE)) == b"x"  # type: ignore[arg-type]


# --- life --------------------------------------------------------------------------------------------


def test_a_callback_runs_though_nobody_keeps_the_call(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        unary: Any = channel.unary_unary(UNARY)
        results: list[Any] = []
        for _ in range(20):
            unary.future(b"x", PATIENCE, (("sleep", "0.02"),)).add_done_callback(lambda f: results.append(f.result()))
            gc.collect()
        eventually(lambda: len(results) == 20)
        return results

    assert play(scenario) == [b"x"] * 20


def test_a_future_that_is_dropped_is_cancelled(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        unary: Any = channel.unary_unary(UNARY)
        call = unary.future(b"x", PATIENCE, (("sleep", "0.05"),))
        state = call._state
        del call
        gc.collect()
        eventually(lambda: state.callbacks is None)
        return state.code, state.details, state.cancelled

    assert play(scenario)[0] is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("arity", METHODS)
def test_a_cancelled_call_is_over_when_cancel_returns(play: Any, arity: str) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        method: Any = getattr(channel, arity)(METHODS[arity])
        heard: list[str] = []
        request = iter([b"x"]) if arity.startswith("stream") else b"x"
        form = method if arity.endswith("stream") else method.future
        call = form(request, PATIENCE, (("sleep", "0.3"),))
        call.add_done_callback(lambda f: heard.append("before"))
        seen = [call.cancel(), call.done(), call.running(), call.cancelled(), call.is_active(), call.cancel()]
        call.add_done_callback(lambda f: heard.append("after"))
        for ask in (lambda: call.result(0), lambda: call.exception(0), lambda: call.traceback(0), lambda: next(call)):
            try:
                seen.append(ask())
            except Exception as error:
                seen.append(getattr(error, "code", lambda error=error: type(error))())
        seen += [call.code(), call.details(), call.initial_metadata(), call.trailing_metadata()]
        eventually(lambda: len(heard) == 2)
        return [*seen, sorted(heard)]

    assert play(scenario)[:5] == [True, True, False, True, False]


def test_a_single_threaded_stream(server: Local) -> None:
    options = [(grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]

    def scenario(channel: grpc.Channel) -> Any:
        method: Any = channel.unary_stream(STREAM)
        here: list[bool] = []
        first = method(b"x", PATIENCE, ALICE)
        first.add_done_callback(lambda f: here.append(threading.current_thread() is threading.main_thread()))
        seen: list[Any] = [list(first), first.code(), first.initial_metadata(), here]
        second = method(b"x", PATIENCE, ALICE)
        seen += [next(second), second.cancel(), raised(lambda: next(second)), second.cancelled()]
        failing = method(b"x", PATIENCE, (("fail", "1"),))
        return [*seen, raised(lambda: next(failing))]

    with grpc.insecure_channel(server.address, options) as plain:
        wanted = scenario(plain)
    for is_fresh in (True, False):
        with healthlb.HealthAwareChannel([server.address], None, options=options) as channel:
            if not is_fresh:
                channel.wait_until_ready(PATIENCE)
            assert scenario(channel) == wanted


def test_callbacks_and_what_they_are_told(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        unary: Any = channel.unary_unary(UNARY)
        heard: list[Any] = []
        future = unary.future(b"x", PATIENCE, (("sleep", "0.05"),))
        for number in range(3):
            future.add_done_callback(lambda f, number=number: heard.append((number, f is future, f.done(), f.code())))
        assert future.add_callback(lambda: heard.append("plain"))
        eventually(lambda: len(heard) == 4)
        heard.append(future.add_callback(lambda: heard.append("late")))
        future.add_done_callback(lambda f: heard.append("at once"))
        return heard

    assert play(scenario)[-1] == "at once"


# --- errors ------------------------------------------------------------------------------------------


def failures(channel: grpc.Channel, metadata: Any) -> dict[str, Any]:
    """Return the error of each form."""
    errors = {}
    for name, form in forms(channel).items():
        with pytest.raises(grpc.RpcError) as caught:
            form(b"secret request", metadata=metadata)
        errors[name] = caught.value
    return errors


def described(error: Any) -> Any:
    return (
        error.code(),
        error.details(),
        dict(error.trailing_metadata() or ()),
        tuple(error.initial_metadata() or ()),
        error._state.debug_error_string,  # of a cancelled call grpcio has none, and waits for it
        getattr(error, "attempts", ()),
    )


@pytest.mark.parametrize("where", ["server", "nobody", "cancelled"])
def test_errors_can_be_copied_and_say_no_secret(server: Local, where: str) -> None:
    targets = [server.address] if where == "server" else ["127.0.0.1:1"]
    with healthlb.HealthAwareChannel(targets, None) as channel:
        if where == "cancelled":
            method: Any = channel.unary_unary(UNARY)
            future = method.future(b"secret request", metadata=(("token", "secret"),), wait_for_ready=True)
            future.cancel()
            errors = {"future": future}
        else:
            errors = failures(channel, (("fail", "1"), ("token", "secret")))
        for name, error in errors.items():
            assert error.args == (), name
            assert "secret" not in f"{error!r}{error}{error.details()}", name
            for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
                assert isinstance(other, grpc.RpcError)
                assert isinstance(other, grpc.Call)
                assert described(other) == described(error), name
                assert str(other).splitlines()[0] == str(error).splitlines()[0], name
            if where == "server":
                assert [attempt.code for attempt in error.attempts] == [UNAVAILABLE], name


def test_texts_of_errors_and_calls(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        errors = failures(channel, (("fail", "1"),))
        ended: Any = channel.unary_unary(UNARY).future(b"x", PATIENCE)  # type: ignore[attr-defined]
        ended.result()
        return [str(error).splitlines()[:2] for error in errors.values()], repr(ended), type(ended).__name__

    play(scenario)


def test_a_call_under_way_is_not_copied(server: Local) -> None:
    with healthlb.HealthAwareChannel([server.address], None) as channel:
        call: Any = channel.unary_unary(UNARY).future(b"", PATIENCE, (("sleep", "0.1"),))  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            pickle.dumps(call)


def test_a_request_that_is_no_bytes(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        method: Any = channel.unary_unary(UNARY, request_serializer=lambda request: "text")
        forms = (lambda: method(b""), lambda: method.with_call(b""), lambda: method.future(b""))
        return [raised(form) for form in forms]

    assert play(scenario)[0][0] == "TypeError"


def test_a_traceback_of_every_failure(play: Any) -> None:
    def scenario(channel: grpc.Channel) -> Any:
        unary: Any = channel.unary_unary(UNARY)
        future = unary.future(b"x", PATIENCE, (("fail", "1"),))
        return future.traceback() is not None, future.exception() is future

    assert play(scenario) == (True, True)


def test_calls_are_grpcio_s() -> None:
    with healthlb.HealthAwareChannel(["127.0.0.1:1"], None) as channel:
        kinds = {arity: getattr(channel, arity)(name) for arity, name in METHODS.items()}
        assert isinstance(kinds["unary_unary"], grpc.UnaryUnaryMultiCallable)
        assert isinstance(kinds["unary_stream"], grpc.UnaryStreamMultiCallable)
        assert isinstance(kinds["stream_unary"], grpc.StreamUnaryMultiCallable)
        assert isinstance(kinds["stream_stream"], grpc.StreamStreamMultiCallable)
        assert {arity: kind._method for arity, kind in kinds.items()} == {
            arity: name.encode() for arity, name in METHODS.items()
        }
        for call in (kinds["unary_unary"].future(b""), kinds["unary_stream"](b""), kinds["stream_stream"](iter(()))):
            assert isinstance(call, grpc.Call)
            assert isinstance(call, grpc.Future)
            assert isinstance(call, grpc.RpcError)
            call.cancel()


# --- commitment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arity", METHODS)
def test_headers_commit_a_call_of_one_response(arity: str) -> None:
    """gRFC A6: a backend that has sent response headers has begun to answer. Of a stream nobody has seen anything yet."""
    attempts = 3 if arity.endswith("stream") else 1

    def fail(request: Any, context: grpc.ServicerContext) -> Any:
        context.send_initial_metadata((("header", "1"),))
        context.abort(UNAVAILABLE, "after headers")

    def fail_all(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        fail(request, context)
        yield b""

    handler = fail_all if arity.endswith("stream") else fail
    with Local(**{arity: handler}) as first, Local(**{arity: handler}) as second:
        targets = [first.address, second.address]
        with healthlb.HealthAwareChannel(targets, None, failover=Failover(idempotent=True), picker=InOrder) as channel:
            channel.wait_until_ready(PATIENCE, 2)
            name = {"unary_unary": ("call", "future"), "unary_stream": ("stream",), "stream_unary": ("client stream",)}
            for form in name.get(arity, ("bidi",)):
                before = first.calls + second.calls
                outcome = raised(lambda form=form: forms(channel)[form](b"x"))  # type: ignore[misc]
                assert outcome[2] == "after headers"
                assert first.calls + second.calls == before + attempts


# --- interceptors ------------------------------------------------------------------------------------


class Renaming(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Calls another method, and notes that it was here."""

    def __init__(self, name: str, log: list[str]) -> None:
        self._name = name
        self._log = log

    def _renamed(self, details: Any) -> Any:
        self._log.append(self._name)
        return details._replace(method=UNARY)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See the class."""
        return continuation(self._renamed(client_call_details), request)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Note it only."""
        self._log.append(self._name)
        return continuation(client_call_details, request_iterator)


def test_interceptors_of_the_channel(server: Local) -> None:
    log: list[str] = []
    interceptors = [Renaming("outer", log), Renaming("inner", log)]
    with healthlb.HealthAwareChannel([server.address], None, interceptors=interceptors) as channel:
        for view in (channel, channel.with_failover(None)):
            log.clear()
            assert view.unary_unary("/test.Echo/Nothing")(b"x", PATIENCE) == b"x"
            assert list(view.stream_stream(BIDI)(iter([b"x"]), PATIENCE)) == [b"x", b""]
            assert list(view.unary_stream(STREAM)(b"x", PATIENCE)) == [b"x", b""]
            assert log == ["outer", "inner"] * 2
        assert [status.address for status in channel.subchannels()] == [server.address]


def test_policies_go_by_the_method_that_is_called(server: Local, broken: Local) -> None:
    targets = [broken.address, server.address]
    interceptors = [Renaming("only", [])]
    failover = Failover(idempotent=(UNARY,))
    with healthlb.HealthAwareChannel(
        targets, None, failover=failover, picker=InOrder, interceptors=interceptors
    ) as channel:
        channel.wait_until_ready(PATIENCE, 2)
        # It is the method that the interceptor calls which is idempotent.
        assert channel.unary_unary("/test.Echo/Nothing")(b"x", PATIENCE) == b"x"


@pytest.mark.parametrize("interceptors", [5, [object()], ["text"]])
def test_interceptors_that_are_none(interceptors: Any) -> None:
    with pytest.raises(healthlb.ConfigError, match="interceptors"):
        healthlb.HealthAwareChannel(["127.0.0.1:1"], None, interceptors=interceptors)


# --- instrumentation ---------------------------------------------------------------------------------


def test_what_stands_in_the_place_of_grpc_s_functions_is_none_of_ours(
    server: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch that leaves no `__wrapped__`, and opens channels of ours wherever somebody asks for a plain one."""
    monkeypatch.setattr(grpc, "insecure_channel", lambda target, *rest: healthlb.HealthAwareChannel([target], None))
    with healthlb.HealthAwareChannel([server.address], None) as channel:
        assert channel.unary_unary(UNARY)(b"x", PATIENCE) == b"x"
