"""Health and calls go over one connection, where grpcio lets them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest

from healthlb import HealthCheck, Heartbeat
from healthlb.control.shared_connection import SharedAioChannel
from tests.backends import Backend
from tests.backends.certs import make_certificates
from tests.backends.forwarder import Forwarder
from tests.parity.face import Face
from tests.parity.sync_face import SyncFace

QUIET = 2.0


def connections(backend: Backend, method: str) -> set[str]:
    """Return the client ends of those over which a method was called."""
    return set(backend.stats().peers.get(method, ()))


def test_in_plaintext_there_is_one(face: Face) -> None:
    with Backend(services=["svc"]) as backend:
        client = face.ready([backend.address])

        assert [client.call() for _ in range(20)] == ["b0"] * 20
        assert connections(backend, "Unary") <= connections(backend, "Watch")


def test_subchannels_say_whether_there_is_one(face: Face, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    credentials = grpc.ssl_channel_credentials(certificates.ca.certificate)
    options = {"tls": certificates.server_options()}
    with Backend(services=["svc"]) as plain, Backend(services=["svc"], options=options) as secure:
        clients = [face.ready([plain.address]), face.ready([secure.address], credentials=credentials)]

        assert [client.subchannels()[0].shares_connection for client in clients] == [
            True,
            not isinstance(face, SyncFace),
        ]


def test_a_shared_channel_is_made_of_what_grpcios_own_is(tmp_path: Path) -> None:
    async def attributes() -> tuple[set[str], set[str]]:
        address = f"unix:{tmp_path}/none"
        own, shared = grpc.aio.insecure_channel(address), SharedAioChannel(address, (), None)
        try:
            return set(vars(own)), set(vars(shared))
        finally:
            await own.close()
            await shared.close()

    own, shared = asyncio.run(attributes())

    assert own <= shared


def test_who_asks_for_it_gets_two(sync_face: Face) -> None:
    with Backend(services=["svc"]) as backend:
        client = sync_face.ready([backend.address], options=[("grpc.use_local_subchannel_pool", 1)])

        assert [client.call() for _ in range(5)] == ["b0"] * 5
        assert not connections(backend, "Unary") & connections(backend, "Watch")


def test_channels_share_none_with_each_other(face: Face) -> None:
    with Backend(services=["svc"]) as backend:
        clients = [face.ready([backend.address]) for _ in range(3)]

        assert [client.call() for client in clients] == ["b0"] * 3
        assert len(connections(backend, "Unary")) == 3


def test_with_tls_a_sync_channel_has_two(face: Face, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with Backend(services=["svc"], options={"tls": certificates.server_options()}) as backend:
        credentials = grpc.ssl_channel_credentials(certificates.ca.certificate)
        client = face.ready([backend.address], credentials=credentials)

        assert [client.call() for _ in range(5)] == ["b0"] * 5
        is_shared = connections(backend, "Unary") <= connections(backend, "Watch")
        assert is_shared != isinstance(face, SyncFace)


def test_behind_a_virtual_ip_calls_go_where_health_was_asked(face: Face) -> None:
    well, sick = Backend(name="b0", services=["svc"]), Backend(name="b1", services=["svc"], status="NOT_SERVING")
    with well, sick, Forwarder([well.address, sick.address]) as way:
        client = face.ready([way.address])

        assert [client.call() for _ in range(20)] == ["b0"] * 20


def test_behind_a_virtual_ip_one_connection_is_accepted(face: Face) -> None:
    with Backend(services=["svc"]) as one, Backend(services=["svc"]) as other:
        with Forwarder([one.address, other.address]) as way:
            client = face.ready([way.address])

            assert [client.call() for _ in range(20)] == ["b0"] * 20
            assert way.accepted == 1
        assert (len(connections(one, "Unary")), len(connections(other, "Unary"))) == (1, 0)


def test_a_connection_that_comes_back_is_one_again(face: Face) -> None:
    with Backend(services=["svc"]) as backend:
        client = face.ready([backend.address])
        backend.kill()
        client.wait_for_states("T")
        backend.restart()
        client.wait_until_ready()

        assert [client.call() for _ in range(20)] == ["b0"] * 20
        assert connections(backend, "Unary") <= connections(backend, "Watch")


@pytest.mark.parametrize("pause", [3 * QUIET])
def test_h_a_pause_costs_no_call_where_a_middlebox_forgets(face: Face, pause: float) -> None:
    health = HealthCheck(heartbeat=Heartbeat(interval=QUIET / 4, timeout=QUIET / 4))
    with Backend(services=["svc"]) as backend, Forwarder([backend.address], forgets_after=QUIET) as way:
        client = face.ready([way.address], health=health)
        client.call()
        time.sleep(pause)

        assert [client.call(timeout=5.0) for _ in range(4)] == ["b0"] * 4
