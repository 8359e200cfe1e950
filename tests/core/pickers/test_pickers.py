from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.core import pickers
from healthlb.core.load import Subchannel
from healthlb.core.pickers import (
    ANY_CALL,
    CallInfo,
    PickerFactory,
    make_factory,
    picker_names,
    register_picker,
    service_config_picker,
)
from healthlb.core.pickers.least_request import LeastRequest
from healthlb.core.pickers.pick_first import PickFirst
from healthlb.errors import ConfigError
from tests.core.fleets import fleet, picks

NAMES = (
    "least_request",
    "peak_ewma",
    "pick_first",
    "random",
    "ring_hash",
    "round_robin",
    "weighted_round_robin",
)


def factory(name: str, seed: int = 1) -> PickerFactory:
    return make_factory(name, random.Random(seed))


@pytest.fixture(autouse=True)
def _restored_registry() -> Iterator[None]:
    before = dict(pickers._registry)
    yield
    pickers._registry.clear()
    pickers._registry.update(before)


# --- all of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_ready_is_nothing_to_pick(name: str) -> None:
    assert factory(name).build([]).pick(ANY_CALL) is None
    assert factory(name).build([]).pick(CallInfo(exclude={1})) is None


@given(st.sampled_from(NAMES), st.integers(1, 6), st.sets(st.integers(1, 6)), st.integers(0, 100))
def test_what_was_tried_is_avoided_while_there_is_another(name: str, count: int, tried: set[int], seed: int) -> None:
    picker = factory(name, seed).build(fleet(count))
    untried = set(range(1, count + 1)) - tried

    assert set(picks(picker, 20, CallInfo(exclude=tried))) <= (untried or set(range(1, count + 1)))


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_pick_alike(name: str) -> None:
    first, second = (picks(factory(name, 5).build(fleet(5)), 30) for _ in range(2))

    assert first == second


# --- round robin -----------------------------------------------------------------------------------


def test_round_robin_is_exactly_even() -> None:
    picker = factory("round_robin").build(fleet(4))

    assert Counter(picks(picker, 400)) == dict.fromkeys(range(1, 5), 100)


def test_round_robin_is_exactly_even_over_threads() -> None:
    picker = factory("round_robin").build(fleet(4))
    chosen: list[list[int]] = [[] for _ in range(4)]

    def work(mine: list[int]) -> None:
        mine += picks(picker, 1000)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(sub for mine in chosen for sub in mine) == dict.fromkeys(range(1, 5), 1000)


def test_h44_p14_round_robin_goes_on_where_it_was_after_a_rebuild() -> None:
    robin = factory("round_robin")
    ready = fleet(4)
    together = [picks(robin.build(ready), 1)[0] for _ in range(8)]
    alone = picks(factory("round_robin").build(ready), 8)

    assert together == alone


def test_no_address_is_favoured_by_a_thousand_rebuilds() -> None:
    """P14: index 0 at each picker would give the first address three to four times the load (grpc-java#4462)."""
    robin = factory("round_robin")
    ready = fleet(10)
    rng = random.Random(1)
    counts: Counter[int] = Counter()
    for _ in range(1_000):
        flapping = rng.randrange(10)
        counts.update(picks(robin.build([*ready[:flapping], *ready[flapping + 1 :]]), rng.randint(1, 6)))
    early, late = sum(counts[sub] for sub in range(1, 6)), sum(counts[sub] for sub in range(6, 11))

    assert 0.9 < early / late < 1.1
    assert max(counts.values()) / min(counts.values()) < 1.4


def test_h44_p14_clients_start_at_different_addresses() -> None:
    first = {picks(factory("round_robin", seed).build(fleet(5)), 1)[0] for seed in range(50)}

    assert first == {1, 2, 3, 4, 5}


def test_round_robin_passes_over_what_was_tried_in_order() -> None:
    picker = factory("round_robin").build(fleet(3))
    start = picks(picker, 1)[0]
    following = [start % 3 + 1, (start + 1) % 3 + 1]

    assert picks(picker, 1, CallInfo(exclude={following[0]})) == [following[1]]


# --- random ----------------------------------------------------------------------------------------


def test_random_is_about_even() -> None:
    counts = Counter(picks(factory("random").build(fleet(4)), 4_000))

    assert sorted(counts) == [1, 2, 3, 4]
    assert all(900 < count < 1_100 for count in counts.values())


def test_random_is_about_even_over_what_is_left() -> None:
    counts = Counter(picks(factory("random").build(fleet(4)), 4_000, CallInfo(exclude={2, 9})))

    assert sorted(counts) == [1, 3, 4]
    assert all(1_200 < count < 1_470 for count in counts.values())


# --- pick first ------------------------------------------------------------------------------------


def test_pick_first_sticks_to_its_choice_while_it_is_ready() -> None:
    first = factory("pick_first")
    one, two, three = fleet(3)
    ready = [[two, three], [one, two, three], [three, two], [one, three], [one, two, three], [], [one, three]]

    chosen = [picks(first.build(now), 2) for now in ready]
    assert chosen == [[2, 2], [2, 2], [2, 2], [1, 1], [1, 1], [], [1, 1]]


def test_pick_first_falls_back_in_the_resolvers_order() -> None:
    picker = factory("pick_first").build(fleet(3))

    assert [picks(picker, 1, CallInfo(exclude=tried)) for tried in ({1}, {1, 2}, {1, 2, 3})] == [[2], [3], [1]]


def test_shuffled_channels_begin_at_different_addresses_and_stay_there() -> None:
    """A62."""
    chosen = []
    for seed in range(60):
        first = make_factory(lambda: PickFirst(shuffle_address_list=True), random.Random(seed))
        ready = fleet(4)
        chosen.append(picks(first.build(ready), 3)[0])
        assert {*picks(first.build(ready[::-1]), 3)} == {chosen[-1]}

    assert {*chosen} == {1, 2, 3, 4}


def test_unshuffled_is_the_default() -> None:
    assert picks(make_factory(PickFirst, random.Random(1)).build(fleet(4)), 1) == [1]


# --- the registry ----------------------------------------------------------------------------------


class Last:
    """A user's picker."""

    seeded = False

    def build(self, ready: Sequence[Subchannel]) -> Any:
        return self


class Seeded(Last):
    def seed(self, rng: random.Random) -> None:
        self.seeded = True


def test_the_shipped_names_are_grpcs() -> None:
    assert set(picker_names()) >= set(NAMES)
    assert list(picker_names()) == sorted(picker_names())


def test_a_picker_of_the_users_own() -> None:
    register_picker("last", Last)

    assert isinstance(factory("last"), Last)
    assert isinstance(make_factory(Last, random.Random(1)), Last)
    assert "last" in picker_names()


def test_a_factory_that_wants_a_seed_gets_one() -> None:
    made = make_factory(Seeded, random.Random(1))

    assert isinstance(made, Seeded)
    assert made.seeded


def test_each_channel_has_a_factory_of_its_own() -> None:
    assert factory("round_robin") is not factory("round_robin")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fastest", "picker must be one of .*pick_first.*random.*round_robin.* or a callable, not 'fastest'"),
        (7, "picker must be a name or a callable that returns a PickerFactory, not 7"),
        (Last(), "picker must be a name or a callable that returns a PickerFactory, not <.*Last"),
        (dict, r"picker must return a PickerFactory \(an object with build\), not \{\}"),
    ],
)
def test_a_picker_that_cannot_work_is_named(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_factory(source, random.Random(1))


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("my-policy", Last, "picker name must be letters, digits and underscores, not 'my-policy'"),
        ("", Last, "picker name must be letters, digits and underscores, not ''"),
        (7, Last, "picker name must be letters, digits and underscores, not 7"),
        ("mine", Last(), "picker 'mine' must be registered with a callable, not <.*Last"),
    ],
)
def test_a_registration_that_cannot_work_is_named(name: Any, made: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register_picker(name, made)


def test_a_service_config_names_pickers_in_the_order_of_preference() -> None:
    entries = [{"xds_experimental": {}}, {"pick_first": {}}, {"round_robin": {}}]

    assert service_config_picker(entries) == "pick_first"


class Threshold(Last):
    """A user's picker with arguments."""

    def __init__(self, *, most_in_flight: int = 3) -> None:
        self.most_in_flight = most_in_flight


class Anything(Last):
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


def configured(entry: dict[str, Any]) -> Any:
    return make_factory(service_config_picker([entry]), random.Random(1))


def test_arguments_reach_the_factory_under_pythons_names() -> None:
    register_picker("threshold", Threshold)
    register_picker("anything", Anything)

    assert configured({"threshold": {"mostInFlight": 7}}).most_in_flight == 7
    assert configured({"threshold": {"mostInFlight": "7"}}).most_in_flight == 7
    assert configured({"threshold": {"mostInFlight": None}}).most_in_flight == 3
    assert configured({"threshold": {}}).most_in_flight == 3
    assert configured({"anything": {"minShare": [1], "b": None}}).arguments == {"min_share": [1], "b": None}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"round_robin": {"a": 1}}, r"loadBalancingConfig.round_robin takes no arguments, not \{'a': 1\}"),
        ({"round_robin": [1]}, r"loadBalancingConfig.round_robin must be an object, not \[1\]"),
        ({"pick_first": {"shuffle": True}}, r"pick_first takes shuffleAddressList, not \{'shuffle': True\}"),
        (
            {"pick_first": {"shuffleAddressList": 1}},
            r"loadBalancingConfig.pick_first: PickFirst.shuffle_address_list must be True or False, not 1",
        ),
        (
            {"least_request": {"choiceCount": 1}},
            r"loadBalancingConfig.least_request: LeastRequest.choice_count must be a number at least 2, not 1",
        ),
        ({"least_request": {"choiceCount": "2.0"}}, "LeastRequest.choice_count must be a whole number, not '2.0'"),
        (
            {"ring_hash": {"minRingSize": 0}},
            r"ring_hash: RingHash.min_ring_size must be a number at least 1 and at most 131072, not 0",
        ),
        (
            {"ring_hash": {"maxRingSize": 9_000_000}},
            "RingHash.max_ring_size must be .* at most 8.38861e[+]06, not 9000000",
        ),
        (
            {"ring_hash": {"requestHashHeader": "x-bin"}},
            "request_hash_header must be a header in lower case and not binary",
        ),
        ({"ring_hash": {"requestHashHeader": 7}}, "request_hash_header must be a header in lower case .*, not 7"),
        ({"ring_hash": {"balanceFactor": 1}}, "RingHash.balance_factor must be a number above 1, not 1"),
        ({"peak_ewma": {"decay": 0}}, "PeakEwma.decay must be a number above 0, not 0"),
        (
            {"weighted_round_robin": {"enableOobLoadReport": True}},
            r"weighted_round_robin takes blackoutPeriod, errorUtilizationPenalty, metricNamesForComputingUtilization, "
            r"weightExpirationPeriod, weightUpdatePeriod, not \{'enableOobLoadReport': True\}",
        ),
        (
            {"weighted_round_robin": {"metricNamesForComputingUtilization": "cpu_utilization"}},
            "metric_names_for_computing_utilization must be .* not 'cpu_utilization'",
        ),
        ({"weighted_round_robin": {"metricNamesForComputingUtilization": [7]}}, "must hold names of metrics, not 7"),
        ({"weighted_round_robin": {"blackoutPeriod": 10}}, "blackoutPeriod must be a duration like '1.5s', not 10"),
        (
            {"weighted_round_robin": {"weightExpirationPeriod": "0s"}},
            "weight_expiration_period must be a number above 0",
        ),
        (
            {"weighted_round_robin": {"errorUtilizationPenalty": -1}},
            "error_utilization_penalty must be a number at least 0",
        ),
    ],
)
def test_arguments_that_cannot_work_are_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(entry)


def test_arguments_of_pickers_that_are_not_taken_are_not_looked_at() -> None:
    assert service_config_picker([{"xds": {"ignored": 1}}, {"pick_first": {}}]) == "pick_first"


def test_grpcs_own_arguments_are_taken() -> None:
    everything = {
        "enableOobLoadReport": False,
        "blackoutPeriod": "5s",
        "weightExpirationPeriod": "60s",
        "weightUpdatePeriod": "0.5s",
        "errorUtilizationPenalty": 0.5,
        "metricNamesForComputingUtilization": ["named_metrics.queue"],
    }
    for entry in (
        {"weighted_round_robin": everything},
        {"ring_hash": {"minRingSize": 1024, "maxRingSize": 4096, "requestHashHeader": "x-user"}},
        {"least_request": {"choiceCount": 50}},
        {"pick_first": {"shuffleAddressList": True}},
    ):
        assert picks(configured(entry).build(fleet(1)), 1) == [1]


def test_a_service_config_without_a_known_picker_is_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match=r"loadBalancingConfig or loadBalancingPolicy must name one of .*round_robin.*, not \['xds', 'rls'\]",
    ):
        service_config_picker([{"xds": {}}, {"rls": {}}])


def test_arguments_that_a_policy_does_not_take_are_left_out_and_named_where_that_is_asked_for() -> None:
    ignored = list[str]()
    entries = [{"weighted_round_robin": {"oobReportingPeriod": "1s", "x": 1, "enableOobLoadReport": False}}]

    assert make_factory(service_config_picker(entries, ignored), random.Random(1))
    assert ignored == [
        "loadBalancingConfig.weighted_round_robin.oobReportingPeriod",
        "loadBalancingConfig.weighted_round_robin.x",
    ]


def test_c_cores_own_names_of_policies_are_known() -> None:
    ignored = list[str]()
    outliers = {"interval": "1s", "childPolicy": [{"grpclb": {}}, {"pick_first": {}}]}

    assert service_config_picker([{"ring_hash_experimental": {}}]) == "ring_hash"
    assert service_config_picker([{"outlier_detection_experimental": outliers}], ignored) == "pick_first"
    assert service_config_picker([{"outlier_detection_experimental": {}}], ignored) == "round_robin"
    assert ignored == ["outlier_detection_experimental.interval (pass outliers=)"]


def test_a113_who_has_twice_the_weight_comes_first_twice_as_often() -> None:
    heavy, light = fleet(weights=[2.0, 1.0])
    firsts = [
        picks(make_factory(lambda: PickFirst(shuffle_address_list=True), random.Random(seed)).build([light, heavy]), 1)[
            0
        ]
        for seed in range(3000)
    ]

    assert 1900 < firsts.count(1) < 2100


def test_grpclb_is_its_children_where_nothing_else_is_known() -> None:
    ignored = list[str]()
    grpclb = {"grpclb": {"serviceName": "x", "childPolicy": [{"pick_first": {}}]}}

    assert service_config_picker([{"no_such": {}}, grpclb], ignored) == "pick_first"
    assert ignored == ["grpclb (no balancer is asked, only its childPolicy is taken)"]
    assert service_config_picker([grpclb, {"random": {}}], []) == "random"
    assert service_config_picker([{"grpclb": {}}], []) == "round_robin"


@pytest.mark.parametrize("children", [7, "x", [7], [None]])
def test_the_children_of_an_outlier_detection_are_objects(children: Any) -> None:
    entry = {"outlier_detection_experimental": {"childPolicy": children}}

    with pytest.raises(ConfigError, match=r"outlier_detection_experimental.childPolicy must hold objects"):
        service_config_picker([entry], [])


def test_an_outlier_detection_without_children_is_round_robin() -> None:
    assert service_config_picker([{"outlier_detection_experimental": {"childPolicy": None}}], []) == "round_robin"


@pytest.mark.parametrize("error", [ZeroDivisionError("none"), SystemExit(1), StopIteration()])
def test_a_seed_that_raises_is_named(error: BaseException) -> None:
    class Seedless(Last):
        def seed(self, rng: random.Random) -> None:
            raise error

    with pytest.raises(ConfigError, match=f"seed of the picker factory .*Seedless raised {type(error).__name__}"):
        make_factory(Seedless, random.Random(1))


@pytest.mark.parametrize("name", ["pick_first", "ring_hash"])
def test_healthlbs_own_pickers_are_not_replaced(name: str) -> None:
    with pytest.raises(ConfigError, match=f"picker '{name}' is healthlb's own: register yours under another name"):
        register_picker(name, Last)


def test_a_class_that_is_no_factory_is_not_registered() -> None:
    with pytest.raises(ConfigError, match="picker 'odd' must be registered with a PickerFactory"):
        register_picker("odd", object)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ZeroDivisionError("none"), SystemExit(1)])
def test_a_callable_that_raises_is_named(error: BaseException) -> None:
    def broken() -> Last:
        raise error

    with pytest.raises(ConfigError, match=f"the picker broken raised {type(error).__name__}"):
        make_factory(broken, random.Random(1))


def test_what_a_picker_says_of_its_own_arguments_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^LeastRequest.choice_count must be"):
        make_factory(lambda: LeastRequest(choice_count=1), random.Random(1))
