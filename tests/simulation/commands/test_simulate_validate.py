"""`healthlb simulate validate`: what it prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from healthlb.simulation.commands import validate
from healthlb.simulation.sweep.process_pool import Done
from healthlb.simulation.validation import Claim, examine

GOOD = Claim(law="M/M/1", case="rho 0.5", expected=2.0, measure=lambda seed: 2.0 + 0.001 * (seed % 2))
BOUND = Claim(law="A6", case="retries beyond", expected=0, relation="<=", measure=lambda seed: -0.5)
BAD = Claim(law="Little", case="rho 0.8", expected=1.0, measure=lambda seed: 1.3)


def run(monkeypatch: pytest.MonkeyPatch, claims: list[Claim], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(validate, "claims", lambda quick: claims)
    result = CliRunner().invoke(validate.command, ["--jobs", "1", *arguments])
    return result.exit_code, result.output


def test_every_law_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, [GOOD, BOUND])
    head, first, second, last = output.splitlines()

    assert code == 0
    assert head.split() == ["law", "case", "expected", "got", "±", "verdict"]
    assert first.split() == ["M/M/1", "rho", "0.5", "2.0000", "2.0005", "0.0004", "holds"]
    assert second.split() == ["A6", "retries", "beyond", "≤", "0.0000", "-0.5000", "holds"]
    assert last == "2 of 2 laws hold (0 s)"


def test_a_law_that_does_not_hold_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, [GOOD, BAD])

    assert code == 1
    assert "+inf standard errors off" in output
    assert output.splitlines()[-1] == "1 of 2 laws hold (0 s)"


def test_only_some_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, [GOOD, BAD], "--only", "m/m/1: RHO")[0] == 0
    code, output = run(monkeypatch, [GOOD, BAD], "--only", "nothing")

    assert code == 2
    assert "no law contains 'nothing'" in output


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "claims", lambda quick: [GOOD, BAD])
    result = CliRunner().invoke(validate.command, ["--json", "--jobs", "1"])
    rows = [json.loads(line) for line in result.stdout.splitlines()]

    assert [(row["law"], row["holds"]) for row in rows] == [("M/M/1", True), ("Little", False)]
    assert rows[0]["expected"] == 2.0
    assert result.stderr == "1 of 2 laws hold (0 s)\n"


def test_what_was_checked_is_kept_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seed: int) -> float:
        raise KeyboardInterrupt

    code, output = run(monkeypatch, [GOOD, Claim(law="x", case="y", expected=1, measure=interrupt)])

    assert code == 130
    assert output.splitlines()[1].endswith("holds")
    assert output.splitlines()[-1].startswith("interrupted")


def test_a_terminal_sees_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    view = validate._TerminalView([GOOD])
    view.begin(GOOD)
    view.end(examine(GOOD))
    view.close("1 of 1 laws hold (0 s)")
    head, line, last = (line.rstrip() for line in capsys.readouterr().out.splitlines())

    assert head.split()[0] == "law"
    assert line.split() == ["M/M/1", "rho", "0.5", "2.0000", "2.0005", "0.0004", "holds"]
    assert last == "1 of 1 laws hold (0 s)"


def test_processes_come_to_the_same_in_the_same_order() -> None:
    outputs = [
        CliRunner().invoke(validate.command, ["--quick", "--only", "subsets", "--jobs", jobs]).output.splitlines()
        for jobs in ("1", "2")
    ]

    assert len(outputs[0]) == 6
    assert outputs[0][:-1] == outputs[1][:-1]


class Losing:
    """An executor whose workers die."""

    workers = 2

    def imap_unordered(self, fn: object, chunks: Iterable[Any]) -> Iterator[Done]:
        for chunk in chunks:
            yield Done(chunk, lost="its worker was ended by signal 9")

    def close(self) -> None:
        pass


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "open_executor", lambda url, jobs: Losing())
    code, output = run(monkeypatch, [GOOD])

    assert code == 1
    assert output.splitlines()[-1] == "Error: M/M/1: its worker was ended by signal 9"
