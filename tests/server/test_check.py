"""Hysteresis and dependencies: no clock, no thread."""

from __future__ import annotations

import pytest

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError
from healthlb.server.check import Check, Record
from healthlb.server.manager import derive, resolve

UNKNOWN, SERVING, NOT_SERVING = ServingStatus.UNKNOWN, ServingStatus.SERVING, ServingStatus.NOT_SERVING


def check(**options: object) -> Check:
    return Check(probe=lambda: None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runs", "statuses"),
    [
        ("", "?"),
        ("+", "S"),
        ("-", "N"),
        ("+-", "SS"),
        ("+--", "SSN"),
        ("+-+-+-", "SSSSSS"),
        ("---++", "NNNNN"),
        ("-+++", "NNNS"),
        ("-++-+++--", "NNNNNNSSN"),
    ],
)
def test_runs_in_a_row_turn_the_status(runs: str, statuses: str) -> None:
    record = Record(check(fail_after=2, pass_after=3))
    seen = []
    for run in runs:
        record.add("" if run == "+" else "broken", 0.1, 1.0)
        seen.append({UNKNOWN: "?", SERVING: "S", NOT_SERVING: "N"}[record.status])

    assert "".join(seen) == statuses.strip("?")


def test_a_result_has_the_facts_of_the_last_run() -> None:
    record = Record(check(critical=False))
    assert record.result("db", 5.0).age is None
    record.add("broken", 0.25, 10.0)
    result = record.result("db", 12.0)

    assert (result.status, result.error, result.duration, result.age, result.runs, result.critical) == (
        NOT_SERVING,
        "broken",
        0.25,
        2.0,
        1,
        False,
    )


def test_services_stand_on_the_checks_of_the_services_they_name() -> None:
    checks = {"db": check(), "queue": check(), "cache": check(critical=False)}
    services = {"cart": ["stock", "cache"], "stock": ["db", "queue"], "page": ["cart", "db"]}

    assert resolve(checks, services) == {
        "cart": ("db", "queue", "cache"),
        "stock": ("db", "queue"),
        "page": ("db", "queue", "cache"),
        "": ("db", "queue"),
    }
    assert resolve(checks, {"": ["db"]}) == {"": ("db",)}


@pytest.mark.parametrize(
    ("services", "text"),
    [
        ({"a": ["b"], "b": ["a"]}, "services in a circle: 'a' -> 'b' -> 'a'"),
        ({"a": ["never"]}, "service 'a' depends on 'never', which is neither a check nor a service"),
        ({"a": []}, "service 'a' must depend on a collection of one or more names"),
        ({"a": "db"}, "service 'a' must depend on a collection of one or more names, not 'db'"),
        ({7: ["db"]}, "services must map names to collections of names, not 7"),
        ({"a": [["db"]]}, "service 'a' must depend on names, not ['db']"),
        ({"db": ["db"]}, "'db' is a check and a service"),
    ],
)
def test_dependencies_that_cannot_be_are_refused(services: dict[str, list[str]], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve({"db": check()}, services)

    assert text in str(refused.value)


def test_checks_must_be_checks() -> None:
    with pytest.raises(ConfigError, match="checks must map names to Check objects"):
        resolve({"db": print}, {})  # type: ignore[dict-item]


def test_failure_beats_ignorance_beats_success() -> None:
    statuses = {"up": SERVING, "new": UNKNOWN, "down": NOT_SERVING}

    assert derive(("up", "new", "down"), statuses) is NOT_SERVING
    assert derive(("up", "new"), statuses) is UNKNOWN
    assert derive(("up",), statuses) is SERVING


@pytest.mark.parametrize(
    "options",
    [{"interval": 0}, {"timeout": 0}, {"jitter": 1.1}, {"fail_after": 0}, {"pass_after": 0.5}, {"interval": "1"}],
)
def test_options_out_of_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"Check.{next(iter(options))} must be"):
        check(**options)


def test_a_probe_must_be_callable() -> None:
    with pytest.raises(ConfigError, match=r"Check\.probe must be callable, not 'ping'"):
        Check(probe="ping")  # type: ignore[arg-type]
