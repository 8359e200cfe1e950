"""Whatever text is put into markup stays text."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from healthlb.simulation.report.markup import Markup, join, number, percent, tag, text


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"
    assert join(["<", None, tag("i"), 3]) == "&lt;<i></i>3"


def test_attributes_are_escaped_and_named_as_in_html() -> None:
    made = tag("a", title='"<&', class_="x", aria_label="l", hidden=True, id=None, lang=False, viewBox="0 0 1 1")

    assert made == '<a title="&quot;&lt;&amp;" class="x" aria-label="l" hidden="hidden" viewBox="0 0 1 1"></a>'


def test_elements_without_content_close_themselves() -> None:
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8"/>'
    assert tag("rect") == "<rect></rect>"


def test_what_xml_forbids_is_replaced() -> None:
    assert text("a\x00b\x1b\ud800\ufffe") == "a\ufffdb\ufffd\ufffd\ufffd"
    assert isinstance(text("a"), Markup)


def test_numbers_are_short() -> None:
    assert [number(value) for value in (1, 2.0, 2.504, -0.001, 1e-9, 12345.678)] == [
        "1",
        "2",
        "2.5",
        "0",
        "0",
        "12345.68",
    ]
    assert [percent(value) for value in (0, 0.125, 1, 1 / 3)] == ["0%", "12.5%", "100%", "33.333%"]


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_survives_both_parsers(words: str, attribute: str) -> None:
    made = tag("p", words, title=attribute)
    parsed = ElementTree.fromstring(made)
    seen: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            seen.append(tag)

    Parser().feed(made)

    assert seen == ["p"]
    assert len(parsed) == 0
    assert ElementTree.tostring(parsed, encoding="unicode", method="text").replace("\r", "").count("<") == words.count(
        "<"
    )
