"""What is shown of text that others wrote."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb import HealthAwareChannel
from healthlb.errors import ConfigError
from healthlb.text import printable, printable_traceback


class Hostile:
    """Raises when it is shown."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("all is well", "all is well"),
        ("naïve 漢字 C:\\new", "naïve 漢字 C:\\new"),
        ("ok\nshop.Cart  SERVING\r\n\t", "ok\\nshop.Cart  SERVING\\r\\n\\t"),
        ("\x1b[2J\x1b]0;title\x07\x9b1m\x7f\x00", "\\x1b[2J\\x1b]0;title\\x07\\x9b1m\\x7f\\x00"),
        ("a\u202eb\u2066c\u200bd\u2028e\u2029f\ufeff", "a\\u202eb\\u2066c\\u200bd\\u2028e\\u2029f\\ufeff"),
        ("\udcff \U000e0041", "\\udcff \\U000e0041"),
        (b"bytes\xff\n", "bytes\\xff\\n"),
        (ValueError("two\nlines"), "two\\nlines"),
        (None, "None"),
        (Hostile(SystemExit(3)), "Hostile"),
        (Hostile(ValueError("no")), "Hostile"),
    ],
)
def test_text_is_one_line_of_printable_characters(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_never_within_an_escape() -> None:
    assert printable("x" * 300) == "x" * 300
    assert printable("x" * 5_000_000) == "x" * 297 + "..."
    assert printable("ab\x1b\x1b", limit=9) == "ab\\x1b..."
    assert printable("ab\x1b\x1b", limit=8) == "ab..."
    assert printable("abcd", limit=3) == "..."


@given(st.text(st.characters(codec=None)), st.integers(3, 40))
def test_whatever_comes_is_bounded_printable_and_shown_the_same_twice(text: str, limit: int) -> None:
    shown = printable(text, limit)

    assert len(shown) <= limit
    assert shown.isprintable()
    assert printable(shown, limit) == shown
    if text.isprintable() and len(text) <= limit:
        assert shown == text


def hostile(depth: int = 3) -> Exception:
    try:
        raise ValueError("ok\nERROR: forged \x1b[2J" + 10_000 * "x")
    except ValueError as error:
        error.add_note("a note\nwith a line \x1b]0;")
        if depth:
            try:
                raise RuntimeError("\r\nCRITICAL: forged") from hostile(depth - 1)
            except RuntimeError as other:
                return ExceptionGroup("a group\nof two", [other, error])
        return error


def test_a_traceback_shows_no_text_of_an_exception_as_it_is() -> None:
    shown = printable_traceback(hostile())

    assert not set(shown) & {"\x1b", "\r", "\x07"}
    assert not [
        line for line in shown.splitlines() if line.lstrip(" |").startswith(("ERROR", "CRITICAL", "with a", "of two"))
    ]
    assert max(map(len, shown.splitlines())) < 400
    assert "in hostile" in shown
    assert "ValueError: ok\\nERROR: forged \\x1b[2J" in shown


def test_a_traceback_of_an_exception_that_cannot_be_shown() -> None:
    error = ValueError(Hostile(SystemExit(3)))
    error.__cause__ = error

    assert "ValueError" in printable_traceback(error)


def test_an_error_of_a_long_value_shows_its_beginning_and_its_end() -> None:
    with pytest.raises(ConfigError) as raised:
        HealthAwareChannel(["a:1"], options="x" * 10_000)  # type: ignore[arg-type]

    text = str(raised.value)
    assert len(text) <= 2_000
    assert text.startswith("options must be pairs of a name and a value, not 'xxx")
    assert " [...] xxx" in text


def test_an_error_of_a_config_is_pickled_as_it_was() -> None:
    error = ConfigError("y" * 5_000)

    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(ConfigError(str(error))) == str(error)
