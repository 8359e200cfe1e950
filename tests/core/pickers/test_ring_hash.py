from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers import CallInfo, Picker
from healthlb.core.pickers.ring_hash import Ring, RingHash, hash_of
from tests.core.fleets import chi_square, critical, fleet, picks

KEYS = [f"user-{number}" for number in range(4_000)]


def call(user: str, **fields: object) -> CallInfo:
    return CallInfo(metadata=(("x-other", "1"), ("x-user", user)), **fields)  # type: ignore[arg-type]


def ring_hash(seed: int = 1, **arguments: object) -> RingHash:
    made = RingHash(request_hash_header="x-user", **arguments)  # type: ignore[arg-type]
    made.seed(random.Random(seed))
    return made


def picker_over(
    all_of_them: Sequence[Subchannel], ready: Sequence[Subchannel] | None = None, **arguments: object
) -> Picker:
    made = ring_hash(**arguments)
    made.endpoints([sub.endpoint for sub in all_of_them])
    return made.build(all_of_them if ready is None else ready)


def owners(picker: Picker) -> dict[str, int]:
    return {key: picks(picker, 1, call(key))[0] for key in KEYS}


def moved(before: Picker, after: Picker) -> float:
    """The share of keys that have another owner."""
    old, new = owners(before), owners(after)
    return sum(old[key] != new[key] for key in KEYS) / len(KEYS)


def test_a_header_names_its_backend_in_every_client() -> None:
    first, second = (owners(picker_over(fleet(7), seed=seed)) for seed in (1, 2))

    assert first == second
    assert set(first.values()) == set(range(1, 8))
    assert len({*picks(picker_over(fleet(7)), 20, call("ada"))}) == 1


def test_the_order_of_the_resolver_does_not_matter() -> None:
    ready = fleet(9)

    assert moved(picker_over(ready), picker_over(ready[::-1])) == 0.0


def test_shares_are_about_the_weights() -> None:
    counts = Counter(owners(picker_over(fleet(weights=[1.0, 2.0, 1.0, 4.0]))).values())

    assert [counts[sub] / len(KEYS) for sub in (1, 2, 3, 4)] == pytest.approx([0.125, 0.25, 0.125, 0.5], rel=0.25)


def arcs(ring: Ring) -> dict[int, float]:
    """What part of all hashes each address has, by its number from 1."""
    shares: dict[int, float] = dict.fromkeys(range(1, len(ring.index) + 1), 0.0)
    before = ring.hashes[-1] - 2**64
    for place, owner in zip(ring.hashes, ring.owners, strict=True):
        shares[owner + 1] += (place - before) / 2**64
        before = place
    return shares


WEIGHTS = [[1.0] * 10, [1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 8.0], [1.0] * 300]


@pytest.mark.parametrize("weights", WEIGHTS, ids=len)
def test_keys_and_random_places_are_spread_as_the_ring_is(weights: list[float]) -> None:
    """By chi-square: hashing adds no bias of its own, whether it looks at a header or draws."""
    ready = fleet(weights=weights)
    made = ring_hash()
    made.endpoints([sub.endpoint for sub in ready])
    shares = arcs(made._ring)
    picker = made.build(ready)
    drawn = Counter(picks(picker, 20_000))
    hashed = Counter(picks(picker, 1, call(f"user-{number}"))[0] for number in range(20_000))

    assert sum(shares.values()) == pytest.approx(1.0)
    for counts in (drawn, hashed):
        assert chi_square(counts, shares) < critical(len(weights) - 1)


@pytest.mark.parametrize("weights", WEIGHTS[:3], ids=len)
def test_rings_follow_the_weights_on_average(weights: list[float]) -> None:
    """One ring is uneven by chance, about 9 % for the mean weight; many are not."""
    parts, rings = Counter[int](), 60
    for number in range(rings):
        endpoints = [Endpoint(f"10.{number}.0.{n}:1", weight) for n, weight in enumerate(weights, 1)]
        for owner, share in arcs(Ring(endpoints, 1, 131_072)).items():
            parts[owner] += share  # type: ignore[assignment]

    for owner, weight in enumerate(weights, 1):
        assert parts[owner] / rings == pytest.approx(weight / sum(weights), rel=0.06)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 9, 10, 17, 33, 100])
def test_whoever_leaves_takes_no_more_than_its_own_keys_along(size: int) -> None:
    """At most 1.5/N of the keys move, whether it became unhealthy or was removed."""
    everybody = fleet(size)
    whole = picker_over(everybody)
    for gone in (0, size // 2, size - 1):
        rest = [*everybody[:gone], *everybody[gone + 1 :]]

        assert moved(whole, picker_over(everybody, rest)) <= 1.5 / size
        assert moved(whole, picker_over(rest)) <= 1.5 / size


@given(st.integers(2, 12), st.data())
@settings(deadline=None, max_examples=25)
def test_p13_only_keys_of_those_that_went_move(size: int, data: st.DataObject) -> None:
    """P13: the rest of the ring stays where it is."""
    everybody = fleet(size)
    gone = data.draw(st.sets(st.integers(1, size), max_size=size - 1))
    ready = [sub for sub in everybody if sub.id not in gone]
    whole, left = picker_over(everybody), picker_over(everybody, ready)
    for key in KEYS[:300]:
        before, after = picks(whole, 1, call(key)), picks(left, 1, call(key))
        assert before == after if before[0] not in gone else after[0] not in gone


def test_p13_a_change_of_health_keeps_the_ring() -> None:
    """P13."""
    made, everybody = ring_hash(), fleet(20)
    made.endpoints([sub.endpoint for sub in everybody])
    ring = made._ring
    before = owners(made.build(everybody))
    made.build(everybody[5:])

    assert made._ring is ring
    assert owners(made.build(everybody)) == before


def test_few_ready_of_many_are_found_where_the_ring_has_them() -> None:
    everybody = fleet(40)
    ready = everybody[:3]
    few = picker_over(everybody, ready)
    # One after the other, as the whole ring would.
    whole = picker_over(everybody)
    gone = frozenset(range(4, 41))

    assert [picks(few, 1, call(key)) for key in KEYS[:200]] == [
        picks(whole, 1, call(key, exclude=gone)) for key in KEYS[:200]
    ]


def test_what_was_tried_gives_way_to_the_next_on_the_ring() -> None:
    everybody = fleet(5)
    picker = picker_over(everybody)
    first = picks(picker, 1, call("ada"))[0]
    second = picks(picker, 1, call("ada", exclude={first}))[0]
    without = picker_over(everybody, [sub for sub in everybody if sub.id != first])

    assert second != first
    assert picks(without, 1, call("ada")) == [second]
    assert picks(picker, 1, call("ada", exclude={1, 2, 3, 4, 5})) == [first]


def test_without_the_header_the_place_is_random() -> None:
    """A76."""
    counts = Counter(picks(picker_over(fleet(4)), 4_000))

    assert set(counts) == {1, 2, 3, 4}
    assert min(counts.values()) > 600
    assert RingHash().needs_call is False


def test_values_are_text_or_bytes_and_several_count_as_one() -> None:
    picker = picker_over(fleet(50))

    def owner(*values: str | bytes) -> list[int]:
        return picks(picker, 1, CallInfo(metadata=tuple(("x-user", value) for value in values)))

    assert owner("ada") == owner(b"ada")
    assert owner("ada", "bob") == owner("ada,bob")


def test_a_ring_has_as_many_places_as_it_is_told() -> None:
    def places(count: int, smallest: int = 1, largest: int = 131_072) -> int:
        return len(Ring([sub.endpoint for sub in fleet(count)], smallest, largest).hashes)

    assert places(10) == 1_280
    assert places(3, smallest=1_024) == 1_536
    assert places(100, largest=4_096) == 3_200
    assert places(2_000, largest=1_000) == 2_000
    assert places(0) == 0


def test_a_mean_that_moves_a_little_moves_no_places() -> None:
    weights = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 1.0, 0.8]
    everybody = fleet(weights=weights)

    assert moved(picker_over(everybody), picker_over(everybody[:-1])) < 1.5 / 8


def test_hashes_are_spread_evenly() -> None:
    counts = Counter(hash_of(key.encode()) * 16 >> 64 for key in KEYS)

    assert len(counts) == 16
    assert 180 < min(counts.values()) <= max(counts.values()) < 330


def test_a_new_weight_is_a_new_ring() -> None:
    made, ready = ring_hash(), fleet(4)
    made.endpoints([sub.endpoint for sub in ready])
    before = Counter(owners(made.build(ready)).values())
    heavy = fleet(weights=[4.0, 1.0, 1.0, 1.0])
    made.endpoints([sub.endpoint for sub in heavy])
    after = Counter(owners(made.build(heavy)).values())

    assert after[1] > 1.5 * before[1]


# --- bounded load ----------------------------------------------------------------------------------


def test_a_hot_key_spills_over_to_the_next_on_the_ring() -> None:
    picker = picker_over(fleet(4), balance_factor=1.25)
    chosen = []
    for _ in range(40):
        sub = picker.pick(call("hot"))
        assert sub is not None
        sub.load.start()
        chosen.append(sub.id)
    counts = Counter(chosen)

    assert chosen[0] == picks(picker_over(fleet(4)), 1, call("hot"))[0]
    assert max(counts.values()) <= 13
    assert set(counts) == {1, 2, 3, 4}


def test_within_the_bound_a_key_stays_where_it_is() -> None:
    everybody = fleet(4)
    bounded = picker_over(everybody, balance_factor=2.0)
    for sub in everybody:
        sub.load.in_flight = 3

    assert moved(picker_over(everybody), bounded) == 0.0


def test_many_are_measured_by_a_sample() -> None:
    everybody = fleet(500)
    for sub in everybody:
        sub.load.in_flight = 10
    picker = picker_over(everybody, balance_factor=1.5)
    home = picks(picker, 1, call("ada"))[0]
    everybody[home - 1].load.in_flight = 40

    assert picks(picker, 1, call("ada")) != [home]
