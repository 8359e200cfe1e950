"""Lets asserts in the helpers explain themselves."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.control.virtual_loop", "tests.control.scripted")
