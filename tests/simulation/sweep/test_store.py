from __future__ import annotations

import json
from pathlib import Path

import pytest

from healthlb.simulation.sweep.results import Result, read_line
from healthlb.simulation.sweep.store import Store
from tests.simulation.sweep.tiny import WORLD, cell, run


def filled(directory: Path, *replications: int) -> Path:
    with Store(directory) as store:
        store.add([run(WORLD, cell(number)).sealed() for number in replications])
    return directory


def keys(*replications: int) -> list[str]:
    return [cell(number).key for number in replications]


def the_file(directory: Path) -> Path:
    (path,) = directory.glob("*.jsonl")
    return path


def test_results_are_there_when_a_directory_is_read_again(tmp_path: Path) -> None:
    filled(tmp_path, 0, 1)

    store = Store(tmp_path)
    assert len(store) == 2
    result = store.get(cell(1).key)
    assert result is not None
    assert result.metrics == run(WORLD, cell(1)).metrics


def test_nothing_is_made_before_the_first_result(tmp_path: Path) -> None:
    with Store(tmp_path / "new") as store:
        store.add([])

    assert not (tmp_path / "new").exists()


def test_the_histogram_stays_in_the_file(tmp_path: Path) -> None:
    filled(tmp_path, 1)

    assert json.loads(the_file(tmp_path).read_text())["latency"] == run(WORLD, cell(1)).latency


def test_the_digest_does_not_depend_on_order_nor_on_files(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one", 0, 1, 2), filled(filled(tmp_path / "other", 2), 1, 0)

    assert len(list(other.glob("*.jsonl"))) == 2
    assert Store(one).digest(keys(0, 1, 2)) == Store(other).digest(keys(2, 1, 0))


def test_the_digest_depends_on_every_result(tmp_path: Path) -> None:
    store = Store(filled(tmp_path, 0, 1))
    digests = {store.digest(keys(0)), store.digest(keys(1)), store.digest(keys(0, 1)), store.digest(keys(0, 1, 2))}

    assert len(digests) == 4


def test_files_are_merged_by_concatenation_and_a_cell_counts_once(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "one", 0, 1), filled(tmp_path / "other", 1, 2)
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / "all.jsonl").write_bytes(the_file(one).read_bytes() + the_file(other).read_bytes())

    store = Store(merged)
    assert len(store) == 3
    assert store.digest(keys(0, 1, 2)) == Store(filled(tmp_path / "third", 0, 1, 2)).digest(keys(0, 1, 2))


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = the_file(filled(tmp_path, 0, 1))
    path.write_bytes(path.read_bytes()[:-20])

    store = Store(tmp_path)
    assert (len(store), store.torn, store.complaints) == (1, 1, [])


def test_a_torn_line_does_not_spoil_what_is_joined_to_it(tmp_path: Path) -> None:
    one, other = the_file(filled(tmp_path / "one", 0, 1)), the_file(filled(tmp_path / "other", 2))
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / "all.jsonl").write_bytes(one.read_bytes()[:-20] + other.read_bytes())

    store = Store(merged)
    assert cell(2).key in store
    assert len(store) == 2
    assert [complaint.partition(":")[0] for complaint in store.complaints] == ["all.jsonl, line 3"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: b"\x00\xff" * 40 + b"\n",
        lambda line: b"[1, 2]\n",
        lambda line: b'{"key": 1}\n',
        lambda line: (
            line.replace(b'"edge":0.', b'"edge":9.') if b'"edge":0.' in line else line.replace(b'"edge":1', b'"edge":2')
        ),
        lambda line: line.replace(b'"replication":0', b'"replication":5'),
    ],
    ids=["bytes", "other", "half", "number", "cell"],
)
def test_a_corrupt_line_is_told_and_the_others_count(tmp_path: Path, spoil: object) -> None:
    path = the_file(filled(tmp_path, 0, 1))
    blank, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(blank + spoil(first) + second)  # type: ignore[operator]

    store = Store(tmp_path)
    assert cell(1).key in store
    assert len(store) == 1
    assert len(store.complaints) == 1
    assert store.complaints[0].startswith(f"{path.name}, line 2: ")


def test_results_that_differ_are_told(tmp_path: Path) -> None:
    filled(tmp_path, 0)
    with Store(tmp_path, is_fresh=True) as store:
        store.add([Result(cell=cell(0), metrics={"edge": 7.0}).sealed()])

    assert Store(tmp_path).conflicts == [cell(0).key]


def test_what_the_machine_was_to_blame_for_is_not_known(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add([Result(cell=cell(0), failure="MemoryError: ", is_passing=True).sealed()])

        assert cell(0).key not in store
    assert cell(0).key not in Store(tmp_path)


def test_a_failure_is_a_result(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add([Result(cell=cell(0), failure="ValueError: no").sealed()])

    result = Store(tmp_path).get(cell(0).key)
    assert result is not None
    assert result.failure == "ValueError: no"


def test_the_cost_is_no_part_of_what_must_be_equal() -> None:
    fast, slow = run(WORLD, cell(0)), Result(cell=cell(0), cost=3.5)
    slow = Result(cell=cell(0), metrics=fast.metrics, checks=fast.checks, latency=fast.latency, cost=3.5)

    assert fast.sealed().sum == slow.sealed().sum
    assert json.loads(slow.sealed().text)["cost"] == 3.5
    assert read_line(slow.sealed().text).result.cost == 3.5
