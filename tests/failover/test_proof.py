"""The promise: a call is never executed twice behind its caller's back, and an idempotent one is never lost.

Counted on the servers, over all four arities and both faces, while backends come to harm.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from healthlb import Failover
from tests.backends import Backend, start_backends
from tests.backends.proxy import ChaosProxy
from tests.failover.storm import Caller, Ledger, comes_to_rest, storm, told, view
from tests.parity.face import Face
from tests.parity.fleet import addresses

_SECONDS = float(os.environ.get("HEALTHLB_STORM_SECONDS", "6"))
_COUNT = 4


@dataclass(frozen=True, slots=True)
class Callers:
    """Who calls in a storm.

    Attributes:
        plain: healthlb's, of methods that are not known to be idempotent.
        idempotent: healthlb's, of methods that are.
        native: grpcio's own round robin with health checking.
    """

    plain: list[Caller]
    idempotent: list[Caller]
    native: list[Caller]

    @property
    def all(self) -> list[Caller]:
        """Everyone."""
        return [*self.plain, *self.idempotent, *self.native]


def make_callers(
    faces: Sequence[Face], targets: Sequence[str], failover: Failover, sleep: Sequence[float] = (0.0, 0.02)
) -> Callers:
    """Return a caller of each kind for each face."""
    callers = Callers([], [], [])
    for face in faces:
        client = face.ready(targets)
        callers.plain.append(Caller(f"{face.name}-plain", client, sleep=sleep))
        callers.idempotent.append(Caller(f"{face.name}-idempotent", view(client, failover), sleep=sleep))
        native = face.native(targets)
        native.call(wait_for_ready=True)
        callers.native.append(Caller(f"{face.name}-native", native, sleep=sleep))
    return callers


def prove(callers: Callers, backends: Sequence[Backend], *, least: int = 50) -> None:
    """Assert the promise, and that what is not promised is no worse than with grpcio's own channel."""
    ledger = Ledger(backends)
    for caller in callers.all:
        failed = [made for made in caller.made if not made.is_ok]
        print(
            f"{caller.name}: {len(caller.made)} calls, {len(failed)} failed, "
            f"{sum(made.is_lost for made in failed)} of them unanswered, {len(ledger.twice(caller))} executed twice"
        )
        print("   ", *told(failed).most_common(6), sep="\n    ")
    for caller in [*callers.plain, *callers.idempotent]:
        assert not [made for made in caller.made if not made.is_whole]
        assert not ledger.unserved(caller)
        assert len(caller.made) >= least
        comes_to_rest(caller.client)
    for caller in callers.plain:
        assert not ledger.twice(caller)
    for caller in callers.idempotent:
        assert not told([made for made in caller.made if made.is_lost])
    ours, theirs = (
        sum(not made.is_ok for caller in some for made in caller.made) / sum(len(caller.made) for caller in some)
        for some in (callers.plain, callers.native)
    )
    calls = sum(len(caller.made) for caller in callers.plain)
    # Three standard deviations of the difference of two such counts; one fault costs up to two calls.
    assert (ours - theirs) * calls <= 3 * (2 * 2 * theirs * calls + 4) ** 0.5


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Another stream of chances for each test."""
    return random.Random(request.node.name)


@contextlib.contextmanager
def a_fleet(kind: str = "sync", **options: object) -> Iterator[list[Backend]]:
    """Backends of a test's own: those that were killed are no good to others."""
    backends = start_backends(_COUNT, kind, services=("svc",), options=options)
    try:
        yield backends
    finally:
        for backend in backends:
            backend.close()


@contextlib.contextmanager
def behind_proxies(backends: Sequence[Backend]) -> Iterator[list[ChaosProxy]]:
    """A proxy in front of each."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ChaosProxy(backend.address)) for backend in backends]


def a_while(rng: random.Random, low: float, high: float) -> None:
    """Let calls go on for a moment."""
    threading.Event().wait(rng.uniform(low, high))


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_killed_backends(faces: tuple[Face, Face], kind: str, rng: random.Random) -> None:
    with a_fleet(kind) as backends:

        def harm() -> None:
            backend = rng.choice(backends)
            backend.kill()
            a_while(rng, 0.02, 0.2)
            backend.restart()
            a_while(rng, 0.1, 0.4)

        callers = make_callers(faces, addresses(backends), Failover(idempotent=True))
        storm(callers.all, _SECONDS, harm)

        prove(callers, backends)


def test_backends_that_stop_gracefully(faces: tuple[Face, Face], rng: random.Random) -> None:
    with a_fleet() as backends:

        def harm() -> None:
            backend = rng.choice(backends)
            backend.stop(rng.choice((None, 0.01, 0.5)))
            a_while(rng, 0.02, 0.2)
            backend.restart()
            a_while(rng, 0.1, 0.4)

        callers = make_callers(faces, addresses(backends), Failover(idempotent=True))
        storm(callers.all, _SECONDS, harm)

        prove(callers, backends)


def test_connections_that_break(faces: tuple[Face, Face], rng: random.Random) -> None:
    with a_fleet() as backends, behind_proxies(backends) as proxies:

        def harm() -> None:
            proxy = rng.choice(proxies)
            proxy.set_mode(rng.choice(("reset", "close", "refuse")))
            a_while(rng, 0.0, 0.1)
            proxy.set_mode("pass")
            a_while(rng, 0.05, 0.3)

        callers = make_callers(faces, [proxy.address for proxy in proxies], Failover(idempotent=True))
        storm(callers.all, _SECONDS, harm)

        prove(callers, backends)


@pytest.mark.parametrize("grace", [1000, 10])
def test_connections_of_a_short_life(faces: tuple[Face, Face], grace: int, rng: random.Random) -> None:
    """GOAWAY after GOAWAY; after 10 ms of grace calls in flight are cut off.

    All backends do it all the time, so three attempts may well meet three GOAWAYs.
    """
    with a_fleet("max_age", max_connection_age_ms=300, max_connection_age_grace_ms=grace) as backends:
        callers = make_callers(faces, addresses(backends), Failover(idempotent=True, max_attempts=6))
        storm(callers.all, _SECONDS, lambda: a_while(rng, 0.1, 0.2))

        prove(callers, backends)


@pytest.mark.parametrize("code", ["CANCELLED", "UNAVAILABLE"])
def test_backends_that_fail_their_calls(faces: tuple[Face, Face], code: str, rng: random.Random) -> None:
    """As servers do that shut down: the calls were executed, or were not, who knows."""
    with a_fleet() as backends:

        def harm() -> None:
            backend = rng.choice(backends)
            backend.behave(fail=code)
            a_while(rng, 0.05, 0.2)
            backend.behave()
            a_while(rng, 0.1, 0.4)

        # More than a tenth of the calls fail: more than the default budget pays for.
        callers = make_callers(faces, addresses(backends), Failover(idempotent=True, budget=None))
        storm(callers.all, _SECONDS, harm)

        prove(callers, backends)


def test_backends_that_hang(faces: tuple[Face, Face], rng: random.Random) -> None:
    """Stopped by SIGSTOP, in turn; only a timeout of each attempt's own tells."""
    with a_fleet() as backends:

        def harm() -> None:
            backend = rng.choice(backends)
            backend.pause()
            a_while(rng, 0.2, 0.8)
            backend.resume()
            a_while(rng, 0.1, 0.4)

        callers = make_callers(faces, addresses(backends), Failover(idempotent=True, attempt_timeout=0.5))
        storm(callers.all, _SECONDS, harm)

        prove(callers, backends, least=20)
