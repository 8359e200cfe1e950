"""A world's resolver."""

from __future__ import annotations

import random

import pytest

from healthlb.core.messages import Endpoint
from healthlb.errors import ConfigError
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.scenario.scenario import BackendGroup
from healthlb.simulation.world.resolver import Answer, Resolver
from healthlb.simulation.world.server import Server
from tests.simulation.build import TEN


@pytest.fixture
def servers() -> list[Server]:
    group = BackendGroup(service=TEN, count=3, weight=2, zone="a")
    return [
        Server(
            Engine(),
            f"b{number}",
            number,
            group=group,
            errors=random.Random(1),
            ages=random.Random(1),
            on_truth=lambda server: None,
        )
        for number in range(3)
    ]


def endpoint(name: str) -> Endpoint:
    return Endpoint(name, weight=2, locality="a")


def test_who_asks_first_hears_the_present_and_what_follows(servers: list[Server]) -> None:
    engine = Engine()
    resolver = Resolver(engine, servers, ("b0",))
    heard: list[Answer] = []
    resolver.subscribe(heard.append)
    engine.run(0)
    resolver.push(("b2", "b1"))
    resolver.ask(heard.append)
    engine.run(0)

    assert heard == [(endpoint("b0"),), (endpoint("b2"), endpoint("b1"))]
    assert [server.truth for server in servers] == ["absent", "up", "up"]
    resolver.take_back(("b2", "b1"))
    assert heard[-1] == (endpoint("b0"),)


@pytest.mark.parametrize("bad", [(), "NXDOMAIN"])
def test_what_is_of_no_use_is_said_each_time_it_is_asked_for(servers: list[Server], bad: tuple[str, ...] | str) -> None:
    engine = Engine()
    resolver = Resolver(engine, servers, None)
    resolver.push(bad)
    heard: list[Answer] = []
    for _ in range(2):
        resolver.ask(heard.append)
    engine.run(0)

    assert heard == [bad, bad]
    assert [server.truth for server in servers] == ["up", "up", "up"]


def test_a_stranger_is_refused(servers: list[Server]) -> None:
    with pytest.raises(ConfigError, match="not 'b7'"):
        Resolver(Engine(), servers, ("b7",))
