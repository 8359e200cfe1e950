"""What hypothesis has found is said, and not cut off by the time of its test."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.engine import MAX_SHRINKING_SECONDS


@given(st.booleans())
def test_there_is_one_such_test_at_least(value: bool) -> None:
    assert value in (True, False)


def test_a_finding_has_the_time_to_be_made_small(request: pytest.FixtureRequest) -> None:
    found = [
        item for item in request.session.items if item.path == request.path and item.get_closest_marker("hypothesis")
    ]
    markers = [item.get_closest_marker("timeout") for item in found]

    assert found
    assert all(marker is not None and marker.args[0] > MAX_SHRINKING_SECONDS for marker in markers)


def test_a_finding_is_not_explained() -> None:
    assert Phase.explain not in settings().phases
