from __future__ import annotations

from dataclasses import replace

import pytest

from healthlb.simulation.sweep.cells import Cell, canonical, engine_version, fingerprint
from tests.simulation.sweep.tiny import cell


def test_equal_cells_have_equal_keys_whatever_the_order_of_a_mapping() -> None:
    assert fingerprint({"a": 1, "b": [0.1]}) == fingerprint({"b": [0.1], "a": 1})
    assert cell().key == cell().key


@pytest.mark.parametrize(
    "change",
    [
        {"scenario": "t"}, {"policy": "tuned"}, {"overrides": (("a", 1),)}, {"overrides": (("a", "1"),)},
        {"measures": (("m", "ok"),)}, {"replication": 1}, {"engine": "f"},
    ],
    ids=str,
)  # fmt: skip
def test_everything_a_result_depends_on_is_in_the_key(change: dict[str, object]) -> None:
    assert replace(cell(), **change).key != cell().key  # type: ignore[arg-type]


def test_a_cell_comes_back_from_its_json() -> None:
    original = cell(3, overrides=(("a.b", 0.1), ("c", "10ms")), measures=(("late", "ok_in(1, 2)"),))

    assert Cell.from_json(original.to_json()) == original


def test_what_is_no_number_has_no_key() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))


def test_the_engine_version_is_a_hash_of_the_code() -> None:
    version = engine_version()

    assert len(version) == 32
    assert int(version, 16) >= 0
