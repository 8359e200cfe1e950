"""The health messages that are encoded by hand, compared with the generated code."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st

from healthlb.control.health_messages import decode_list, decode_response, encode_request

STATUSES = st.integers(-(2**31), 2**31 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]))


@given(NAMES)
def test_request(service: str) -> None:
    assert encode_request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()


@given(STATUSES)
def test_response(status: int) -> None:
    assert decode_response(health_pb2.HealthCheckResponse(status=status).SerializeToString()) == status


@pytest.mark.needs("grpcio-health-checking", "1.85", reason="it has no List to compare with")
@given(st.dictionaries(NAMES, STATUSES, max_size=5))
def test_list(statuses: dict[str, int]) -> None:
    entries = {name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses.items()}
    message = health_pb2.HealthListResponse(statuses=entries).SerializeToString()

    assert decode_list(message) == statuses


def test_fields_of_later_versions_are_left_out() -> None:
    unknown = b"\x12\x03abc\x1d\x01\x02\x03\x04"

    assert decode_response(unknown + b"\x08\x01" + unknown) == 1
    assert decode_list(unknown) == {}


def test_the_last_status_counts() -> None:
    assert decode_response(b"\x08\x01\x08\x02") == 2


def test_a_field_of_another_type_is_left_out() -> None:
    assert decode_response(b"\x0a\x03abc") == 0
    assert decode_list(b"\x08\x01") == {}
    assert decode_list(b"\x0a\x04\x08\x01\x10\x01") == {}


def test_what_is_no_message() -> None:
    with pytest.raises(ValueError, match="not a HealthCheckResponse: the message is cut off"):
        decode_response(b"\x0a\x7fabc")
    with pytest.raises(ValueError, match="not a HealthListResponse: "):
        decode_list(b"\x0a\x7fabc")
    with pytest.raises(ValueError, match="not a HealthListResponse: "):
        decode_list(b"\x0a\x03\x0a\x01\xff")
