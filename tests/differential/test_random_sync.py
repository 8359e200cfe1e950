"""Random programs of the sync face: ours does what a plain channel does."""

from __future__ import annotations

import pytest

from tests.differential.running import SyncRunner
from tests.differential.searching import search


@pytest.mark.timeout(7200)
def test_random_programs(runner: SyncRunner) -> None:
    search(runner, "sync", 300)
