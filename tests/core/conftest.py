"""Lets asserts in the spec player explain themselves."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.core.spec_world")
