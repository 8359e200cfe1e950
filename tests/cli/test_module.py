"""`python -m healthlb` is the `healthlb` command."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["probe", "-version"], ["probe"], ["simulate", "--help"]])
def test_it_is_the_same_command(arguments: list[str]) -> None:
    module, reference = (
        subprocess.run(
            [sys.executable, "-W", "error", "-m", name, *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )
        for name in ("healthlb", "healthlb.cli")
    )  # fmt: skip

    assert (module.returncode, module.stdout, module.stderr) == (
        reference.returncode, reference.stdout, reference.stderr
    )  # fmt: skip
    assert module.stdout + module.stderr
