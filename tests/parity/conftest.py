"""What the scenarios run on: borrowed backends, and one face after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.parity.aio_face import AioFace
from tests.parity.face import Face
from tests.parity.fleet import Fleet
from tests.parity.sync_face import SyncFace
from tests.parity.tally import Tally


@pytest.fixture(scope="session")
def _session_fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.close()


@pytest.fixture(autouse=True)
def _loops_are_well(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No event loop of the process logs an error, whoever runs it: a callback that broke, a task nobody awaited."""
    yield
    records = [record for when in ("setup", "call", "teardown") for record in caplog.get_records(when)]
    complaints = [record for record in records if record.name == "asyncio" and not _is_grpcios(record)]
    assert [record.getMessage() for record in complaints] == []


def _is_grpcios(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # Its poller closes its own socket while a loop is about to read from it; and as it is one for all loops, it reads in
    # this one what was for that of a test before, which is closed (seen on 1.85.1).
    is_late = "PollerCompletionQueue._handle_events" in record.getMessage() and str(error) == "Event loop is closed"
    return isinstance(error, OSError) or is_late


@pytest.fixture
def fleet(_session_fleet: Fleet) -> Iterator[Fleet]:
    """Lend backends; at the end nothing may be open on them."""
    yield _session_fleet
    _session_fleet.take_back()


# Both after `fleet`, so that they are closed before the backends are looked at.
@pytest.fixture
def sync_face(fleet: Fleet) -> Iterator[Face]:
    """`healthlb`, for scenarios that the other face has no part in."""
    face = SyncFace()
    yield face
    face.close()


@pytest.fixture
def aio_face(fleet: Fleet) -> Iterator[AioFace]:
    """`healthlb.aio`, likewise."""
    face = AioFace()
    yield face
    face.close()


@pytest.fixture(params=["sync", "aio"])
def face(request: pytest.FixtureRequest) -> Face:
    """Each face in turn."""
    face: Face = request.getfixturevalue(f"{request.param}_face")
    return face


@pytest.fixture
def faces(sync_face: Face, aio_face: Face) -> tuple[Face, Face]:
    """Both at once, for scenarios that take long."""
    return sync_face, aio_face


@pytest.fixture
def tally() -> Tally:
    """Figures for who runs pytest with `-rP`."""
    return Tally()
