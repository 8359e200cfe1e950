"""parse_target: every form of a target, and every way to get one wrong."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import healthlb
from healthlb.errors import ConfigError
from healthlb.resolvers import DnsResolver, Endpoint, StaticResolver, Target, parse_target, register_resolver, target
from healthlb.resolvers.base import Update


class Custom:
    authority: object = None

    def __init__(self, uri: str = "") -> None:
        self.uri = uri

    async def resolve(self, update: Update) -> None:
        update([Endpoint("a:1")])

    def __repr__(self) -> str:
        return "<Custom>"


class Blocking:
    def resolve(self, update: Update) -> None:
        update([])


class Wrapped(Custom):
    @staticmethod
    def traced(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        def call(*args: object) -> Awaitable[None]:
            return function(*args)

        return call

    resolve = traced(Custom.resolve)  # type: ignore[assignment]


class NotASequence:
    def __iter__(self) -> object:
        return iter(["a:1"])


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_registered", {})


class Said(Exception):
    """Ends `resolve` at its first update, with what it said."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__()
        self.endpoints = list(endpoints)


def _say(endpoints: Sequence[Endpoint]) -> None:
    raise Said(endpoints)


def _endpoints(parsed: Target) -> list[Endpoint]:
    """Return what a static target says, without a loop: it says it before it first waits."""
    with pytest.raises(Said) as said:
        parsed.resolver.resolve(_say).send(None)
    return said.value.endpoints


def _addresses(parsed: Target) -> list[str]:
    return [endpoint.address for endpoint in _endpoints(parsed)]


@pytest.mark.parametrize(
    ("given_target", "resolver", "authority", "text"),
    [
        ("localhost:50051", "dns:///localhost:50051", "localhost:50051", "dns:///localhost:50051"),
        ("svc", "dns:///svc:443", "svc", "dns:///svc"),
        ("dns:///svc.prod:1", "dns:///svc.prod:1", "svc.prod:1", "dns:///svc.prod:1"),
        ("dns:///svc.prod.:1", "dns:///svc.prod.:1", "svc.prod.:1", "dns:///svc.prod.:1"),
        ("dns:///svc.prod", "dns:///svc.prod:443", "svc.prod", "dns:///svc.prod"),
        ("DNS:///svc:1", "dns:///svc:1", "svc:1", "dns:///svc:1"),
        ("dns:svc:1", "dns:///svc:1", "svc:1", "dns:///svc:1"),
        ("dns:/svc:1", "dns:///svc:1", "svc:1", "dns:///svc:1"),
        ("_grpc-1.svc:65535", "dns:///_grpc-1.svc:65535", "_grpc-1.svc:65535", "dns:///_grpc-1.svc:65535"),
        ("xn--bcher-kva.test:1", "dns:///xn--bcher-kva.test:1", "xn--bcher-kva.test:1", "dns:///xn--bcher-kva.test:1"),
        ("10.0.0.1:1", "dns:///10.0.0.1:1", "10.0.0.1:1", "dns:///10.0.0.1:1"),
        ("[::1]:1", "dns:///[::1]:1", "[::1]:1", "dns:///[::1]:1"),
        ("dns:///[::1]", "dns:///[::1]:443", "[::1]", "dns:///[::1]"),
        ("dns:///%5B::1%5D:1", "dns:///[::1]:1", "[::1]:1", "dns:///[::1]:1"),
        ("dns://10.0.0.53/svc:1", "dns://10.0.0.53:53/svc:1", "svc:1", "dns://10.0.0.53/svc:1"),
        ("dns://10.0.0.53:5353/svc:1", "dns://10.0.0.53:5353/svc:1", "svc:1", "dns://10.0.0.53:5353/svc:1"),
        ("dns://[::1]:5353/svc", "dns://[::1]:5353/svc:443", "svc", "dns://[::1]:5353/svc"),
        ("etcd:2379", "dns:///etcd:2379", "etcd:2379", "dns:///etcd:2379"),
    ],
)
def test_name_is_followed_in_dns(given_target: str, resolver: str, authority: str, text: str) -> None:
    parsed = parse_target(given_target)

    assert isinstance(parsed.resolver, DnsResolver)
    assert (str(parsed.resolver), parsed.authority, parsed.text) == (resolver, authority, text)


@pytest.mark.parametrize(
    ("given_target", "addresses"),
    [
        (["a:1"], ["a:1"]),
        (("a:1", "b:2"), ["a:1", "b:2"]),
        (["b:2", "a:1", "b:2"], ["b:2", "a:1"]),
        (["localhost:1", "10.0.0.1:2", "[::1]:3", "unix:/s"], ["localhost:1", "10.0.0.1:2", "[::1]:3", "unix:/s"]),
        (["[0:0::1]:3", "[::1]:3"], ["[::1]:3"]),
        (["unix:/run/s", "unix:///run/s"], ["unix:/run/s"]),
        (["unix:s.sock", "unix-abstract:s"], ["unix:s.sock", "unix-abstract:s"]),
        (["dns:1", "ipv4:2"], ["dns:1", "ipv4:2"]),
        (["[fe80::1%eth0]:3"], ["[fe80::1%eth0]:3"]),
        ([Endpoint("unix:///run/s"), "a:1"], ["unix:/run/s", "a:1"]),
        ("ipv4:10.0.0.1:5,10.0.0.2:10", ["10.0.0.1:5", "10.0.0.2:10"]),
        ("ipv4:///10.0.0.1:5", ["10.0.0.1:5"]),
        ("ipv4:10.0.0.1:5,10.0.0.1:5", ["10.0.0.1:5"]),
        ("ipv6:[::1]:5,[::2]:5", ["[::1]:5", "[::2]:5"]),
        ("ipv6:%5B::1%5D:5", ["[::1]:5"]),
        ("unix:/run/s.sock", ["unix:/run/s.sock"]),
        ("unix:///run/s.sock", ["unix:/run/s.sock"]),
        ("unix:s.sock", ["unix:s.sock"]),
        ("unix-abstract:s", ["unix-abstract:s"]),
    ],
)
def test_addresses_are_taken_as_they_stand(given_target: object, addresses: list[str]) -> None:
    parsed = parse_target(given_target)

    assert isinstance(parsed.resolver, StaticResolver)
    assert parsed.authority is None
    assert _addresses(parsed) == addresses


def test_endpoint_keeps_all_it_says() -> None:
    endpoint = Endpoint("unix:///run/s", weight=2.5, locality="a", attributes={"k": 1})
    said = _endpoints(parse_target([endpoint, "unix:/run/s"]))

    assert said == [Endpoint("unix:/run/s", weight=2.5, locality="a", attributes={"k": 1})]


@pytest.mark.parametrize("target", ["ipv4:10.0.0.1:1,", "ipv4:,10.0.0.1:1,,", "ipv4:10.0.0.1%3A1,"])
def test_commas_beside_addresses_say_nothing(target: str) -> None:
    assert parse_target(target).text == parse_target("ipv4:10.0.0.1:1").text


def test_long_list_has_a_short_text() -> None:
    parsed = parse_target([f"backend-{number}.prod:50051" for number in range(1000)])

    assert parsed.text == (
        "['backend-0.prod:50051', 'backend-1.prod:50051', 'backend-2.prod:50051', 'backend-3.prod:50051', ...]"
    )


_BAD_ADDRESSES = [
    ("", "must not be empty"),
    (" ", "white space"),
    ("a:1 ", "white space"),
    (" a:1", "white space"),
    ("a b:1", "white space"),
    ("a:1\n", "white space"),
    ("a:0", "port"),
    ("a:00080", "port"),
    ("a:65536", "port"),
    ("a:-1", "port"),
    ("a:+1", "port"),
    ("a:x", "port"),
    ("a:", "port"),
    ("a:1_0", "port"),
    ("a:\u0661", "port"),
    ("a:" + "9" * 5000, "port"),
    (":1", "host is missing"),
    (".:1", "no IPv4 address"),
    ("-.-:1:1", "brackets"),
    ("a..b:1", "no host name"),
    ("a/b:1", "no host name"),
    ("a?b=1", "no host name"),
    ("user@a:1", "no host name"),
    ("b\u00fccher.test:1", "xn--"),
    ("a" * 64 + ":1", "no host name"),
    ("a." * 127 + "a:1", "no host name"),
    ("256.0.0.1:1", "no IPv4 address"),
    ("10.0.0:1", "no IPv4 address"),
    ("10.0.0.01:1", "no IPv4 address"),
    ("::1", "brackets"),
    ("::1:50051", "brackets"),
    ("[::1:1", "[::1]:50051"),
    ("::1]:1", "brackets"),
    ("[::1]1", "[::1]:50051"),
    ("[[::1]]:1", "[::1]:50051"),
    ("[]:1", "no IPv6 address"),
    ("[10.0.0.1]:1", "no IPv6 address"),
    ("[a]:1", "no IPv6 address"),
    ("[::1%]:1", "no IPv6 address"),
    ("[::1%a/b]:1", "no IPv6 address"),
    ("[::1]:", "port"),
    ("a:1,b:2", "given as a list"),
    ("unix:", "not empty"),
    ("unix:/run/a b", "white space"),
    ("unix:/run/a\0b", "socket"),
    ("unix:/run/a?b", "'?'"),
    ("unix:/run/a#b", "'#'"),
    ("unix://run/a", "unix:///path"),
    ("unix:/" + "a" * 107, "107 bytes"),
    ("unix:\ud800", "socket"),
    ("unix-abstract:", "not empty"),
    ("unix-abstract:///a", "unix-abstract:name"),
]


@pytest.mark.parametrize(("address", "reason"), _BAD_ADDRESSES)
def test_malformed_address_is_refused_alone_and_in_a_list(address: str, reason: str) -> None:
    for given_target in (address, ["a:1", address], [Endpoint(address)]):
        with pytest.raises(ConfigError) as raised:
            parse_target(given_target)

        assert str(raised.value).startswith("target ")
        assert reason in str(raised.value)
        assert "a target is a non-empty list of addresses" in str(raised.value)


@pytest.mark.parametrize(
    ("given_target", "reason"),
    [
        ("dns:", "must not be empty"),
        ("dns:///", "must not be empty"),
        ("dns://svc:1", "dns:///svc:1"),
        ("dns:///svc:1/", "port"),
        ("dns:///svc:1/path", "port"),
        ("dns:////svc:1", "no host name"),
        ("//svc:1", "no host name"),
        ("/svc:1", "no host name"),
        ("dns:///a:1,b:2", "given as a list"),
        ("dns:///svc%20:1", "white space"),
        ("dns:50051", "no IPv4 address"),
        ("dns://ns.test/svc:1", "IP address, not by a name"),
        ("dns://::1/svc:1", "brackets"),
        ("dns://10.0.0.1:0/svc:1", "port"),
        ("ipv4:", "must not be empty"),
        ("ipv4:10.0.0.1", "has no port"),
        ("ipv4:10.0.0.1:5, 10.0.0.2:5", "white space"),
        ("ipv4:,", "must not be empty"),
        ("ipv4:localhost:5", "no IPv4 address"),
        ("ipv4:[::1]:5", "no IPv4 address"),
        ("ipv4://10.0.0.1:5", "no authority"),
        ("ipv6:10.0.0.1:5", "no IPv6 address"),
        ("ipv6:[::1]", "has no port"),
        ("ipv6:::1", "brackets"),
        ("k8s:///ns/svc:1", "unknown (known are dns, ipv4, ipv6, unix, unix-abstract)"),
        ("https://svc:1", "addresses of gRPC are no URLs: leave out 'https://'"),
        ("xds:///svc", "'xds' is unknown"),
        ([], "no addresses"),
        ((), "no addresses"),
        (["a"], "no port"),
        (["[::1]"], "no port"),
        (["dns:///a:1"], "not URIs"),
        (["dns:a:1"], "not URIs"),
        (["ipv4:10.0.0.1:1"], "not URIs"),
        (["ipv6:[::1]:1"], "not URIs"),
        (["a:1", None], "an entry of a list"),
        (["a:1", b"b:2"], "an entry of a list"),
        ([("a", 1)], "an entry of a list"),
        ([["a:1"]], "an entry of a list"),
        ([Endpoint(5)], "an entry of a list"),  # type: ignore[arg-type]
        ([Endpoint("a:1", locality=5)], "locality"),  # type: ignore[arg-type]
        ([Endpoint("a:1", attributes=5)], "attributes"),  # type: ignore[arg-type]
        (None, "NoneType"),
        (5, "int"),
        (b"a:1", "bytes"),
        (bytearray(b"a:1"), "bytearray"),
        ({"a:1"}, "set"),
        ({"a:1": 1}, "dict"),
        (iter(["a:1"]), "list_iterator"),
        (NotASequence(), "NotASequence"),
        (range(3), "an entry of a list"),
        (Custom, "is a class"),
        (Blocking(), "no coroutine method"),
        (Path("/run/s.sock"), "no coroutine method"),
    ],
)
def test_what_cannot_be_a_target_is_refused(given_target: object, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_target(given_target)

    assert str(raised.value).startswith("target ")
    assert reason in str(raised.value)
    assert "a target is a non-empty list of addresses" in str(raised.value)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", None, True])
def test_bad_weight_is_refused(weight: object) -> None:
    with pytest.raises(ConfigError, match=r"target 'a:1': Endpoint\.weight must be a number above 0"):
        parse_target([Endpoint("a:1", weight=weight)])  # type: ignore[arg-type]


_PIECES = st.sampled_from(
    ["dns", "ipv4", "ipv6", "unix", "unix-abstract", "etcd", ":", "//", "/", "[", "]", ",", "%", "%5B", "::1", "a", ".",
     "10.0.0.1", "443", "0", " ", "\n", "\0", "\ud800", "?", "#"]
)  # fmt: skip
_TEXTS = st.one_of(st.text(), st.lists(_PIECES, max_size=12).map("".join))


@given(text=_TEXTS)
def test_any_text_is_a_target_or_a_config_error(text: str) -> None:
    for given_target in (text, [text], [Endpoint(text)], f"dns:///{text}", f"dns://{text}/a:1", f"ipv6:{text}"):
        try:
            parsed = parse_target(given_target)
        except ConfigError:
            continue
        assert parsed.text.isprintable()


@given(text=_TEXTS)
def test_addresses_that_pass_are_fixed_points(text: str) -> None:
    try:
        addresses = _addresses(parse_target([text]))
    except ConfigError:
        return

    assert _addresses(parse_target(addresses)) == addresses


def test_resolver_object_is_taken_as_it_is() -> None:
    resolver = Custom()
    resolver.authority = "svc.prod"

    assert parse_target(resolver) == Target(resolver, "svc.prod", "<Custom>")


def test_dns_resolver_object_names_its_servers() -> None:
    assert parse_target(DnsResolver("svc", 5)).authority == "svc:5"


def test_wrapped_resolve_is_looked_through() -> None:
    assert parse_target(Wrapped()).authority is None


def test_authority_of_a_resolver_is_a_text() -> None:
    resolver = Custom()
    resolver.authority = 5

    with pytest.raises(ConfigError, match="authority is a str or None, not 5"):
        parse_target(resolver)


def test_registered_scheme_gets_the_whole_uri() -> None:
    register_resolver("my-etcd", Custom)

    parsed = parse_target("my-etcd://server:1/prefix?x=1")

    assert isinstance(parsed.resolver, Custom)
    assert parsed.resolver.uri == "my-etcd://server:1/prefix?x=1"
    assert (parsed.authority, parsed.text) == (None, "my-etcd://server:1/prefix?x=1")
    assert isinstance(parse_target("MY-ETCD:///a").resolver, Custom)


def test_registering_again_replaces() -> None:
    register_resolver("etcd", Blocking)  # type: ignore[arg-type]
    register_resolver("etcd", Custom)

    assert isinstance(parse_target("etcd:///a").resolver, Custom)


def test_unknown_scheme_names_the_registered_ones() -> None:
    register_resolver("etcd", Custom)

    with pytest.raises(ConfigError, match="known are dns, etcd, ipv4"):
        parse_target("etdc:///a")


def test_server_called_like_a_registered_scheme_stays_reachable() -> None:
    register_resolver("etcd", Custom)

    assert isinstance(parse_target("etcd:2379").resolver, DnsResolver)


@pytest.mark.parametrize("scheme", ["", "Etcd", "1a", "a b", "a_b", "a:", None, 5, "dns", "ipv4", "ipv6", "unix"])
def test_bad_scheme_is_refused(scheme: object) -> None:
    with pytest.raises(ConfigError, match=r"register_resolver.*scheme"):
        register_resolver(scheme, Custom)  # type: ignore[arg-type]


@pytest.mark.parametrize("factory", [None, "Custom", Custom()])
def test_factory_that_cannot_be_called_is_refused(factory: object) -> None:
    with pytest.raises(ConfigError, match="factory must be callable"):
        register_resolver("etcd", factory)  # type: ignore[arg-type]


def test_factory_refuses_a_uri_by_value_error() -> None:
    def refuse(uri: str) -> Custom:
        raise ValueError("no such cluster")

    register_resolver("etcd", refuse)

    with pytest.raises(ConfigError, match="target 'etcd:///a': no such cluster"):
        parse_target("etcd:///a")


def test_config_error_of_a_factory_is_passed_on() -> None:
    def refuse(uri: str) -> Custom:
        raise ConfigError("etcd: no such cluster")

    register_resolver("etcd", refuse)

    with pytest.raises(ConfigError, match=r"^etcd: no such cluster$"):
        parse_target("etcd:///a")


@pytest.mark.parametrize("factory", [lambda uri: Blocking(), lambda uri: None, lambda uri: Custom])
def test_factory_must_return_a_resolver(factory: Callable[[str], Custom]) -> None:
    register_resolver("etcd", factory)

    with pytest.raises(ConfigError, match="target 'etcd:///a'"):
        parse_target("etcd:///a")


def test_built_in_schemes_cannot_be_changed() -> None:
    assert isinstance(target._BUILT_IN, MappingProxyType)


def long_targets() -> list[Any]:
    many = "x" * 5000
    texts = [many, f"a b{many}", f"dns:///{many}", "h:" + "9" * 5000, f"http://{many}", f"unix:{many}", "\x1b" * 5000]
    return [*texts, *([text, text] for text in texts), many.encode(), [many.encode()], [(many, many)], {"a": many}]


@pytest.mark.parametrize("make", [healthlb.HealthAwareChannel, healthlb.HealthClient])
@pytest.mark.parametrize("target", long_targets(), ids=lambda target: repr(target)[:12])
def test_what_an_error_quotes_is_short(make: Any, target: Any) -> None:
    try:
        make(target).close()
    except healthlb.ConfigError as error:
        assert len(str(error)) <= 450
    else:
        assert make is healthlb.HealthClient  # what an address may be is C-core's to say there


def test_a_name_that_is_none_is_quoted_in_short() -> None:
    with pytest.raises(healthlb.ConfigError) as of_channel:
        healthlb.HealthAwareChannel("a:1", ["x" * 5000])  # type: ignore[arg-type]
    with pytest.raises(healthlb.ConfigError) as of_client, healthlb.HealthClient("a:1") as client:
        client.check("\ud800" + "x" * 5000)

    assert max(len(str(of_channel.value)), len(str(of_client.value))) < 200
