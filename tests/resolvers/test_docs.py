"""What docs/resolvers.md shows must run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from healthlb.resolvers import Endpoint, parse_target, target
from tests.resolvers.following import follow

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "resolvers.md"
_EXAMPLE = re.compile(r"<!-- This example is run by .*? -->\n```python\n(.*?)```", re.DOTALL)
_ROW = re.compile(r"^\| `(.*?)` \|", re.MULTILINE)


def _example() -> str:
    found = _EXAMPLE.search(_PAGE.read_text())
    assert found is not None
    return found.group(1)


async def test_example_resolver_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_registered", {})
    names: dict[str, Any] = {}
    exec(_example(), names)
    path = tmp_path / "backends.txt"
    path.write_text("10.0.0.1:1\nb:2\n")

    async with follow(parse_target(f"lines://{path}").resolver) as following:
        assert await following.updated(1) == ("10.0.0.1:1", "b:2")
    async with follow(parse_target(names["LinesResolver"](str(tmp_path / "missing"))).resolver) as following:
        assert "missing" in await following.failed()


def test_example_resolver_is_short() -> None:
    code = _example()
    lines = [line for line in code[code.index("class ") :].splitlines() if line.strip()]

    assert len(lines) < 15


def test_targets_of_the_table_are_accepted() -> None:
    rows = [row for row in _ROW.findall(_PAGE.read_text()) if not row.startswith(("scheme:", "DnsResolver("))]

    assert len(rows) >= 10
    for row in rows:
        for text in row.split("`, `"):
            is_list = text.startswith("[") and text.endswith("]")
            parse_target(eval(text, {"Endpoint": Endpoint}) if is_list else text)
