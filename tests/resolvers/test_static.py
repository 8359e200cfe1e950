"""StaticResolver."""

from __future__ import annotations

import pytest

from healthlb.errors import ConfigError
from healthlb.resolvers import Endpoint, StaticResolver
from tests.resolvers.following import follow


async def test_list_is_reported_whole() -> None:
    async with follow(StaticResolver(["b:2", Endpoint("a:1", weight=2.0), "b:2"])) as following:
        assert await following.updated(1) == ("b:2", "a:1")


async def test_new_run_reports_the_list_anew() -> None:
    resolver = StaticResolver(["a:1"])
    for _ in range(2):
        async with follow(resolver) as following:
            assert await following.updated(1) == ("a:1",)


def test_later_changes_of_the_callers_list_do_not_count() -> None:
    addresses = ["a:1"]
    resolver = StaticResolver(addresses)
    addresses.append("b:2")

    assert repr(resolver) == "<StaticResolver ['a:1']>"


def test_empty_list_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no addresses"):
        StaticResolver([])
