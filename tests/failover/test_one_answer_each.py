"""A server that ends its connection with each answer costs no call, and no more time than with plain grpcio.

Such a backend has served on each connection, so none of them counts as a failed attempt; and as many connections as calls
have paid for are dialled at once.
"""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest

from tests.backends.certs import Certificates, make_certificates
from tests.backends.clients import PATIENCE
from tests.failover.one_answer_peer import one_answer_each
from tests.failover.support import seconds
from tests.parity.face import Asked, Face

CALLS = 100
PAUSE = 0.01  # seconds; without it plain grpcio, too, sends calls on connections that are about to end


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("tls")
    return make_certificates(folder)


def plain_seconds(address: str, credentials: grpc.ChannelCredentials | None) -> float:
    """Return how long the calls take on a channel of grpcio's."""
    made = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with made as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        return seconds(lambda: [_paused(call(b"plain", timeout=PATIENCE)) for _ in range(CALLS)])


def _paused(response: bytes) -> bytes:
    time.sleep(PAUSE)
    return response


@pytest.mark.parametrize("service", [None, ""], ids=["unchecked", "watched"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plaintext", "TLS"])
def test_each_call_is_answered_and_as_soon_as_with_plain(
    face: Face, certificates: Certificates, is_secure: bool, service: str | None
) -> None:
    credentials = certificates.channel_credentials() if is_secure else None
    with one_answer_each(certificates if is_secure else None) as address:
        plain = plain_seconds(address, credentials)
        client = face.open([address], service, credentials=credentials)
        ours = seconds(lambda: [_paused(client.unary(Asked())) for _ in range(CALLS)])

    # At ten connections a second, the bound where no call has paid, it would be nine seconds.
    assert ours <= 2 * plain + 2
