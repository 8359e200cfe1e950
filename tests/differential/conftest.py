"""One server for all programs of a process, and the runners with their connected channels."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.differential.loops import LOOPS
from tests.differential.peer import Server
from tests.differential.running import AioRunner, SyncRunner


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server."""
    made = Server(tmp_path_factory.mktemp("differential"))
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Programs collect garbage again and again; they need not look at what other modules have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def runner(server: Server) -> Iterator[SyncRunner]:
    """Runs programs of the sync face."""
    made = SyncRunner(server)
    yield made
    made.close()


@pytest.fixture(scope="module")
def aio_runners(server: Server) -> Iterator[dict[str, AioRunner]]:
    """Runs programs of the asyncio face, by the kind of loop."""
    made = {name: AioRunner(server, new_loop) for name, new_loop in LOOPS.items()}
    yield made
    for one in made.values():
        one.close()
