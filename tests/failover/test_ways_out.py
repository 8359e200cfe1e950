"""A machine that ends sync calls in every way there is, and looks at the counters after each.

Whatever a call comes to, what it was counted in is counted out: calls in flight on each subchannel and on all of them,
calls that wait, the retry budget, and who waits for the next snapshot.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import healthlb
from healthlb import Failover, Overload, RetryBudget
from tests.backends.clients import PATIENCE, eventually
from tests.failover.local import Local
from tests.parity.face import METHODS

ATTEMPT = 1_000_000  # as a budget counts it
BUDGET = RetryBudget(ratio=0, min_per_second=1000, ttl=60)
POLICIES = {
    "retry": Failover(idempotent=True, max_attempts=3, budget=BUDGET),
    "once": None,
    "backoff": Failover(idempotent=True, budget=BUDGET, backoff=healthlb.Backoff(initial=0.01, maximum=0.02)),
    "hedged": Failover(idempotent=True, budget=BUDGET, hedging_delay=0.005),
    "cut off": Failover(idempotent=True, budget=BUDGET, attempt_timeout=0.03),
    "no log": Failover(idempotent=True, budget=BUDGET, buffer_limit=0),
}
FORMS = ("call", "with_call", "future", "stream", "client stream", "its future", "bidi")
BLOCKING = ("call", "with_call", "client stream")
WANTED = ("ok", "fail", "flaky", "headers", "message", "slow")


class Interrupted(Exception):
    """Raised by a signal's handler, in the middle of whatever the main thread does."""


def interrupt(number: int, frame: Any) -> NoReturn:
    raise Interrupted


def broken(*anything: Any) -> NoReturn:
    raise KeyError("user code")


def exiting(*anything: Any) -> NoReturn:
    raise SystemExit


def drain(call: Any) -> None:
    """Read all responses; of a future that raises."""
    try:
        for _ in call:
            pass
    except (grpc.RpcError, ValueError, KeyError):
        pass


class Backends:
    """Two servers that do what a call's metadata says, and count attempts after the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.retries = 0
        handlers: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = {
            "unary_unary": self._unary,
            "unary_stream": self._stream,
            "stream_unary": lambda requests, context: self._unary(b"".join(requests), context),
            "stream_stream": lambda requests, context: self._stream(b"".join(requests), context),
        }
        self.servers = [Local(**handlers), Local(**handlers)]

    def _obey(self, context: grpc.ServicerContext) -> str:
        metadata = dict(context.invocation_metadata())
        is_retry = "healthlb-previous-rpc-attempts" in metadata
        with self._lock:
            self.retries += is_retry
        wanted = str(metadata.get("wanted", "ok"))
        if wanted == "headers":
            context.send_initial_metadata((("header", "1"),))
        until = time.monotonic() + 1
        while wanted == "slow" and context.is_active() and time.monotonic() < until:
            time.sleep(0.002)
        if wanted in ("fail", "headers") or (wanted == "flaky" and not is_retry):
            context.abort(grpc.StatusCode.UNAVAILABLE, "told to fail")
        return wanted

    def _unary(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if self._obey(context) == "message":
            context.set_code(grpc.StatusCode.UNAVAILABLE)
        return request

    def _stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        wanted = self._obey(context)
        yield request
        if wanted == "message":
            context.abort(grpc.StatusCode.UNAVAILABLE, "after a message")
        yield request


class WaysOut(RuleBasedStateMachine):
    """One channel at a time."""

    backends: Backends

    def __init__(self) -> None:
        super().__init__()
        self.retries_before = self.backends.retries
        self.unmade = 0
        self.handler = signal.signal(signal.SIGALRM, interrupt)

    @initialize(is_fresh=st.booleans())
    def open(self, is_fresh: bool) -> None:
        self.channel = healthlb.HealthAwareChannel(
            [server.address for server in self.backends.servers],
            None,
            failover=POLICIES["retry"],
            overload=Overload(max_in_flight=8, max_in_flight_per_subchannel=6, max_waiting=4),
            outliers=None,
        )
        self.retries_before, self.unmade = self.backends.retries, 0
        if not is_fresh:
            self.channel.wait_until_ready(PATIENCE, 2)

    def form(self, name: str, policy: str, **serializers: Any) -> Callable[..., Any]:
        """Return a form of a call as a function of a request, timeout and metadata; those that end return None."""
        view = self.channel.with_failover(POLICIES[policy])
        made = {arity: getattr(view, arity)(method, **serializers) for arity, method in METHODS.items()}
        forms: dict[str, Callable[..., Any]] = {
            "call": made["unary_unary"],
            "with_call": made["unary_unary"].with_call,
            "future": made["unary_unary"].future,
            "stream": made["unary_stream"],
            "client stream": lambda requests, *terms: made["stream_unary"](self.requests(requests), *terms),
            "its future": lambda requests, *terms: made["stream_unary"].future(self.requests(requests), *terms),
            "bidi": lambda requests, *terms: made["stream_stream"](self.requests(requests), *terms),
        }
        return forms[name]

    @staticmethod
    def requests(requests: Any) -> Iterator[bytes]:
        return iter([requests] * 3) if isinstance(requests, bytes) else requests()

    def begin(
        self, name: str, policy: str, wanted: str, request: Any = b"x", timeout: Any = 0.5, **serializers: Any
    ) -> Any:
        """Make a call; return it where it does not block, None where it has ended."""
        self.unmade += 3  # of a call that ends between attempts the last may be paid for, and not made
        try:
            call = self.form(name, policy, **serializers)(request, timeout, (("wanted", wanted),))
        except (grpc.RpcError, Interrupted, KeyError):
            return None
        return None if name in BLOCKING else call

    @staticmethod
    def end(call: Any) -> None:
        """Wait for the end of a call, a stream's by reading it."""
        if call is not None:
            threading.Thread(target=drain, args=(call,)).start()
            eventually(call.done)

    @rule(name=st.sampled_from(FORMS), policy=st.sampled_from(sorted(POLICIES)), wanted=st.sampled_from(WANTED))
    def is_waited_for(self, name: str, policy: str, wanted: str) -> None:
        self.end(self.begin(name, policy, wanted))

    @rule(
        name=st.sampled_from(FORMS),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        delay=st.sampled_from((0, 0.001, 0.004, 0.02)),
        is_dropped=st.booleans(),
    )
    def is_cancelled(self, name: str, policy: str, wanted: str, delay: float, is_dropped: bool) -> None:
        call = self.begin(name, policy, wanted)
        time.sleep(delay)
        if call is not None and not is_dropped:
            call.cancel()
            assert call.done()
        del call
        gc.collect()

    @rule(name=st.sampled_from(FORMS), policy=st.sampled_from(sorted(POLICIES)), delay=st.sampled_from((0.001, 0.01)))
    def is_cancelled_after_a_message(self, name: str, policy: str, delay: float) -> None:
        call = self.begin(name, policy, "ok")
        if name in ("stream", "bidi"):
            try:
                next(call)
            except grpc.RpcError:
                pass
            time.sleep(delay)
            call.cancel()

    @rule(
        name=st.sampled_from(FORMS),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        timeout=st.sampled_from((0.03, 0.001, 0, -1, float("nan"))),
    )
    def runs_into_its_deadline(self, name: str, policy: str, wanted: str, timeout: float) -> None:
        self.end(self.begin(name, policy, wanted, timeout=timeout))

    @rule(
        name=st.sampled_from(FORMS),
        policy=st.sampled_from(sorted(POLICIES)),
        terms=st.sampled_from(
            (
                ("5", None),
                (1, 5),
                (1, (("key", 1),)),
                (1, (("key",),)),
                (1, (("InVaLiD", "value"),)),
                (1, (("key-bin", "text"),)),
            )
        ),
    )
    def has_arguments_that_cannot_work(self, name: str, policy: str, terms: tuple[Any, Any]) -> None:
        try:
            self.end(self.form(name, policy)(b"x", *terms))
        except (TypeError, ValueError, grpc.RpcError):
            pass

    @rule(
        name=st.sampled_from(FORMS),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        which=st.sampled_from(("request_serializer", "response_deserializer")),
        how=st.sampled_from((broken, lambda message: None)),
    )
    def is_made_of_broken_code(self, name: str, policy: str, wanted: str, which: str, how: Any) -> None:
        self.end(self.begin(name, policy, wanted, **{which: how}))

    @rule(
        name=st.sampled_from(("client stream", "its future", "bidi")),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        first=st.sampled_from((0, 2)),
    )
    def has_requests_that_break(self, name: str, policy: str, wanted: str, first: int) -> None:
        def requests() -> Iterator[bytes]:
            yield from [b"x"] * first
            broken()

        self.end(self.begin(name, policy, wanted, requests, timeout=0.2))

    @rule(
        name=st.sampled_from(("future", "stream", "its future", "bidi")),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        how=st.sampled_from((broken, exiting)),
    )
    def has_callbacks_that_break(self, name: str, policy: str, wanted: str, how: Any) -> None:
        call = self.begin(name, policy, wanted)
        call.add_done_callback(how) if not call.done() else None
        self.end(call)

    @rule(name=st.sampled_from(BLOCKING), policy=st.sampled_from(sorted(POLICIES)), wanted=st.sampled_from(WANTED))
    def is_interrupted(self, name: str, policy: str, wanted: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            self.begin(name, policy, wanted)
        except Interrupted:  # a moment too late
            pass
        finally:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                pass

    @rule(policy=st.sampled_from(sorted(POLICIES)), wanted=st.sampled_from(WANTED), count=st.integers(2, 16))
    def are_more_than_the_caps(self, policy: str, wanted: str, count: int) -> None:
        calls = [self.begin("future", policy, wanted) for _ in range(count)]
        for call in calls:
            self.end(call)

    @rule(
        names=st.lists(st.sampled_from(("future", "stream", "its future", "bidi")), max_size=4),
        policy=st.sampled_from(sorted(POLICIES)),
        wanted=st.sampled_from(WANTED),
        is_fresh=st.booleans(),
    )
    def loses_its_channel(self, names: list[str], policy: str, wanted: str, is_fresh: bool) -> None:
        calls = [self.begin(name, policy, wanted) for name in names]
        self.channel.close()
        for call in calls:
            self.end(call)
        self.has_come_to_rest()
        self.open(is_fresh)

    @invariant()
    def has_come_to_rest(self) -> None:
        if not hasattr(self, "channel"):
            return
        pool = self.channel._subchannels
        nothing: Any = ([], 0, 0, 0, 0)
        try:
            eventually(lambda: self.counters() == nothing)
        except AssertionError:
            assert self.counters() == nothing
        budget = pool.budget(BUDGET)
        paid = (budget._reserve - budget._balance - budget._current) // ATTEMPT
        retries = self.backends.retries - self.retries_before
        assert retries <= paid <= retries + self.unmade

    def counters(self) -> Any:
        """Return what is in flight on subchannels, on all, what waits, who waits for a snapshot, and grpcio's own count."""
        pool = self.channel._subchannels
        snapshot = pool.holder.snapshot
        limiter = pool.admission.limiter
        loads = [load.in_flight for view in snapshot.views for load in view.loads if load.in_flight]
        managed = sum(channel._call_state.managed_calls for channel in tuple(pool.channels._channels.values()))
        return loads, limiter.in_flight, limiter.waiting, len(pool.holder._watchers), managed

    def teardown(self) -> None:
        signal.signal(signal.SIGALRM, self.handler)
        if hasattr(self, "channel"):
            self.channel.close()


@pytest.mark.timeout(600)
def test_every_way_out() -> None:
    backends = Backends()
    with backends.servers[0], backends.servers[1]:
        WaysOut.backends = backends
        run_state_machine_as_test(WaysOut, settings=settings(max_examples=12, stateful_step_count=25, deadline=None))
