"""What of a service config is C-core's to keep, on the channel of each backend."""

from __future__ import annotations

import logging
import time

import grpc
import pytest

from tests.backends import Backend
from tests.parity.face import Asked, Face

SCALING = {"connectionScaling": {"maxConnectionsPerSubchannel": 5}}


def seconds_of_four(face: Face, backend: Backend, config: dict[str, object]) -> float:
    """Time four calls of 0.5 s at once."""
    client = face.ready([backend.address], service_config=config)
    began_at = time.monotonic()
    for call in [client.start(sleep=0.5) for _ in range(4)]:
        call.result()
    return time.monotonic() - began_at


@pytest.mark.needs("grpcio", "1.84", reason="C-core has no connectionScaling before")
def test_a105_more_connections_where_streams_are_limited(face: Face) -> None:
    with Backend(services=["svc"], options={"args": [["grpc.max_concurrent_streams", 1]], "workers": 10}) as backend:
        scaled = seconds_of_four(face, backend, SCALING)

        # One after the other they take two seconds; at once, and beside a Watch that holds a stream, a half.
        assert scaled < 1.5


def test_limits_of_messages_hold_for_calls_and_not_for_health(face: Face) -> None:
    limits = {"name": [{}], "maxRequestMessageBytes": 4, "maxResponseMessageBytes": 1}
    with Backend(services=["svc"]) as backend:
        client = face.ready([backend.address], service_config={"methodConfig": [limits]})
        with pytest.raises(grpc.RpcError) as caught:
            client.unary(Asked())
        status = client.subchannels()[0]

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (caught.value.details() or "")
    assert status.state.name == "READY"


def test_fields_that_are_not_known_are_named_once(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    config = {"unheard\x1bof": 1, "loadBalancingConfig": [{"weighted_round_robin": {"oobReportingPeriod": "1s"}}]}
    with Backend(services=["svc"]) as backend, caplog.at_level(logging.WARNING, "healthlb"):
        client = face.ready([backend.address], service_config=config)
        for _ in range(3):
            client.call()

    told = [record.getMessage() for record in caplog.records if "service_config" in record.getMessage()]
    assert told == [
        r"service_config: fields that healthlb does not know are left out: "
        r"unheard\x1bof, loadBalancingConfig.weighted_round_robin.oobReportingPeriod"
    ]
