"""TLS, with certificates made on the fly: whose name is checked, and what a failure says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.backends import Backend
from tests.backends.certs import Certificates, make_certificates
from tests.backends.clients import eventually, failure
from tests.dns_server import ScriptedServer
from tests.parity.face import METHODS, Face
from tests.parity.fleet import Fleet, executed

NAME = "backend.test"


@pytest.fixture(scope="session")
def by_address(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A server that is known by its address."""
    return make_certificates(tmp_path_factory.mktemp("by_address"), ["127.0.0.1"])


@pytest.fixture(scope="session")
def by_name(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A server that is known by its name alone."""
    return make_certificates(tmp_path_factory.mktemp("by_name"), [NAME])


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Somebody else's CA."""
    return make_certificates(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def dns() -> Iterator[ScriptedServer]:
    """A DNS server that knows the name."""
    server = ScriptedServer({NAME: ["127.0.0.1"]})
    yield server
    server.close()


def serve(fleet: Fleet, certificates: Certificates, *, mutual: bool = False) -> Backend:
    """Return a backend with this certificate."""
    return fleet.lend(options={"tls": certificates.server_options(mutual=mutual)})[0]


def is_served(face: Face, backend: Backend, target: object, **arguments: object) -> bool:
    """Whether calls and the Watch get through."""
    before = backend.stats().watches_started
    client = face.ready(target, min_ready=1, **arguments)
    return client.call() == "b0" and backend.stats().watches_started == before + 1


def test_tls_a_list_goes_by_each_address(face: Face, fleet: Fleet, by_address: Certificates) -> None:
    backend = serve(fleet, by_address)

    assert is_served(face, backend, [backend.address], credentials=by_address.channel_credentials())


def test_tls_the_servers_name_can_be_overridden(face: Face, fleet: Fleet, by_name: Certificates) -> None:
    backend = serve(fleet, by_name)
    options = [("grpc.ssl_target_name_override", NAME)]

    assert is_served(face, backend, [backend.address], credentials=by_name.channel_credentials(), options=options)


def test_tls_the_authority_names_the_server_too(face: Face, fleet: Fleet, by_name: Certificates) -> None:
    backend = serve(fleet, by_name)
    options = [("grpc.default_authority", NAME)]

    assert is_served(face, backend, [backend.address], credentials=by_name.channel_credentials(), options=options)


def test_tls_dns_goes_by_the_targets_host(face: Face, fleet: Fleet, by_name: Certificates, dns: ScriptedServer) -> None:
    backend = serve(fleet, by_name)
    target = f"dns://{dns.address}/{NAME}:{backend.port}"

    assert is_served(face, backend, target, credentials=by_name.channel_credentials())


def test_tls_dns_does_not_go_by_the_address(
    face: Face, fleet: Fleet, by_address: Certificates, dns: ScriptedServer
) -> None:
    backend = serve(fleet, by_address)
    target = f"dns://{dns.address}/{NAME}:{backend.port}"
    client = face.open(target, credentials=by_address.channel_credentials())

    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert backend.stats().watches_open == 0


def test_tls_mutual(face: Face, fleet: Fleet, by_address: Certificates) -> None:
    backend = serve(fleet, by_address, mutual=True)

    assert is_served(face, backend, [backend.address], credentials=by_address.channel_credentials(mutual=True))


def test_tls_mutual_without_a_certificate_is_refused(face: Face, fleet: Fleet, by_address: Certificates) -> None:
    backend = serve(fleet, by_address, mutual=True)
    before = executed(backend)
    client = face.open([backend.address], credentials=by_address.channel_credentials())

    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert backend.address in error.details()
    assert executed(backend) == before


@pytest.mark.needs("grpcio", "1.76", reason="its TLS errors name no certificate")
def test_tls_a_wrong_ca_is_named_as_the_reason(
    face: Face, fleet: Fleet, by_address: Certificates, stranger: Certificates
) -> None:
    backend = serve(fleet, by_address)
    client = face.open([backend.address], credentials=stranger.channel_credentials())
    with pytest.raises(TimeoutError) as waited:
        client.wait_until_ready(timeout=1.0)
    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    for text in (error.details(), str(waited.value), client.subchannel(backend.address).reason):
        assert "certificate" in text.lower()


def test_tls_a_wrong_name_fails_the_first_call_with_the_reason(face: Face, fleet: Fleet, by_name: Certificates) -> None:
    backend = serve(fleet, by_name)
    client = face.open([backend.address], credentials=by_name.channel_credentials())

    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert f"1 TRANSIENT_FAILURE; {backend.address}: " in error.details()
    assert "cannot connect" not in error.details()


def test_tls_plaintext_to_a_tls_server_fails(face: Face, fleet: Fleet, by_address: Certificates) -> None:
    backend = serve(fleet, by_address)
    client = face.open([backend.address])

    assert failure(client.call).code() is grpc.StatusCode.UNAVAILABLE
    eventually(lambda: client.state() == "TRANSIENT_FAILURE")


def test_h7_tls_call_credentials_go_with_calls(face: Face, fleet: Fleet, by_address: Certificates) -> None:
    backend = serve(fleet, by_address)
    token = grpc.access_token_call_credentials("t0ken")
    credentials = grpc.composite_channel_credentials(by_address.channel_credentials(), token)
    client = face.ready([backend.address], credentials=credentials)
    client.call()
    seen = backend.stats().last_metadata

    # Bound to the channel, they go with the Watch too (A17, H7).
    assert ["authorization", "Bearer t0ken"] in seen["Unary"]
    assert ["authorization", "Bearer t0ken"] in seen["Watch"]


class Broken(grpc.AuthMetadataPlugin):
    """Call credentials that cannot be had."""

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Say so."""
        callback((), RuntimeError("no token"))


def test_tls_credentials_that_fail_are_nothing_against_a_backend(
    face: Face, fleet: Fleet, by_address: Certificates
) -> None:
    backend = serve(fleet, by_address)
    client = face.ready([backend.address], credentials=by_address.channel_credentials())
    broken = grpc.metadata_call_credentials(Broken())

    def refused() -> grpc.StatusCode:
        made: Any = client.channel.unary_unary(METHODS["unary_unary"])
        return failure(lambda: client.run(lambda: made(b"", credentials=broken, timeout=10))).code()

    # Of a backend's own failures in a row, five take it out.
    assert len({refused() for _ in range(8)}) == 1
    status = client.subchannels()[0]
    assert (status.failures, status.in_flight, status.state.name) == (0, 0, "READY")


def test_tls_messages_above_the_clients_limit_are_nothing_against_a_backend(
    face: Face, fleet: Fleet, by_address: Certificates
) -> None:
    backend = serve(fleet, by_address)
    options = [("grpc.max_send_message_length", 100)]
    client = face.ready([backend.address], credentials=by_address.channel_credentials(), options=options)
    made: Any = client.channel.unary_unary(METHODS["unary_unary"])
    too_large = grpc.StatusCode.RESOURCE_EXHAUSTED
    for _ in range(8):
        assert failure(lambda: client.run(lambda: made(b"x" * 200, timeout=10))).code() is too_large

    status = client.subchannels()[0]
    assert (status.failures, status.in_flight, status.state.name) == (0, 0, "READY")
