"""Two servers for the whole directory: its tests break clients, not servers."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import pytest

from tests.backends import Backend, start_backends
from tests.lifecycle.support import Nursery, control_threads, eventually


@pytest.fixture(scope="session")
def backends() -> Iterator[list[Backend]]:
    """Start two that serve `svc`."""
    started = start_backends(2, services=("svc",))
    yield started
    for backend in started:
        backend.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Start what runs scripts in processes of their own."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def targets(backends: list[Backend]) -> list[str]:
    """Return their addresses."""
    return [backend.address for backend in backends]


@pytest.fixture
def silent() -> Iterator[str]:
    """Return an address that takes connections and never says a word: a channel to it stays CONNECTING."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(scope="module", autouse=True)
def collections_are_quick() -> Iterator[None]:
    """Have the garbage collector look at what a module's own tests make, and at nothing older."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_control_thread_stays() -> Iterator[None]:
    """Check that each test's channels have taken the control thread with them."""
    before = control_threads()
    yield
    eventually(lambda: not set(control_threads()) - set(before))
