"""What counts as proof or evidence that an attempt never left, over the grpcio that is installed."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Failover
from healthlb.calls.refusals import MADE_UP, names_refusal
from tests.backends import Backend
from tests.backends.addresses import Reservation
from tests.backends.clients import eventually
from tests.failover.local import Local, fail
from tests.failover.storm import comes_to_rest
from tests.failover.support import Call, InOrder, failure, outcome, ready
from tests.parity.aio_face import AioClient
from tests.parity.face import ARITIES, METHODS, Client, Face
from tests.parity.fleet import Fleet, addresses

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNSAFE = Failover(idempotent=False)
HOSTS = ("127.0.0.1:0", "[::1]:0", "unix:", "localhost:0")


@pytest.fixture(params=HOSTS)
def nobody(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where nobody listens."""
    reservation = Reservation([request.param])
    yield reservation.addresses[0]
    reservation.release()


def refusal(address: str) -> Any:
    """Return the error of grpcio's own channel to an address where nobody listens."""
    with grpc.insecure_channel(address, (("grpc.enable_http_proxy", 0),)) as channel:
        return failure(lambda: channel.unary_unary("/a/b")(b"", timeout=10))


# --- the text, which is no contract of grpcio's: this is where a change of it would show ---------------


def test_the_text_of_a_refusal(nobody: str) -> None:
    error = refusal(nobody)
    port = nobody.rpartition(":")[2]
    # From grpcio 1.71 to 1.85 what follows the address has changed; the rest is what is relied on.
    known = {
        "127.0.0.1": (f"127.0.0.1:{port}", f"UNKNOWN: ipv4:{nobody}: "),
        "[::1]": (nobody, f"UNKNOWN: ipv6:%5B::1%5D:{port}: "),
        "localhost": (f"127.0.0.1:{port}", f"UNKNOWN: ipv4:127.0.0.1:{port}: "),
        "unix": (nobody, f": {nobody}: "),
    }
    address, text = known[nobody.rpartition(":")[0]]

    assert error.code() is UNAVAILABLE
    assert error.details().startswith("failed to connect to all addresses; last error: ")
    assert text in error.details()
    assert error.details().rstrip("(0123456789) ").endswith(("Connection refused", "No such file or directory"))
    assert (tuple(error.initial_metadata()), tuple(error.trailing_metadata())) == ((), ())
    assert names_refusal(error.details(), {address})


REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: {}: Failed to connect to remote host: Connection refused"
)


@pytest.mark.parametrize(
    ("details", "address", "is_named"),
    [
        (REFUSED.format("ipv4:10.0.0.1:50051"), "10.0.0.1:50051", True),
        (REFUSED.format("ipv4:10.0.0.1:50051"), "10.0.0.1:5005", False),
        (REFUSED.format("ipv4:10.0.0.1:50051"), "0.0.0.1:50051", False),
        (REFUSED.format("ipv4:10.0.0.1:50051"), "10.0.0.2:50051", False),
        (REFUSED.format("ipv6:%5B::1%5D:50051"), "[::1]:50051", True),
        (REFUSED.format("ipv6:%5B::1%5D:50051"), "127.0.0.1:50051", False),
        (REFUSED.format("unix:/run/s.sock"), "unix:/run/s.sock", True),
        (REFUSED.format("unix:/run/s.sock"), "unix:///run/s.sock", True),
        (REFUSED.format("unix:/run/s.sock"), "unix:/run/s", False),
        ("no luck: " + REFUSED.format("ipv4:10.0.0.1:50051"), "10.0.0.1:50051", False),
        ("recvmsg:Connection reset by peer; ipv4:10.0.0.1:50051: ", "10.0.0.1:50051", False),
        ("Stream removed (Socket closed)", "10.0.0.1:50051", False),
        ("", "10.0.0.1:50051", False),
    ],
)
def test_whose_refusal_a_text_names(details: str, address: str, is_named: bool) -> None:
    assert names_refusal(details, {address}) is is_named
    assert names_refusal(details, {"10.9.9.9:1", address}) is is_named
    assert not names_refusal(details, ())


# --- refused calls go elsewhere ----------------------------------------------------------------------


_UNNOTICED = 0.5  # Seconds.


@contextlib.contextmanager
def unnoticed(client: Client) -> Iterator[None]:
    """Keep the control plane of a sync channel from seeing anything for a while."""
    is_over = threading.Event()
    client.channel._subchannels._control.thread.run_soon(lambda: is_over.wait(_UNNOTICED))
    try:
        yield
    finally:
        is_over.set()


def call_at_once(client: Client, harm: Callable[[], None], arity: str, call_id: str) -> bytes:
    """Do harm, and make a call before the channel can know."""
    metadata = (("x-id", call_id),)
    method = getattr(client.channel, arity)(METHODS[arity])

    def request() -> Any:
        return iter([b"a", b"b"]) if arity.startswith("stream") else b""

    if not isinstance(client, AioClient):
        with unnoticed(client):
            harm()
            # What is left of the connection is known to the sync channels' own threads.
            time.sleep(0.1)
            response = method(request(), timeout=10, metadata=metadata)
            return bytes(list(response)[0] if arity.endswith("stream") else response)

    async def call() -> bytes:
        harm()
        # On purpose without giving the loop its turn.
        time.sleep(0.1)
        made = method(request(), timeout=10, metadata=metadata)
        return bytes([response async for response in made][0] if arity.endswith("stream") else await made)

    return bytes(client.loop.run(call()))


@pytest.fixture(params=HOSTS)
def victim(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend to be killed, at each kind of address."""
    with Backend(name="victim", host=request.param.removesuffix(":0").strip("[]"), services=("svc",)) as backend:
        yield backend


@pytest.mark.parametrize("arity", ARITIES)
def test_a_refused_call_goes_elsewhere_whatever_the_method_is(
    face: Face, fleet: Fleet, victim: Backend, arity: str
) -> None:
    (other,) = fleet.lend()
    client = face.ready([victim.address, other.address], failover=UNSAFE, picker=InOrder)
    first, second = Call(client), Call(client)
    outcome(first.begin(arity), arity)

    assert first.executions(victim, other) == [1, 0]
    assert call_at_once(client, victim.kill, arity, second.id).startswith(b"b0")
    assert second.executions(victim, other) == [0, 1]
    # It had reached no server before.
    told = dict(other.stats().last_metadata[METHODS[arity].rpartition("/")[2]])
    assert "healthlb-previous-rpc-attempts" not in told
    comes_to_rest(client)


def test_a_refused_call_that_has_nowhere_to_go_fails_at_once(face: Face) -> None:
    with Backend(services=("svc",)) as backend:
        client = face.ready([backend.address], failover=UNSAFE)
        client.call()
        error = failure(lambda: call_at_once(client, backend.kill, "unary_unary", "x"))

        assert error.code() is UNAVAILABLE
        assert "1 subchannel for service 'svc': 1 TRANSIENT_FAILURE" in error.details()
        assert [attempt.code for attempt in error.attempts] == [UNAVAILABLE]
        comes_to_rest(client)


@pytest.mark.parametrize("arity", ARITIES)
def test_a_call_that_waits_for_ready(face: Face, arity: str) -> None:
    with Backend(services=("svc",)) as backend:
        client = face.ready([backend.address], failover=UNSAFE)
        call = Call(client)
        backend.kill()
        # One that is written before the end of the connection is seen may have been executed, and ends with it.
        eventually(lambda: client.states() != ["READY"])
        ongoing = call.begin(arity, wait_for_ready=True, timeout=60)
        backend.restart()

        assert outcome(ongoing, arity).startswith(b"b0")
        assert call.executions(backend) == [1]


def test_strict_takes_no_text_for_proof(face: Face, fleet: Fleet) -> None:
    (other,) = fleet.lend()
    with Backend(services=("svc",)) as victim:
        strict = Failover(strict=True)
        client = face.ready([victim.address, other.address], failover=strict, picker=InOrder)
        client.call()
        call = Call(client)
        error = failure(lambda: call_at_once(client, victim.kill, "unary_unary", call.id))

        assert error.details().startswith("failed to connect to all addresses")
        assert len(error.attempts) == 1
        assert call.executions(victim, other) == [0, 0]


def test_no_failover_is_one_attempt_even_where_it_was_refused(face: Face, fleet: Fleet) -> None:
    (other,) = fleet.lend()
    with Backend(services=("svc",)) as victim:
        client = face.ready([victim.address, other.address], failover=None, picker=InOrder)
        client.call()
        error = failure(lambda: call_at_once(client, victim.kill, "unary_unary", "x"))

        assert error.details().startswith("failed to connect to all addresses")
        assert len(error.attempts) == 1


# --- the other half of the evidence: a gateway, which has executed the call ------------------------------


def try_gateway(face: Face, gateway: Backend, other: Backend, details: str) -> None:
    """Assert that what the gateway executes and fails in these words is executed by nobody else."""
    gateway.behave(fail="UNAVAILABLE", details=details)
    client = ready(face, [gateway, other], UNSAFE)
    for arity in ARITIES:
        call = Call(client)
        error = failure(lambda: outcome(call.begin(arity), arity))  # noqa: B023

        # grpc.aio makes up a status of its own where the call ends while it writes.
        is_made_up = face.name == "aio" and error.details() == MADE_UP
        assert is_made_up or (error.code(), error.details()) == (UNAVAILABLE, details)
        assert call.executions(gateway, other) == [1, 0]
    call = Call(client)
    failure(call.make)
    assert call.executions(gateway, other) == [1, 0]


def test_a_gateway_may_pass_on_its_backends_refusal(face: Face, fleet: Fleet, nobody: str) -> None:
    gateway, other = fleet.lend(2)
    try_gateway(face, gateway, other, refusal(nobody).details())


def test_a_gateways_backend_may_have_the_gateways_own_port(face: Face, fleet: Fleet) -> None:
    (other,) = fleet.lend()
    reservation = Reservation(["127.0.0.1:0"])
    (nobody,) = reservation.addresses
    port = int(nobody.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        stack.callback(reservation.release)
        gateway = stack.enter_context(Backend(name="gateway", host="127.0.0.2", port=port, services=("svc",)))
        details = refusal(nobody).details()

        assert f":{gateway.port}: Failed to connect" in details
        try_gateway(face, gateway, other, details)


def test_a_gateways_backend_may_have_the_gateways_own_address(face: Face, fleet: Fleet) -> None:
    """In another network's terms, behind a mapped port: but the connection that said so is up."""
    gateway, other = fleet.lend(2)
    address = gateway.address
    reservation = Reservation(["127.0.0.1:0"])
    nobody = reservation.addresses[0]
    details = refusal(nobody).details().replace(nobody, address)
    reservation.release()

    assert names_refusal(details, {address})
    try_gateway(face, gateway, other, details)


@pytest.mark.parametrize("is_early", [True, False])
def test_metadata_is_a_sign_of_life(face: Face, is_early: bool) -> None:
    """The words, the address and a connection that is down afterwards: but something had answered."""
    words: list[str] = []
    doomed: list[Local] = []

    def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
        if is_early:
            context.send_initial_metadata((("x-here", "1"),))
        else:
            context.set_trailing_metadata((("x-here", "1"),))
        threading.Thread(target=doomed[0].stop).start()
        fail(context, details=words[0])
        return b""

    for _ in range(5):
        with Local(unary_unary=pass_on) as gateway, Local(unary_unary=lambda request, context: b"other") as other:
            doomed[:] = [gateway]
            words[:] = [REFUSED.format(f"ipv4:{gateway.address}")]
            client = face.ready([gateway.address, other.address], None, failover=UNSAFE, picker=InOrder)

            assert failure(client.call).code() is UNAVAILABLE
            assert (gateway.calls, other.calls) == (1, 0)


# --- proof: no call was made -------------------------------------------------------------------------


class Closed:
    """A data plane where the channel of one subchannel has just been closed.

    Args:
        channels: the true one.
        address: of the subchannel.
    """

    def __init__(self, channels: Any, address: str) -> None:
        """Close it."""
        self._channels = channels
        self._address = address
        self.methods = getattr(channels, "methods", None)
        self.opening = getattr(channels, "opening", None)
        self.asked = itertools.count()

    def channel(self, sub: Any) -> Any:
        """See `healthlb.calls.subchannels_base.Channels`."""
        if sub.address == self._address:
            next(self.asked)
            return None
        return self._channels.channel(sub)

    def is_ready(self, sub: Any) -> bool:
        """See `healthlb.calls.subchannels_base.Channels`."""
        return bool(self._channels.is_ready(sub))


@pytest.mark.parametrize("failover", [UNSAFE, Failover(strict=True), None])
@pytest.mark.parametrize("arity", ARITIES)
def test_a_subchannel_that_had_closed_is_no_attempt(
    face: Face, fleet: Fleet, arity: str, failover: Failover | None
) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), failover=failover, picker=InOrder)
    closed = Closed(client.channel._subchannels.channels, backends[0].address)
    client.channel._subchannels.channels = closed
    call = Call(client)

    assert outcome(call.begin(arity), arity).startswith(b"b1")
    assert Call(client).make() == "b1"
    assert call.executions(*backends) == [0, 1]
    assert next(closed.asked) >= 2
    comes_to_rest(client)
    assert client.subchannel(backends[0].address).failures == 0
