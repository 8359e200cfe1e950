"""Every Python block of README.md and docs/ runs, and prints what the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks

# Prose around a block says what is in it; these words in a remark excuse it from running.
_EXCUSE = "syntax only: "


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.docs.play", str(page.relative_to(ROOT))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    played = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)

    assert played.returncode == 0, played.stderr


def test_every_python_block_runs_but_for_a_reason() -> None:
    excused = [block for page in PAGES for block in blocks(page) if block.remark.startswith("syntax only")]

    assert all(block.remark.removeprefix(_EXCUSE) for block in excused)
    assert len(excused) <= 2


def test_blocks_are_found() -> None:
    languages = [block.language for page in PAGES for block in blocks(page)]

    assert languages.count("python") > 30
    assert "" not in languages, "a fence without a language escapes the tests"
