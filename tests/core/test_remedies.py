"""From evidence to what is said of it; the texts are C-core's, as printed by 1.68.1 and 1.85.3."""

from __future__ import annotations

import pytest

from healthlb.core import remedies
from healthlb.core.states import Code, ServingStatus
from healthlb.core.wordings import CHANNEL, CLIENT, COMMAND, GIVEN, PROBE, Wording

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
        (f"{_PREFIX}Tls {_SSL}CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "renew it"),
        (f"{_PREFIX}Ssl {_SSL}CERTIFICATE_VERIFY_FAILED: certificate is not yet valid", "this machine's clock"),
        (f"{_PREFIX}Tls {_SSL}CERTIFICATE_VERIFY_FAILED: unsuitable certificate purpose: OK", "extendedKeyUsage"),
        (f"{_PREFIX}Cannot check peer: missing selected ALPN property.", "offer h2"),
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
        ("unix:/run/x: connect failed: addr: unix:/run/x error: No such file or directory", "no socket at that path"),
        ("unix:/run/x: connect failed: addr: unix:/run/x error: Permission denied", "may not use that socket"),
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
        (Code.UNAUTHENTICATED, "call host does not match SSL server name", "grpc.ssl_target_name_override"),
        (Code.UNAVAILABLE, "Getting metadata from plugin failed with error: oops", "call credentials have failed"),
        (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", "HealthCheck(watch=False)"),
        (Code.INTERNAL, "not a HealthCheckResponse: cut off", "pass service=None"),
        # The client's own limits, and not a server that is full.
        (Code.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (2 vs. 1)", "max_receive_message_length"),
        (Code.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit (42 vs. 1)", "absolute_max_metadata_size"),
        (
            Code.RESOURCE_EXHAUSTED,
            "received metadata size exceeds soft limit (42 vs. 1)",
            "raise grpc.max_metadata_size",
        ),
    ],
)
def test_a_watch_that_ends_has_a_remedy(code: Code, details: str, part: str) -> None:
    assert part in remedies.of_health(code, details, "svc", is_polling=False)


def test_a_full_server_that_is_polled_already_is_not_to_be_polled() -> None:
    assert "watch=False" not in remedies.of_health(Code.RESOURCE_EXHAUSTED, "", "svc", is_polling=True)


def test_a_call_that_a_full_server_refuses_is_told_of_the_watches() -> None:
    assert "HealthCheck(watch=False)" in remedies.of_call(Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
    assert remedies.of_call(Code.UNKNOWN, "Concurrent RPC limit exceeded!") == ""


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


# --- who asks for health, and gets no answer ---------------------------------------------------------------


def asked(code: Code, details: str, method: str = "Check", service: str = "svc", wording: Wording = CLIENT) -> str:
    return remedies.of_asking(code, details, service, method, is_secure=False, wording=wording)


@pytest.mark.parametrize(
    ("code", "details", "method", "part"),
    [
        (
            Code.UNAVAILABLE,
            f"{_PREFIX}Failed to connect to remote host: Connection refused",
            "Check",
            "nothing listens",
        ),
        (Code.UNAVAILABLE, f"{_PREFIX}Socket closed", "Check", "pass credentials=grpc.ssl_channel_credentials(...)"),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", "List", "a slow one needs a longer timeout=..."),
        (Code.UNIMPLEMENTED, "Method not found!", "Check", "add one to it"),
        (Code.UNIMPLEMENTED, "Method not found!", "Watch", "use check() now and then"),
        (Code.UNIMPLEMENTED, "Method not found!", "List", "one without List"),
        (Code.UNIMPLEMENTED, "Received http2 header with status: 404", "Check", "grpc.default_authority"),
        (Code.NOT_FOUND, "", "Check", "does not know the service 'svc': list() tells"),
        (Code.UNAUTHENTICATED, "", "Check", "wants to know who asks for its health: pass its token with metadata=..."),
        (Code.PERMISSION_DENIED, "", "Check", "does not let this client ask for its health: pass its token"),
        (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", "Check", "raise its limit on calls"),
        (Code.RESOURCE_EXHAUSTED, "", "Watch", "use check() now and then"),
        (Code.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (2 vs. 1)", "Check", "of the client"),
        (Code.INTERNAL, "not a HealthCheckResponse: cut off", "Check", "is not grpc.health.v1.Health"),
    ],
)
def test_who_is_not_answered_has_a_remedy(code: Code, details: str, method: str, part: str) -> None:
    assert part in asked(code, details, method)


def test_a_connection_that_is_lost_under_a_call_is_no_mistake() -> None:
    assert asked(Code.UNAVAILABLE, "Socket closed") == ""
    assert asked(Code.UNAVAILABLE, "the server is shutting down") == ""
    assert asked(Code.INTERNAL, "oops") == ""
    assert asked(Code.ABORTED, "") == ""
    assert asked(Code.UNKNOWN, "oops") == ""


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (Code.UNAVAILABLE, "errors resolving http://x:1: [...: address lookup failed for x: Misformatted domain name]"),
        (
            Code.UNAVAILABLE,
            "errors resolving x:port: [field:hostname lookup error:Failed to parse port in name: x:port]",
        ),
        (Code.UNKNOWN, "Failed to create channel to 'dns://x:1':the target uri is not valid: dns://x:1"),
    ],
)
def test_what_is_no_address_is_not_looked_for_in_dns(code: Code, details: str) -> None:
    assert "this is no address as gRPC has them: write 'host:port'" in asked(code, details)


def test_a_status_that_names_no_service_has_a_remedy() -> None:
    assert remedies.of_name(ServingStatus.NOT_SERVING, "svc", CLIENT) == ""
    assert "ask for a service by name; list() tells" in remedies.of_name(ServingStatus.SERVICE_UNKNOWN, "", CLIENT)


def test_a_channel_of_somebody_else_may_speak_tls_or_not() -> None:
    said = remedies.of_connection("Socket closed", is_secure=None, wording=GIVEN)

    assert "open the channel with grpc.secure_channel" in said
    assert "if the channel does speak it" in said


@pytest.mark.parametrize(
    ("wording", "part"),
    [(CHANNEL, "leave out credentials"), (GIVEN, "grpc.insecure_channel"), (COMMAND, "out --tls"), (PROBE, "out -tls")],
)
def test_each_way_of_asking_has_words_of_its_own(wording: Wording, part: str) -> None:
    assert part in remedies.of_connection("WRONG_VERSION_NUMBER", is_secure=True, wording=wording)
