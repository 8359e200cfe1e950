from __future__ import annotations

from typing import Any

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.scenario_files.scenario_file import parse_scenario
from healthlb.simulation.sweep.overrides import overridden

WORLD: dict[str, Any] = {
    "seed": 1,
    "backend": [{"name": "b", "count": 3}],
    "client": [{"name": "web", "load": {"rho": 0.5}}, {"name": "cron", "load": {"rho": 0.1}}],
    "policy": {"plain": {"picker": "rr"}},
}

WHOLE: dict[str, Any] = {"backend": [{"service": "1ms"}], "client": [{"load": {"rho": 0.5}}]}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("seed", lambda world: world["seed"]),
        ("backend.count", lambda world: world["backend"][0]["count"]),
        ("backend.b.count", lambda world: world["backend"][0]["count"]),
        ("backend.0.slots", lambda world: world["backend"][0]["slots"]),
        ("client.cron.load.rho", lambda world: world["client"][1]["load"]["rho"]),
        ("client.0.load.rho", lambda world: world["client"][0]["load"]["rho"]),
        ("policy.plain.retries", lambda world: world["policy"]["plain"]["retries"]),
    ],
)
def test_a_path_leads_to_one_value(path: str, where: Any) -> None:
    assert where(overridden(WORLD, [(path, 9)])) == 9


@pytest.mark.parametrize("path", ["backend.b.slots", "client.c.load.rho", "backend.slots", "client.load.rho"])
def test_a_group_without_a_name_has_its_default(path: str) -> None:
    made = overridden(WHOLE, [(path, 9)])

    assert (made["backend"][0].get("slots") == 9) != (made["client"][0]["load"]["rho"] == 9)
    assert [group.name for group in parse_scenario(overridden(WHOLE, [])).backends] == ["b"]
    assert [group.name for group in parse_scenario(overridden(WHOLE, [])).clients] == ["c"]


def test_of_several_groups_only_that_without_a_name_has_the_default() -> None:
    world = {"backend": [{"service": "1ms"}, {"name": "x", "service": "1ms"}]}

    assert [one.get("slots") for one in overridden(world, [("backend.b.slots", 9)])["backend"]] == [9, None]


def test_a_star_is_all_items() -> None:
    clients = overridden(WORLD, [("client.*.load.rho", 0.7)])["client"]

    assert [client["load"]["rho"] for client in clients] == [0.7, 0.7]


def test_the_original_stays() -> None:
    overridden(WORLD, [("client.*.load.rho", 0.7)])

    assert WORLD["client"][0]["load"]["rho"] == 0.5


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("clients.load.rho", "there is no 'clients', must be one of backend, client, policy, seed"),
        ("client.load.rho", "none of 2 items has the name 'load'; a number or \\* will do"),
        ("client.2.load.rho", "there is no item 2, must be less than 2"),
        ("client.0", "it ends at an item of a list"),
        ("client", "'client' is a table or a list, must be a single value"),
        ("seed.x", "there is no 'x' in the value 1"),
        ("policy.tuned.picker", "there is no 'tuned', must be one of plain"),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error(path: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        overridden(WORLD, [(path, 9)])
