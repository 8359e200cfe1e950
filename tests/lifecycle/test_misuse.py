"""What cannot work is refused at construction, by name, value and bound; the same in both faces."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio


def name(value: object) -> str:
    """Return what to call a case, the same in each process."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))[:60]


FACES = (healthlb.HealthAwareChannel, healthlb.aio.HealthAwareChannel)
TARGET = ["127.0.0.1:1"]


@pytest.fixture(params=FACES, ids=["sync", "aio"])
def channel(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return the class of one face."""
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ([], "empty"),
        ("", "''"),
        ("   ", "'   '"),
        (["127.0.0.1"], "127.0.0.1"),
        (["127.0.0.1:port"], "127.0.0.1:port"),
        (["127.0.0.1:70000"], "70000"),
        (["127.0.0.1:-1"], "127.0.0.1:-1"),
        ([":50051"], ":50051"),
        (["[::1:50051"], "[::1:50051"),
        (["a:1", None], "None"),
        (["a:1", 7], "7"),
        ("ipv4:1.2.3.4", "1.2.3.4"),
        ("ipv4:example.org:1", "example.org"),
        ("ipv6:1.2.3.4:5", "1.2.3.4"),
        ("dns:///", "dns:///"),
        ("dns:///a:1,b:2", "list"),
        ("etcd://host/service", "etcd"),
        ("unix:", "unix:"),
        (None, "None"),
        (7, "7"),
        (b"127.0.0.1:1", "b'127.0.0.1:1'"),
        ({"a:1"}, "set"),
        (object, "type"),
    ],
)
def test_target_that_cannot_work(channel: Callable[..., Any], target: object, named: str) -> None:
    with pytest.raises(healthlb.ConfigError) as caught:
        channel(target)

    assert "target" in str(caught.value)
    assert named in str(caught.value)


SLOW = healthlb.SlowStart(window=10.0)


class NotAFactory:
    """Has no `build`."""


class OwnPicker:
    """Says nothing of weights."""

    def build(self, ready: Any) -> Any:
        """Return nothing of use."""


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"service": 7}, ["service", "7"]),
        ({"service": b"svc"}, ["service", "b'svc'"]),
        ({"service": "\ud800"}, ["service", "\\ud800"]),
        ({"credentials": "secret"}, ["credentials", "'secret'"]),
        ({"credentials": grpc.access_token_call_credentials("x")}, ["credentials", "CallCredentials", "composite"]),
        ({"options": "abc"}, ["options", "'abc'"]),
        ({"options": 7}, ["options", "7"]),
        ({"options": [("a",)]}, ["options", "('a',)"]),
        ({"options": [(1, 2)]}, ["options", "1"]),
        ({"options": [("grpc.x", object())]}, ["options", "grpc.x", "object"]),
        ({"options": [("grpc.x", 1.5)]}, ["options", "grpc.x", "1.5"]),
        ({"options": [("x", 1j)]}, ["options", "x", "1j"]),
        ({"options": [("grpc.x", 2**40)]}, ["options", "grpc.x", str(2**40)]),
        ({"options": [("grpc.service_config", "{}")]}, ["options", "grpc.service_config", "service_config="]),
        ({"compression": "gzip"}, ["compression", "'gzip'"]),
        ({"compression": 99}, ["compression", "99"]),
        ({"picker": "best"}, ["picker", "'best'", "round_robin"]),
        ({"picker": 7}, ["picker", "7"]),
        ({"picker": NotAFactory}, ["picker", "NotAFactory"]),
        ({"health": None}, ["health", "None"]),
        ({"health": {"rise": 1}}, ["health", "{'rise': 1}"]),
        ({"panic_threshold": 1.5}, ["panic_threshold", "at least 0 and at most 1", "1.5"]),
        ({"panic_threshold": -0.1}, ["panic_threshold", "-0.1"]),
        ({"panic_threshold": math.nan}, ["panic_threshold", "nan"]),
        ({"panic_threshold": None}, ["panic_threshold", "None"]),
        ({"overload": 100}, ["overload", "100"]),
        ({"overload": {"max_wait": 3.0}}, ["overload", "{'max_wait': 3.0}"]),
        ({"slow_start": 10.0}, ["slow_start", "10.0"]),
        ({"slow_start": SLOW}, ["slow_start", "weighted_round_robin", "RoundRobin"]),
        ({"slow_start": SLOW, "picker": "ring_hash"}, ["slow_start", "least_request", "RingHash"]),
        ({"slow_start": SLOW, "picker": "random"}, ["slow_start", "RandomPick"]),
        ({"slow_start": SLOW, "picker": "pick_first"}, ["slow_start", "PickFirst"]),
        ({"slow_start": SLOW, "picker": "peak_ewma"}, ["slow_start", "PeakEwma"]),
        ({"service_config": "{"}, ["service_config"]),
        ({"options": "grpc.x"}, ["options must be pairs", "a single string is no collection"]),
        ({"interceptors": "trace"}, ["interceptors must be grpc", "a single string is no collection"]),
        ({"listeners": "print"}, ["listeners must be callables", "a single string is no collection"]),
        ({"service_config": 7}, ["service_config", "7"]),
        ({"service_config": {"loadBalancingConfig": {}}}, ["loadBalancingConfig", "list"]),
        ({"service_config": {"loadBalancingConfig": [{"best": {}}]}}, ["loadBalancingConfig", "best"]),
        ({"service_config": {"healthCheckConfig": {"serviceName": 7}}}, ["serviceName", "7"]),
        ({"listeners": 7}, ["listeners", "7"]),
        ({"listeners": [7]}, ["listeners", "7"]),
        ({"listeners": print}, ["listeners", "print"]),
    ],
    ids=name,
)
def test_option_that_cannot_work(channel: Callable[..., Any], options: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(healthlb.ConfigError) as caught:
        channel(TARGET, **options)

    assert [name for name in named if name not in str(caught.value)] == []


@pytest.mark.parametrize("picker", ["weighted_round_robin", "least_request", OwnPicker])
def test_slow_start_with_a_picker_that_may_read_weights(channel: Callable[..., Any], picker: Any) -> None:
    assert channel(TARGET, picker=picker, slow_start=SLOW).subchannels() == ()


@pytest.mark.parametrize("interceptors", [[7], ["x"], 7, [object()]], ids=name)
def test_interceptors_that_cannot_work(interceptors: object) -> None:
    with pytest.raises(healthlb.ConfigError, match="nterceptor"):
        healthlb.aio.HealthAwareChannel(TARGET, interceptors=interceptors)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, "1", True, math.nan, math.inf, -math.inf, 10**400, [], -1.0], ids=name)
@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (healthlb.Backoff, "initial"),
        (healthlb.Backoff, "multiplier"),
        (healthlb.Backoff, "jitter"),
        (healthlb.Backoff, "maximum"),
        (healthlb.Heartbeat, "interval"),
        (healthlb.Heartbeat, "timeout"),
        (healthlb.HealthCheck, "first_response_timeout"),
        (healthlb.HealthCheck, "min_restart_interval"),
    ],
)
def test_number_that_cannot_work(kind: Callable[..., Any], option: str, value: object) -> None:
    with pytest.raises(healthlb.ConfigError) as caught:
        kind(**{option: value})

    assert f"{kind.__name__}.{option}" in str(caught.value)  # type: ignore[attr-defined]
    assert repr(value) in str(caught.value)
    assert "a number" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (healthlb.Backoff, {"initial": 0}, "above 0"),
        (healthlb.Backoff, {"multiplier": 0.9}, "at least 1"),
        (healthlb.Backoff, {"jitter": 1.1}, "at most 1"),
        (healthlb.Backoff, {"initial": 5, "maximum": 4}, "at least 5"),
        (healthlb.Heartbeat, {"interval": 0}, "above 0"),
        (healthlb.HealthCheck, {"backoff": 1.0}, "HealthCheck.backoff"),
        (healthlb.HealthCheck, {"reconnect": None}, "HealthCheck.reconnect"),
        (healthlb.HealthCheck, {"heartbeat": 10}, "HealthCheck.heartbeat"),
        (healthlb.HealthCheck, {"on_unimplemented": "ignore"}, "HealthCheck.on_unimplemented"),
        (healthlb.HealthCheck, {"metadata": 7}, "HealthCheck.metadata"),
        (healthlb.HealthCheck, {"metadata": [("key", 7)]}, "HealthCheck.metadata"),
        (healthlb.HealthCheck, {"metadata": [("Key", "value")]}, "HealthCheck.metadata"),
        (healthlb.HealthCheck, {"metadata": [("a key", "value")]}, "HealthCheck.metadata"),
        (healthlb.HealthCheck, {"metadata": [("key", "v\nw")]}, "HealthCheck.metadata"),
        (healthlb.HealthCheck, {"metadata": [("key", b"\xff")]}, "HealthCheck.metadata"),
    ],
    ids=name,
)
def test_bound_is_named(kind: Callable[..., Any], options: dict[str, Any], named: str) -> None:
    with pytest.raises(healthlb.ConfigError, match=named):
        kind(**options)


@pytest.mark.parametrize(("name", "factory"), [("", NotAFactory), ("a b", NotAFactory), (7, NotAFactory), ("ok", 7)])
def test_picker_that_cannot_be_registered(name: Any, factory: Any) -> None:
    with pytest.raises(healthlb.ConfigError):
        healthlb.register_picker(name, factory)


@pytest.mark.parametrize("timeout", ["1", -1, math.nan, True], ids=name)
def test_timeout_of_a_wait(timeout: Any) -> None:
    with healthlb.HealthAwareChannel(TARGET) as channel, pytest.raises(healthlb.ConfigError, match="timeout"):
        channel.wait_until_ready(timeout)


@pytest.mark.parametrize("min_ready", [0, -1, "1", 1.5, True, None], ids=name)
async def test_number_of_a_wait(min_ready: Any) -> None:
    with healthlb.HealthAwareChannel(TARGET) as channel, pytest.raises(healthlb.ConfigError, match="min_ready"):
        channel.wait_until_ready(1.0, min_ready)
    async with healthlb.aio.HealthAwareChannel(TARGET) as aio_channel:
        with pytest.raises(healthlb.ConfigError, match="min_ready"):
            await aio_channel.wait_until_ready(1.0, min_ready)


async def later(told: object) -> None:
    """Nobody would await it."""


class Later:
    """Is called as a coroutine function."""

    async def __call__(self, told: object) -> None:
        """Nobody would await it."""

    async def each(self, told: object) -> AsyncIterator[None]:
        """Nobody would take anything of it."""
        yield None


NEVER_RUN = [later, functools.partial(later), Later(), Later().each]


@pytest.mark.parametrize("code", NEVER_RUN, ids=name)
async def test_coroutine_function_where_nobody_awaits(channel: Callable[..., Any], code: Any) -> None:
    refused = pytest.raises(healthlb.ConfigError, match=r"must be no coroutine function, as .* it would never be run")
    with refused:
        channel(TARGET, listeners=[code])
    with refused:
        channel(TARGET).add_listener(code)
    with refused, healthlb.HealthAwareChannel(TARGET) as subscribed:
        subscribed.subscribe(code)
    with refused, healthlb.HealthClient(TARGET[0]) as client:
        client.watch("svc", callback=code)
    with refused, grpc.insecure_channel(TARGET[0]) as plain:
        healthlb.follow_state(plain, code)
    async with grpc.aio.insecure_channel(TARGET[0]) as plain_aio:
        with refused:
            healthlb.aio.follow_state(plain_aio, code)
    resolver = Custom()
    resolver.refresh = code  # type: ignore[attr-defined]
    with refused:
        channel(resolver)


def test_subscriber_that_cannot_be_called() -> None:
    with (
        healthlb.HealthAwareChannel(TARGET) as channel,
        pytest.raises(healthlb.ConfigError, match="callback must be callable, not 7"),
    ):
        channel.subscribe(7)  # type: ignore[arg-type]


class Custom:
    """A resolver that says more of itself."""

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Say nothing."""


@pytest.mark.parametrize("value", [-1, "x", math.nan, math.inf, True], ids=name)
@pytest.mark.parametrize("attribute", ["keep", "interval"])
def test_seconds_of_a_resolver(channel: Callable[..., Any], attribute: str, value: object) -> None:
    resolver = Custom()
    setattr(resolver, attribute, value)

    with pytest.raises(healthlb.ConfigError, match=rf"Custom\.{attribute} must be a number at least 0"):
        channel(resolver)


def test_listener_that_cannot_be_called(channel: Callable[..., Any]) -> None:
    with pytest.raises(healthlb.ConfigError, match="7"):
        channel(TARGET).add_listener(7)


@pytest.mark.parametrize(
    "pair", [("x", 0.5), (b"x", b"y"), ("x", "y"), ("grpc.x", True), ("grpc.x", -(2**31))], ids=name
)
def test_option_that_grpcio_takes(channel: Callable[..., Any], pair: tuple[Any, Any]) -> None:
    channel(TARGET, options=[pair])


def test_nothing_is_left_of_a_refused_channel(channel: Callable[..., Any]) -> None:
    """Every check comes before anything is started."""
    with pytest.raises(TypeError):
        channel(TARGET, nonsense=1)
    with pytest.raises(TypeError):
        channel()
