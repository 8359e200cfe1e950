"""Random subsetting (gRFC A68)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import Subset
from healthlb.core.balancer import Balancer
from healthlb.core.exclusion.subset import choose
from healthlb.core.messages import Endpoint, OpenSubchannel, Resolved
from healthlb.errors import ConfigError
from tests.core.configs import config_of

SEEDS = st.integers(-(2**63), 2**63 - 1)


def endpoints(*names: object) -> list[Endpoint]:
    return [Endpoint(f"b{name}:1") for name in names]


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(1, 30), SEEDS)
def test_a68_one_backend_in_or_out_changes_at_most_one_entry(names: set[int], size: int, seed: int) -> None:
    before = set(choose(endpoints(*names), size, seed))
    added = set(choose(endpoints(*names, 1000), size, seed))
    removed = set(choose(endpoints(*sorted(names)[1:]), size, seed))

    assert len(before) == min(size, len(names))
    assert len(added - before) <= 1
    assert len(removed - before) <= 1


@given(st.permutations(range(20)), SEEDS)
def test_the_order_of_the_list_decides_nothing(names: list[int], seed: int) -> None:
    assert set(choose(endpoints(*names), 5, seed)) == set(choose(endpoints(*range(20)), 5, seed))


def test_the_order_of_the_list_is_kept() -> None:
    chosen = choose(endpoints(*range(20)), 5, 1)

    assert list(chosen) == [endpoint for endpoint in endpoints(*range(20)) if endpoint in chosen]
    assert choose(endpoints(*range(3)), 5, 1) == tuple(endpoints(*range(3)))


def test_clients_spread_evenly() -> None:
    clients = Counter(endpoint.address for seed in range(2000) for endpoint in choose(endpoints(*range(20)), 5, seed))

    # Binomial(2,000, 1/4): 500, and a standard deviation of 19.4.
    assert all(abs(count - 500) < 5 * 19.4 for count in clients.values())
    assert len(clients) == 20


def opened(balancer: Balancer, names: list[int], now: int) -> list[str]:
    effects = balancer.handle(Resolved(tuple(endpoints(*names))), now)
    return [effect.endpoint.address for effect in effects if isinstance(effect, OpenSubchannel)]


def test_a_balancer_connects_to_a_subset_only() -> None:
    balancer = Balancer("svc", config_of(subset=Subset(size=3, seed=7)), 1)
    first = opened(balancer, list(range(10)), 0)

    assert len(first) == 3
    assert opened(balancer, list(range(9, -1, -1)), 1) == []
    gone = int(first[0][1:-2])
    assert len(opened(balancer, [name for name in range(10) if name != gone], 2)) == 1
    assert len(balancer.snapshot.views) == 3


def test_without_a_seed_each_channel_chooses_for_itself() -> None:
    chosen = {tuple(opened(Balancer("svc", config_of(subset=Subset(size=3)), seed), list(range(10)), 0))
              for seed in range(20)}  # fmt: skip

    assert len(chosen) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "Subset.size must be a number at least 1, not 0"),
        ({"size": 1.5}, "Subset.size"),
        ({"size": 1, "seed": "x"}, "Subset.seed"),
        ({"size": 1, "seed": 2**63}, "Subset.seed"),
    ],
)
def test_bounds(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Subset(**arguments)  # type: ignore[arg-type]
