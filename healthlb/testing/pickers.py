"""Helps to test pickers of your own: READY subchannels, calls, and three checks that every picker should pass."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers import ANY_CALL, CallInfo, Picker, PickerBuilder, PickerSource, hook, make_factory

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# Of the normal distribution: what one in 10,000 is above.
_RARE = 3.719


def make_subchannels(
    count: int = 3,
    *,
    weights: Sequence[float] = (),
    in_flight: Sequence[int] = (),
    endpoints: Sequence[Endpoint] = (),
) -> list[Subchannel]:
    """Return READY subchannels `10.0.0.1:50051` and so on, with ids from 1.

    Args:
        count: how many; what stands below says it too.
        weights: of their endpoints, 1.0 by default.
        in_flight: calls under way on each, 0 by default.
        endpoints: their endpoints, where a picker looks at more than weights; `weights` do not count then.
    """
    count = len(endpoints) or len(weights) or len(in_flight) or count
    subs = []
    for number in range(1, count + 1):
        weight = weights[number - 1] if weights else 1.0
        made = Endpoint(f"10.0.{number >> 8}.{number & 255}:50051", weight)
        sub = Subchannel(number, 1, endpoints[number - 1] if endpoints else made)
        sub.load.in_flight = in_flight[number - 1] if in_flight else 0
        subs.append(sub)
    return subs


def open_factory(picker: PickerSource, subs: Sequence[Subchannel] = (), seed: int = 1) -> PickerBuilder:
    """Return a factory as a channel makes it: seeded, and told of all endpoints if it wants to know.

    Args:
        picker: as in `picker=` of a channel.
        subs: those whose endpoints the resolver knows.
        seed: of its random stream.
    """
    factory = make_factory(picker, random.Random(seed))
    tell = hook(factory, "endpoints")
    if tell is not None:
        tell(tuple(sub.endpoint for sub in subs))
    return factory


def count_picks(picker: Picker, count: int, call: CallInfo = ANY_CALL) -> Counter[int]:
    """Return how often each id was picked; None is counted as 0."""
    picks = (picker.pick(call) for _ in range(count))
    return Counter(0 if sub is None else sub.id for sub in picks)


def check_distribution(
    picker: PickerSource,
    shares: Mapping[int, float] | None = None,
    *,
    subs: Sequence[Subchannel] = (),
    picks: int = 10_000,
) -> None:
    """Check by chi-square that picks are spread as they should be; one right picker in 10,000 fails.

    Args:
        picker: as in `picker=` of a channel.
        shares: what each id should get, relative to the others; by default the endpoints' weights.
        subs: the subchannels, three equal ones by default; no call is in flight but those they have.
        picks: how many; the more, the smaller a bias is found.

    Raises:
        AssertionError: they are spread otherwise.
    """
    subs = subs or make_subchannels()
    counts = count_picks(open_factory(picker, subs).build(subs), picks)
    wanted = {sub.id: sub.weight for sub in subs} if shares is None else shares
    expected = {number: picks * share / sum(wanted.values()) for number, share in wanted.items() if share}
    strangers = counts.keys() - expected.keys()
    assert not strangers, f"picked {sorted(strangers)}, which should get nothing: {dict(counts)}"
    distance = sum((counts[number] - mean) ** 2 / mean for number, mean in expected.items())
    assert distance <= _critical(len(expected) - 1), f"picked {dict(counts)}, expected about {expected}"


def check_purity(picker: PickerSource, *, subs: Sequence[Subchannel] = (), picks: int = 200) -> None:
    """Check that a picker only picks: what it returns is what was given or None, and it changes nothing.

    Equal seeds must pick alike, `build` must not keep or change the list it is given, a picker over nothing must return
    None, and what a call has tried must be avoided while there is another.

    Raises:
        AssertionError: it does more, or something else.
    """
    subs = list(subs or make_subchannels(4))
    before = [(sub.id, sub.endpoint, sub.load.in_flight, sub.load.picks) for sub in subs]
    given = list(subs)
    calls = [CallInfo(exclude=frozenset({sub.id})) for sub in subs]
    factory, twin = (open_factory(picker, subs) for _ in range(2))
    built, other = factory.build(given), twin.build(list(subs))
    assert given == subs, "build changed the list"
    given.clear()
    for _ in range(picks):
        sub, same = built.pick(ANY_CALL), other.pick(ANY_CALL)
        assert sub is not None or same is None, "build kept the list that it was given: it has to copy it"
        assert sub in subs, f"picked {sub!r}, which is none of those it was given"
        assert sub is same, "equal seeds pick differently: draw from the stream that `seed` gives, and from no clock"
    for call in calls:
        sub = built.pick(call)
        assert sub in subs, f"picked {sub!r} for {call}"
        assert len(subs) == 1 or sub.id not in call.exclude, f"picked {sub!r} again, which {call} had tried"
    assert built.pick(CallInfo(exclude=frozenset(sub.id for sub in subs))) is not None, "all were tried: pick any"
    assert factory.build([]).pick(ANY_CALL) is None, "there is nothing to pick: return None"
    after = [(sub.id, sub.endpoint, sub.load.in_flight, sub.load.picks) for sub in subs]
    assert after == before, "pick changed a subchannel: the channel counts calls"


def check_survives_rebuild(
    picker: PickerSource, *, subs: Sequence[Subchannel] = (), rebuilds: int = 600, most: float = 1.5
) -> None:
    """Check that no subchannel is favoured where pickers are rebuilt after every few picks, as in a flapping fleet.

    A rotation that starts at the first address in each new picker gives early ones several times their share
    (grpc-java#4462); what must outlive a picker belongs into the factory.

    Args:
        picker: as in `picker=` of a channel.
        subs: five equal ones by default.
        rebuilds: how often.
        most: the largest share over the smallest, by weight.

    Raises:
        AssertionError: one gets more than that.
    """
    subs = list(subs or make_subchannels(5))
    factory, rng = open_factory(picker, subs), random.Random(7)
    counts: Counter[int] = Counter()
    for _ in range(rebuilds):
        away = rng.randrange(len(subs))
        built = factory.build([*subs[:away], *subs[away + 1 :]])
        counts += count_picks(built, rng.randint(1, 8))
    shares = [counts[sub.id] / sub.weight for sub in subs]
    assert min(shares) > 0, f"never picked: {dict(counts)}"
    assert max(shares) <= most * min(shares), f"shares differ too much over rebuilds: {dict(counts)}"


def subchannels(
    min_size: int = 0, max_size: int = 8, *, weights: SearchStrategy[float] | None = None
) -> SearchStrategy[list[Subchannel]]:
    """Return a hypothesis strategy for what `build` is given: READY subchannels with weights and calls under way."""
    from hypothesis import strategies as st

    def made(pairs: list[tuple[float, int]]) -> list[Subchannel]:
        if not pairs:
            return []
        return make_subchannels(weights=[weight for weight, _ in pairs], in_flight=[count for _, count in pairs])

    weighed: Any = st.integers(1, 1_000).map(lambda tenths: tenths / 10) if weights is None else weights
    return st.lists(st.tuples(weighed, st.integers(0, 20)), min_size=min_size, max_size=max_size).map(made)


def calls(most_tried: int = 8) -> SearchStrategy[CallInfo]:
    """Return a hypothesis strategy for what `pick` is given: methods, metadata and what was tried before."""
    from hypothesis import strategies as st

    word = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)
    pair = st.tuples(word.map("x-{}".format), word) | st.tuples(word.map("x-{}-bin".format), st.binary(max_size=8))
    tried = st.sets(st.integers(1, max(1, most_tried)), max_size=most_tried)

    def made(service: str, method: str, pairs: list[tuple[str, str | bytes]], ids: set[int]) -> CallInfo:
        return CallInfo(f"/{service}/{method}", tuple(pairs), len(ids) + 1, frozenset(ids))

    return st.builds(made, word, word, st.lists(pair, max_size=4), tried)


def _critical(degrees: int) -> float:
    """Return what chi-square exceeds in one of 10,000 cases (Wilson and Hilferty)."""
    if degrees < 1:
        return 0.0
    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + _RARE * math.sqrt(part)) ** 3)
