"""Every input that once taught the fuzzer something, through its reader again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_the_fuzzer_found_is_read_or_refused(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs

    for path in inputs:
        TARGETS[name](path.read_bytes())


def test_each_folder_has_its_reader() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
