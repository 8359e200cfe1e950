"""A server of each kind, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.server.served import KINDS, Served, connected


@pytest.fixture(params=KINDS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with closing(Served(request.param)) as served:
        yield served


@pytest.fixture(params=("sync", "aio"))
def served_without_threads(request: pytest.FixtureRequest) -> Iterator[Served]:
    with closing(Served(request.param, workers=4)) as served:
        yield served


@pytest.fixture
def stub(served: Served) -> Iterator[Any]:
    with connected(served) as stub:
        yield stub
