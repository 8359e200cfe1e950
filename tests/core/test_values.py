"""Values of the core: compared by their fields, small, and as dataclasses for who takes them apart."""

from __future__ import annotations

from healthlb.core.messages import DataReady


def test_values_are_compared_and_hashed_by_their_fields() -> None:
    assert DataReady(1, 2) == DataReady(1, generation=2) != DataReady(1, 3)
    assert len({DataReady(1, 2), DataReady(1, 2)}) == 1


def test_values_have_no_room_for_more() -> None:
    assert not hasattr(DataReady(1, 2), "__dict__")


def test_values_are_told_by_their_fields() -> None:
    match DataReady(1, 2):
        case DataReady(sub, generation):
            assert (sub, generation) == (1, 2)
    assert repr(DataReady(1, 2)) == "DataReady(sub=1, generation=2)"
