"""From evidence to what is said of it; the texts are C-core's, as printed by 1.68.1 and 1.85.3."""

from __future__ import annotations

import pytest

from healthlb.core import remedies
from healthlb.core.states import Code, ServingStatus

_PREFIX = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
_SSL = "handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            f"{_PREFIX}Tls {_SSL}WRONG_VERSION_NUMBER: Invalid certificate verification context: OK",
            "leave out credentials",
        ),
        (f"{_PREFIX}Ssl {_SSL}WRONG_VERSION_NUMBER", "leave out credentials"),
        (
            f"{_PREFIX}Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
            "grpc.ssl_target_name_override",
        ),
        (f"{_PREFIX}Peer name 127.0.0.1 is not in peer certificate", "grpc.ssl_target_name_override"),
        (f"{_PREFIX}Ssl {_SSL}CERTIFICATE_VERIFY_FAILED: unable to get issuer", "root_certificates"),
        (f"{_PREFIX}Tls {_SSL}BAD_SIGNATURE: certificate signature failure: OK", "root_certificates"),
        (f"{_PREFIX}Ssl {_SSL}TLSV1_ALERT_CERTIFICATE_REQUIRED", "private_key"),
        (
            f"{_PREFIX}Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 79)",
            "check the port",
        ),
        (f"{_PREFIX}Failed to connect to remote host: Connection refused", "nothing listens there"),
        (f"{_PREFIX}Failed to connect to remote host: connect: Connection refused (111)", "nothing listens there"),
        ("errors resolving no-such-host.invalid:1: [...: Domain name not found]", "check its spelling"),
        ("OSError: cannot resolve 'no-such-host.invalid': Name or service not known", "check its spelling"),
        (f"{_PREFIX}Failed to connect to remote host: No route to host", "no way to that address"),
        (f"{_PREFIX}connection attempt timed out before receiving SETTINGS frame", "nothing answers there"),
        (f"{_PREFIX}Socket closed", "credentials=grpc.ssl_channel_credentials"),
        (f"{_PREFIX}recvmsg:Connection reset by peer (104)", "credentials=grpc.ssl_channel_credentials"),
    ],
)
def test_a_connection_that_fails_has_a_remedy(text: str, part: str) -> None:
    assert part in remedies.of_connection(text, is_secure=False)


def test_a_secure_connection_that_is_cut_off_is_not_told_to_be_secure() -> None:
    assert "certificate of the client" in remedies.of_connection("Socket closed", is_secure=True)


def test_what_is_not_known_has_none() -> None:
    assert remedies.of_connection("the moon is in the wrong phase", is_secure=False) == ""
    assert remedies.of_health(Code.UNAVAILABLE, "", "svc", is_polling=False) == ""
    assert remedies.of_serving(ServingStatus.NOT_SERVING, "svc") == ""
    assert remedies.of_call(Code.INTERNAL, "oops") == ""
    assert remedies.of_call(Code.RESOURCE_EXHAUSTED, "quota") == ""


@pytest.mark.parametrize(
    ("code", "details", "part"),
    [
        (Code.UNIMPLEMENTED, "Method not found!", "no health service"),
        (Code.UNIMPLEMENTED, "Received http2 header with status: 404", "grpc.default_authority"),
        (Code.UNAVAILABLE, "Received http2 header with status: 503", "HTTP status 503"),
        (Code.NOT_FOUND, "unknown service", "does not know the service 'svc'; pass service=..., or service=None"),
        (Code.UNAUTHENTICATED, "", "HealthCheck(metadata=...)"),
        (Code.PERMISSION_DENIED, "", "HealthCheck(metadata=...)"),
        (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", "HealthCheck(watch=False)"),
        (Code.INTERNAL, "not a HealthCheckResponse: cut off", "pass service=None"),
        # The client's own limits, and not a server that is full.
        (Code.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (2 vs. 1)", "max_receive_message_length"),
        (Code.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit (42 vs. 1)", "absolute_max_metadata_size"),
        (Code.RESOURCE_EXHAUSTED, "received metadata size exceeds soft limit (42 vs. 1)", "raise grpc.max_metadata_size"),
    ],
)
def test_a_watch_that_ends_has_a_remedy(code: Code, details: str, part: str) -> None:
    assert part in remedies.of_health(code, details, "svc", is_polling=False)


def test_a_full_server_that_is_polled_already_is_not_to_be_polled() -> None:
    assert "watch=False" not in remedies.of_health(Code.RESOURCE_EXHAUSTED, "", "svc", is_polling=True)


@pytest.mark.parametrize(
    ("details", "part"),
    [
        (
            "CLIENT: Received message larger than max (5242880 vs. 4194304)",
            "grpc.max_receive_message_length in options=[...]",
        ),
        ("CLIENT: Sent message larger than max (200 vs. 100)", "grpc.max_send_message_length in options=[...]"),
        ("Received message larger than max (200 vs. 100)", "grpc.max_receive_message_length in options=[...]"),
        ("SERVER: Received message larger than max (200 vs. 100)", "in the server's options"),
    ],
)
def test_a_message_that_is_too_big_names_the_option(details: str, part: str) -> None:
    assert part in remedies.of_call(Code.RESOURCE_EXHAUSTED, details)


def test_a_call_that_a_proxy_answered_names_the_authority() -> None:
    said = remedies.of_call(Code.UNIMPLEMENTED, "Received http2 header with status: 404")

    assert "grpc.default_authority" in said


def test_each_remedy_is_said_once() -> None:
    assert remedies.explained("a", ["x", "", "x", "y"]) == "a. What to do: x; or y"
    assert remedies.explained("a", [""]) == "a"
    assert remedies.explained("a. What to do: x", ["x"]) == "a. What to do: x"
