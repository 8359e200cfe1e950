"""Plays every spec file of tests/specs on the core: events in, states, picks and effects out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.spec_world import SPECS, SpecError, World, read


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec(path: Path) -> None:
    spec = read(path)
    world = World(spec)

    for number, phase in enumerate(spec["phases"], start=1):
        try:
            world.play(phase)
        except AssertionError as error:
            error.add_note(f"{path.name}, phase {number}: {phase.get('title', '')}")
            raise


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[phases]]\nstates = {}\nsates = {}", "sates"),
        ("helth = 1\n[[phases]]\nstates = {}", "helth"),
        ("[[phases]]\nstates = {}\n[[phases]]\nat = 1", "must expect something"),
    ],
)
def test_a_spec_that_would_check_nothing_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)

    with pytest.raises(SpecError, match=named):
        read(path)


@pytest.mark.parametrize(
    "expectation",
    [
        'states = { a = "READY" }',
        'state = "READY"',
        'reasons = { a = "SERVING" }',
        'serving = { a = "SERVING" }',
        'ready = ["a"]',
        'picks = ["a"]',
        'failure = "all is lost"',
        "effects = []",
        "facts = []",
        "is_rebuilt = true",
        "deadline = 2.0",
        "deadline = [1.1, 2.0]",
        'deadline = "none"',
        'absent = ["OpenSubchannel"]',
    ],
)
def test_every_expectation_can_fail(tmp_path: Path, expectation: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f'[[phases]]\nat = 0.0\nevents = [["Resolved", ["a"]]]\n{expectation}\n')
    spec = read(path)

    with pytest.raises(AssertionError):
        World(spec).play(spec["phases"][0])
