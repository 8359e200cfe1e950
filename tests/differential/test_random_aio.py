"""Random programs of the asyncio face: ours does what a plain channel does, on every kind of loop."""

from __future__ import annotations

import pytest

from tests.differential.loops import LOOPS
from tests.differential.running import AioRunner
from tests.differential.searching import search

OTHERS = [name for name in LOOPS if name != "asyncio"]


@pytest.mark.timeout(7200)
def test_random_programs(aio_runners: dict[str, AioRunner]) -> None:
    search(aio_runners["asyncio"], "aio", 300)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("loop", OTHERS)
def test_random_programs_on_another_loop(aio_runners: dict[str, AioRunner], loop: str) -> None:
    search(aio_runners[loop], "aio", 30, number=OTHERS.index(loop) + 2)
