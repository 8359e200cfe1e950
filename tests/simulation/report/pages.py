"""A page taken apart: by an HTML parser for its structure, by an XML one for the pictures in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "link", "br", "hr", "col"}


class Structure(HTMLParser):
    """Reads a page, and fails where an element is not closed in its turn.

    Attributes:
        tags: every element with its attributes, in order.
        texts: every text outside style sheets, with the element it stands in.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append((self._open[-1], data))

    def all(self, name: str) -> list[dict[str, str]]:
        """The attributes of all elements of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def ids(self) -> list[str]:
        """All ids."""
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def text(self) -> str:
        """All that a reader may read."""
        return " ".join(text for _, text in self.texts)


def pictures(page: str) -> list[ElementTree.Element]:
    """The pictures of a page, each parsed as XML by itself."""
    found = re.findall(r'<svg class="plot".*?</svg>(?=<details|</figure|<div)', page, re.DOTALL)
    return [ElementTree.fromstring(picture) for picture in found]
