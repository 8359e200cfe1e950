"""Channel arguments: what would undo the channel is refused with what to do instead, in both faces."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import healthlb
import healthlb.aio
from healthlb.config import Backoff
from healthlb.control.options import (
    _ON_A_BALANCED_ONE,
    _ON_ANY_CHANNEL,
    _PREFIXES_ON_A_BALANCED_ONE,
    _PREFIXES_ON_ANY_CHANNEL,
    check_options,
    subchannel_options,
)
from healthlb.control.proxies import is_local, without_proxy

REFUSED = [
    ("grpc.service_config", "{}", "'grpc.service_config': pass it as service_config="),
    ("grpc.lb_policy_name", "round_robin", "'grpc.lb_policy_name': pass picker="),
    ("grpc.lb_policy_name", "pick_first", "'grpc.lb_policy_name': pass picker="),
    ("grpc.service_config_disable_resolution", 0, "as 0: pass service_config="),
    ("grpc.enable_retries", 0, "'grpc.enable_retries' as 0: pass failover=None"),
    ("grpc.use_local_subchannel_pool", 0, "'grpc.use_local_subchannel_pool' as 0: leave it out"),
    ("grpc.enable_deadline_checking", 0, "'grpc.enable_deadline_checking' as 0: leave it out"),
    ("grpc.minimal_stack", 1, "'grpc.minimal_stack' as 1: leave it out"),
    ("grpc.dns_enable_srv_queries", 1, "'grpc.dns_enable_srv_queries' as 1: use a Resolver"),
    ("grpc.xds_resource_does_not_exist_timeout_ms", 1, "no xDS"),
    ("grpc.grpclb_call_timeout_ms", 1, "no grpclb"),
    ("grpc.internal.subchannel_pool", 1, "grpcio's own"),
    ("grpc.experimental.event_engine", 1, "'grpc.experimental.event_engine': it is grpcio's own"),
    ("grpc.http2.initial_sequence_number", 2**31 - 1, "'grpc.http2.initial_sequence_number': leave it out"),
    ("grpc.http.tarpit_max_duration_ms", 0, "a server's"),
]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "running.md"
HARMLESS = [
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.enable_retries", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_deadline_checking", 1),
    ("grpc.minimal_stack", 0),
    ("grpc.dns_enable_srv_queries", 0),
    ("grpc.keepalive_time_ms", 400_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.primary_user_agent", "shop"),
]


@pytest.mark.parametrize("make", [healthlb.HealthAwareChannel, healthlb.aio.HealthAwareChannel])
@pytest.mark.parametrize("spelled", [str, str.encode])
@pytest.mark.parametrize(("name", "value", "text"), REFUSED)
def test_refused(make: Any, spelled: Any, name: str, value: object, text: str) -> None:
    with pytest.raises(healthlb.ConfigError, match=r"^options must not hold ") as caught:
        make(["127.0.0.1:1"], options=[("grpc.keepalive_time_ms", 400_000), (spelled(name), value)])

    assert text in str(caught.value)


def test_the_documentation_names_each() -> None:
    documented = re.findall(r"`(grpc\.[\w.]*\w)(?:\.\.\.)?`", DOCS.read_text().partition("## Channel arguments")[2])
    refused = (*_ON_A_BALANCED_ONE, *_ON_ANY_CHANNEL, *_PREFIXES_ON_A_BALANCED_ONE, *_PREFIXES_ON_ANY_CHANNEL)

    assert {name for name in refused if name.removesuffix(".") not in documented} == set()


MISTYPED = [
    ("grpc.keepalive_time_ms", "20000", "an int of 32 bits"),
    ("grpc.max_receive_message_length", b"1", "an int of 32 bits"),
    ("grpc.http2.max_pings_without_data", "0", "an int of 32 bits"),
    ("grpc.enable_http_proxy", None, "an int of 32 bits"),
    ("grpc.default_authority", 1, "a str or bytes"),
    ("grpc.primary_user_agent", None, "a str or bytes"),
    ("shop.name", object(), "a str, bytes or an int of 32 bits"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), MISTYPED)
def test_a_value_that_grpcio_would_ignore(name: str, value: object, wanted: str) -> None:
    with pytest.raises(healthlb.ConfigError, match=f"^options: '{name}' must be {wanted}, not "):
        check_options([(name, value)])


def test_a_name_is_not_cut_short() -> None:
    with pytest.raises(healthlb.ConfigError, match="null characters"):
        check_options([("grpc.lb_policy_name\0.harmless", "round_robin")])


@pytest.mark.parametrize("client", [healthlb.HealthClient, healthlb.aio.HealthClient])
def test_a_health_client_takes_what_does_not_break_it(client: Any) -> None:
    client("127.0.0.1:1", options=[("grpc.lb_policy_name", "round_robin")])
    for options in ([("grpc.minimal_stack", 1)], [("grpc.keepalive_time_ms", "1")], [("grpc.x",)], 5):
        with pytest.raises(healthlb.ConfigError, match=r"^options"):
            client("127.0.0.1:1", options=options)


@pytest.mark.parametrize("option", HARMLESS)
def test_passed(option: tuple[str, Any]) -> None:
    assert check_options([option]) == (option,)


def test_a_proxy_of_the_environment_is_ignored_and_one_that_is_named_is_not() -> None:
    assert dict(subchannel_options((), Backoff(), None))["grpc.enable_http_proxy"] == 0
    assert "grpc.enable_http_proxy" not in dict(subchannel_options((("grpc.http_proxy", "p:1"),), Backoff(), None))
    assert dict(subchannel_options((("grpc.enable_http_proxy", 1),), Backoff(), None))["grpc.enable_http_proxy"] == 1
    by_address = "grpc.address_http_proxy_enabled_addresses"
    assert dict(subchannel_options((), Backoff(), None))[by_address] == ""
    assert by_address not in dict(subchannel_options((("grpc.address_http_proxy", "p:1"),), Backoff(), None))
    assert by_address not in dict(subchannel_options((("grpc.enable_http_proxy", 1),), Backoff(), None))


LOCAL = [
    "localhost:1", "LOCALHOST:1", "localhost.:1", "shop.localhost:1", "127.0.0.1:1", "127.9.8.7:1", "[::1]:1",
    "0.0.0.0:1", "[::]:1", ":1", "[::ffff:127.0.0.1]:1", "ipv4:127.0.0.1:1", "ipv4:10.0.0.1:1,127.0.0.1:1",
    "ipv6:[::1]:1", "ipv6:%5B::1%5D:1", "dns:localhost:1", "dns:///localhost:1", "dns://1.1.1.1/localhost:1",
    "unix:/run/s", "unix:///run/s", "unix-abstract:s", "localhost", "::1", "ip6-localhost:1", "localhost.localdomain:1",
    f"{os.uname().nodename}:1",
]  # fmt: skip
REMOTE = [
    "shop.prod:1",
    "10.0.0.1:1",
    "dns:///shop.prod:1",
    "[2001:db8::1]:1",
    "ipv4:10.0.0.1:1",
    "localhost.prod:1",
    "unix.prod:1",
]


@pytest.mark.parametrize("target", LOCAL)
def test_no_proxy_to_this_machine(target: str) -> None:
    assert dict(without_proxy(target)) == {
        "grpc.enable_http_proxy": 0,
        "grpc.address_http_proxy_enabled_addresses": "",
    }


@pytest.mark.parametrize("target", REMOTE)
def test_proxies_to_other_machines_are_left_alone(target: str) -> None:
    assert without_proxy(target) == ()


def test_hosts_of_this_machine() -> None:
    assert [is_local(host) for host in ("localhost", "[::1]", "fe80::1%eth0", "10.0.0.1", "")] == [
        True, True, False, False, True,
    ]  # fmt: skip
