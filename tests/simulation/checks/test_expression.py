"""The language of checks: what it can say, what it refuses, and how it tells why."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb.errors import ConfigError
from healthlb.simulation.checks.expression import Call, Expression, ExpressionError, Verdict

NAMES = {"ratio": 0.0092, "retries": 210, "clients": 5, "ok": 984, "p99": 0.06, "none": math.nan}
FUNCTIONS = {"share": lambda glob: 0.5 if glob == "b0" else 1.0, "abs": abs, "log": math.log, "twice": lambda x: 2 * x}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 8", 6.5),
        ("7 // 2 + 7 % 2", 4.0),
        ("2 ** 10", 1024.0),
        ("-2 ** 2", -4.0),
        ("-(+clients)", -5.0),
        ("clients < 6", True),
        ("0.001 < ratio < 0.01", True),
        ("0.001 < ratio < 0.001", False),
        ("clients == 5 and ok != 5", True),
        ("clients == 4 or ok == 4 or True", True),
        ("not clients == 5", False),
        ('share("b0")', 0.5),
        ("share('b*') - share('b0') * 2", 0.0),
        ("twice(twice(clients))", 20.0),
        ("p99 > '50ms'", True),
        ("'1.5s' + '500ms'", 2.0),
        ("1e3 == 1000", True),
    ],
)
def test_it_says_what_it_means(text: str, value: float) -> None:
    assert Expression(text).value(NAMES, FUNCTIONS) == value


def test_a_part_that_does_not_decide_is_not_asked() -> None:
    assert Expression("clients > 9 and unknown > 1").value(NAMES) is False
    assert Expression("clients < 9 or unknown > 1").value(NAMES) is True


@pytest.mark.parametrize(
    ("text", "holds", "why"),
    [
        ("ratio < 0.005", False, "ratio = 0.0092, needed < 0.005"),
        ("0.005 > ratio", False, "ratio = 0.0092, needed < 0.005"),
        ("0.02 < ratio < 0.08", False, "ratio = 0.0092, needed > 0.02 and < 0.08"),
        (
            "retries <= 5 * clients + 0.1 * ok",
            False,
            "retries = 210, needed <= 5 * clients + 0.1 * ok = 123.4 (clients = 5, ok = 984)",
        ),
        ("abs(ok - 1000) < 20", True, "abs(ok - 1000) = 16, needed < 20"),
        ("1 < clients < ok < 900", False, "1, clients = 5, ok = 984, 900, needed 1 < clients < ok < 900"),
        ("ok > 0 and ratio < 0.005 and unknown", False, "ratio = 0.0092, needed < 0.005"),
        ("ok > 0 and ratio > 0.005", True, "ok = 984, needed > 0; ratio = 0.0092, needed > 0.005"),
        ("ok > 1000 or ratio < 0.005", False, "ok = 984, needed > 1000; ratio = 0.0092, needed < 0.005"),
        ("ok > 1000 or ratio > 0.005", True, "ratio = 0.0092, needed > 0.005"),
        ("not ok > 900", False, "not (ok = 984, needed > 900)"),
        ("clients", True, "clients = 5"),
        ("share('b0') == 1", False, "share('b0') = 0.5, needed == 1"),
    ],
)
def test_a_verdict_tells_the_numbers(text: str, holds: bool, why: str) -> None:
    assert Expression(text).judge(NAMES, FUNCTIONS) == Verdict(holds, why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ratio / 0 < 1", "ratio / 0 divides by zero (column 1)"),
        ("1 < 0 ** -1", "0 ** -1 divides by zero (column 5)"),
        ("10 ** 400 > 1", "10 ** 400 is too large (column 1)"),
        ("(-1) ** 0.5 < 1", "(-1) ** 0.5 is no real number (column 1)"),
        ("9**9**9 > 1", "an exponent must be at most 10000, not 3.8742e+08 (column 4)"),
        ("1 < none", "none is not a number (column 5)"),
        ("not none < 1", "none is not a number (column 5)"),
        ("1 < missing", "unknown name 'missing' (column 5)"),
        ("missing(1)", "unknown function 'missing' (column 1)"),
        ("log(0) < 1", "log(0) has no value: {error} (column 1)"),
        ("share() < 1", "share() has no value: {error} (column 1)"),
        ("ok < 'soon'", "'soon' must be a duration like '10ms', '1.5s' or a number of seconds, not 'soon' (column 6)"),
    ],
)
def test_without_a_value_it_does_not_hold_and_tells_why(text: str, why: str) -> None:
    verdict = Expression(text).judge(NAMES, FUNCTIONS)

    assert not verdict.holds
    before, _, after = why.partition("{error}")
    assert verdict.why.startswith(before)
    assert verdict.why.endswith(after)


REFUSED = {
    "a.b": "the attribute .b is not allowed (column 1)",
    "1 + (1).real": "the attribute .real is not allowed (column 5)",
    "[1, 2]": "List is not allowed",
    "[x for x in y]": "ListComp is not allowed",
    "(x for x in y)": "GeneratorExp is not allowed",
    "{1: 2}": "Dict is not allowed",
    "lambda: 1": "Lambda is not allowed",
    "f(x=1)": "an argument by name is not allowed",
    "f(*a)": "Starred is not allowed",
    "f(**a)": "an argument by name is not allowed",
    "f(1)(2)": "Call is not allowed",
    "a.b()": "Call is not allowed",
    "a[0]": "Subscript is not allowed",
    "1 if a else 2": "IfExp is not allowed",
    "1j": "1j is not allowed",
    "b'x'": "b'x' is not allowed",
    "...": "Ellipsis is not allowed",
    "None": "None is not allowed",
    "a in b": "In is not allowed",
    "a is b": "Is is not allowed",
    "~a": "Invert is not allowed",
    "a << 9": "LShift is not allowed",
    "a @ b": "MatMult is not allowed",
    "f'{a}'": "JoinedStr is not allowed",
    "(a := 1)": "NamedExpr is not allowed",
    "await a": "Await is not allowed",
    "__import__('os').system('true')": "Call is not allowed",
    "a; b": "is no expression",
    "1 <": "is no expression",
    "import os": "is no expression",
    "": "must not be empty",
    "a\nb": "must be one line",
    "a\0": "must be one line",
    "(" * 90 + "1": "is no expression",
    "(" * 400 + "1" + ")" * 400: "is no expression",
    "-" * 600 + "1": "at most 30 levels",
    "not " * 200 + "a": "at most 30 levels",
    "+".join("a" * 300): "at most 30 levels",
    "f(" + ",".join("a" * 400) + ")": "at most 300 parts",
    "a" * 1001: "at most 1000 characters, not 1001",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:20]))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError) as refusal:
        Expression(text)

    assert REFUSED[text] in str(refusal.value)
    assert isinstance(refusal.value, ConfigError)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ExpressionError, match="must be text, not 5"):
        Expression(5)  # type: ignore[arg-type]


def test_names_and_calls_are_told_with_their_places() -> None:
    expression = Expression('ok + ok > share("b0") * other("x", \'p99\') + twice(clients)')

    assert expression.names == {"ok": 1, "clients": 51}
    assert set(expression.calls) == {
        Call("share", ("b0",), 11),
        Call("other", ("x", "p99"), 25),
        Call("twice", (None,), 45),
    }


@pytest.mark.parametrize(
    "text", ["9**9**9**9**9", "1e308*1e308*1e308 > 1", "9" * 900, "2**9999 > 1", "-(9.9e300**9999)"]
)
def test_large_numbers_take_no_time(text: str) -> None:
    begun = time.process_time()

    Expression(text).judge(NAMES)

    assert time.process_time() - begun < 1


_ATOMS = st.sampled_from(["ok", "ratio", "none", "0", "1.5", "9e99", "True", "'5ms'", "share('b0')", "log(ok)"])
_SIGNS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, _SIGNS, inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not {text}"),
        inner.map(lambda text: f"twice({text})"),
    ),
    max_leaves=12,
)


@given(text=_EXPRESSIONS)
@settings(max_examples=400, deadline=None)
def test_what_is_well_formed_has_a_verdict(text: str) -> None:
    try:
        expression = Expression(text)
    except ExpressionError as error:
        assert "levels" in str(error) or "is no expression" in str(error)
        return

    verdict = expression.judge(NAMES, FUNCTIONS)
    assert verdict.why
    try:
        assert bool(expression.value(NAMES, FUNCTIONS)) == verdict.holds
    except ExpressionError as error:
        assert not verdict.holds
        assert verdict.why == str(error)


@given(text=st.one_of(st.text(max_size=60), st.text(alphabet="abf0159.()[]{}'\"+-*/%<>=!,: _\\", max_size=60)))
@settings(max_examples=600, deadline=None)
def test_any_other_text_is_refused_or_judged(text: str) -> None:
    try:
        expression = Expression(text)
    except ExpressionError:
        return

    assert isinstance(expression.judge(NAMES, FUNCTIONS).holds, bool)
