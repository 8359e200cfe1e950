"""Bytes from outside, of any kind: the documented error, or what they say; and what docs/security.md names exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthlb.config.service_config import parse_service_config
from healthlb.control.health_messages import decode_list, decode_response
from healthlb.core.call.call_attempts import parse_pushback
from healthlb.core.pickers.orca import LoadReport, parse_report, report_of
from healthlb.errors import ConfigError
from healthlb.resolvers.addresses import parse_endpoints
from healthlb.simulation.checks.expression import Expression, ExpressionError
from healthlb.simulation.scenario_files.scenario_file import load_scenario
from healthlb.simulation.scenario_files.table import ScenarioError

ROOT = Path(__file__).parent.parent
few = settings(max_examples=150)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = (
    "loadBalancingConfig", "healthCheckConfig", "serviceName", "methodConfig", "name", "service", "method", "timeout",
    "retryPolicy", "maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes",
    "hedgingPolicy", "hedgingDelay", "retryThrottling", "maxTokens", "tokenRatio", "round_robin",
)  # fmt: skip
configs = st.recursive(
    scalars | st.sampled_from(["1s", "-1s", "1e9s", "UNAVAILABLE", "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
)


@few
@given(st.binary(max_size=200))
@example(b"\x09" + b"\xff" * 8)
@example(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
def test_reports_and_messages_of_any_bytes(data: bytes) -> None:
    assert parse_report(data) is None or isinstance(parse_report(data), LoadReport)
    for decode in (decode_response, decode_list):
        try:
            decode(data)
        except ValueError:
            continue


@few
@given(st.sampled_from(["TEXT ", "JSON ", "", "text "]), st.text(max_size=100) | values.map(json.dumps))
@example("JSON ", '{"a": {"b": "x"}}')
@example("JSON ", "9" * 5000)
@example("TEXT ", "cpu_utilization=" + "9" * 400)
def test_reports_of_any_text(form: str, body: str) -> None:
    report = report_of([("endpoint-load-metrics", form + body)])

    assert report is None or isinstance(report, LoadReport)


@few
@given(st.lists(st.text(max_size=20) | st.binary(max_size=20) | st.integers(), max_size=3))
@example(["9" * 5000])
@example(["-1"])
@example(["\u0661"])
def test_pushbacks_of_any_kind(given_values: list[Any]) -> None:
    pushback = parse_pushback(given_values)

    assert pushback is None or isinstance(pushback, int)


@few
@given(st.text(max_size=60) | configs.map(json.dumps) | values.map(json.dumps))
@example("9" * 5000)
@example('{"methodConfig": 1e999}')
def test_service_configs_of_any_kind(text: str) -> None:
    try:
        parse_service_config(text)
    except ConfigError as error:
        assert len(str(error)) < 100_000


def test_a_service_config_that_is_too_deep() -> None:
    with pytest.raises(ConfigError, match="service_config must be JSON"):
        parse_service_config("[" * 100_000)


@few
@given(st.lists(st.text(max_size=30) | values, max_size=4))
@example(["[::1"])
@example(["1.2.3.4:99999"])
@example(["\ud800:1"])
def test_addresses_of_any_kind(entries: list[Any]) -> None:
    try:
        assert parse_endpoints(entries)
    except ConfigError:
        pass


@few
@given(st.text(max_size=80) | st.text("pabx0123456789.()+-*/<>=!,' []{}:e", max_size=80))
@example("9**9**9**9")
@example("(" * 300)
@example("x" * 999 + "\x00")
@example("9e999 + 1")
def test_expressions_of_any_text(text: str) -> None:
    try:
        Expression(text).value({"p": 1.0, "x": 0.0}, {"abs": abs})
    except ExpressionError:
        pass


WORLD = b'[[backend]]\ncount = 1\nservice = "1ms"\n[[client]]\n[client.load]\nrate = 10\n'


@few
@given(st.binary(max_size=60), st.integers(0, len(WORLD)))
@example(b"a = 9" + b"9" * 5000 + b"\n", 0)
@example(b"a = " + b"[" * 5000 + b"\n", 0)
@example(b"seed = inf\n", 0)
def test_scenario_files_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(WORLD[:place] + data + WORLD[place:])
    try:
        load_scenario(path)
    except ScenarioError:
        pass


def test_every_test_that_the_page_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or not re.search(rf"def {name}\b" if name else "", (ROOT / path).read_text())
    ]
    assert len(named) > 20
    assert missing == []


def test_every_line_of_the_page_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text().splitlines() if line.startswith("|")]
    lines = [row for row in rows if "---" not in row and "| bound |" not in row]

    assert [row for row in lines if "`tests/" not in row] == []
