"""What a driver does with effects and snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    ConnectivityState,
    Endpoint,
)
from healthlb.core.pickers import CallInfo, Picker
from healthlb.core.publication import ProbingPicker, Publisher
from healthlb.core.snapshot import Snapshot, SubchannelView

READY = ConnectivityState.READY
ONE, TWO = (Subchannel(number, 1, Endpoint(f"10.0.0.{number}:1")) for number in (1, 2))


class Nobody:
    """Picks nothing."""

    def pick(self, call: CallInfo) -> None:
        """Return None."""


class Factory:
    """Counts its builds, and fails when it is told to."""

    def __init__(self) -> None:
        self.built: list[tuple[Subchannel, ...]] = []
        self.is_broken = False

    def build(self, ready: Sequence[Subchannel]) -> Picker:
        if self.is_broken:
            raise RuntimeError("no")
        self.built.append(tuple(ready))
        return Nobody()


class Told(Factory):
    """Wants to know all endpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Endpoint, ...]] = []

    def endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.heard.append(endpoints)


def view(sub: Subchannel) -> SubchannelView:
    return SubchannelView(sub.id, sub.endpoint, READY, None, "", 0, (), (0, 0, 0))


def test_a_picker_is_built_only_for_other_subchannels() -> None:
    factory = Factory()
    publisher = Publisher(factory, Snapshot(0, READY))
    ready = (ONE,)

    assert publisher.publish(Snapshot(1, READY, ready))
    assert not publisher.publish(Snapshot(1, READY, ready))
    picker = publisher.published.picker
    assert publisher.publish(Snapshot(2, READY, ready, error="x"))
    assert publisher.published.picker is picker
    assert (factory.built, publisher.builds) == ([(ONE,)], 1)


def test_probes_go_past_the_picker_without_a_new_one() -> None:
    factory = Factory()
    publisher = Publisher(factory, Snapshot(0, READY))
    ready = (ONE,)
    publisher.publish(Snapshot(1, READY, ready))
    publisher.publish(Snapshot(2, READY, ready, probes=(TWO,)))

    assert isinstance(publisher.published.picker, ProbingPicker)
    assert publisher.builds == 1


def test_the_last_good_picker_stays_where_the_factory_fails() -> None:
    factory = Factory()
    publisher = Publisher(factory, Snapshot(0, READY))
    publisher.publish(Snapshot(1, READY, (ONE,)))
    picker = publisher.published.picker
    factory.is_broken = True

    assert publisher.publish(Snapshot(2, READY, (TWO,)))
    assert publisher.published.picker is not picker
    assert str(publisher.error) == "no"
    factory.is_broken = False
    publisher.publish(Snapshot(3, READY, (ONE, TWO)))
    assert publisher.error is None
    assert publisher.published.picker is not picker


def test_one_that_follows_another_goes_on_with_its_picker() -> None:
    factory = Factory()
    before = Publisher(factory, Snapshot(0, READY))
    before.publish(Snapshot(1, READY, (ONE,)))
    factory.is_broken = True
    publisher = Publisher(factory, Snapshot(0, READY))
    publisher.adopt(before)
    publisher.publish(Snapshot(1, READY, (TWO,)))

    assert str(publisher.error) == "no"
    assert publisher.published.picker.pick(CallInfo("/s/m", {})) is TWO
    factory.is_broken = False
    assert publisher.retry()
    assert publisher.published.picker.pick(CallInfo("/s/m", {})) is None


def test_a_factory_that_asks_hears_of_all_endpoints_when_they_change() -> None:
    factory = Told()
    publisher = Publisher(factory, Snapshot(0, READY))
    ready = (ONE,)
    publisher.publish(Snapshot(1, READY, ready, views=(view(ONE),)))
    publisher.publish(Snapshot(2, READY, ready, views=(view(ONE), view(TWO))))
    publisher.publish(Snapshot(3, READY, (ONE, TWO), views=(view(ONE), view(TWO))))

    assert factory.heard == [(ONE.endpoint,), (ONE.endpoint, TWO.endpoint)]
    assert factory.built == [(ONE,), (ONE,), (ONE, TWO)]
