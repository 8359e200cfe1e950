"""Borrowed backends and both faces, as in the parity tests."""

from tests.parity.conftest import _session_fleet, aio_face, face, faces, fleet, sync_face

__all__ = ["_session_fleet", "aio_face", "face", "faces", "fleet", "sync_face"]
