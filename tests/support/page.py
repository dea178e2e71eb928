"""A report's page as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from searchlib import Study
from searchlib.report.exhibits import draw
from searchlib.report.material import Material, gather
from searchlib.report.page import render
from searchlib.stores.stores import Stores
from support import STORAGE

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements, attributes, visible text and JSON of a page; a tag that isn't closed in order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self.script = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        named = dict(attrs)
        if "id" in named:
            self.ids.append(named["id"] or "")
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "script":
            self.script = named.get("id") or "code"
            self.scripts.setdefault(self.script, "")

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "script":
            self.scripts[self.script] += data
        elif "style" not in self.stack:
            self.text += data

    @property
    def figures(self) -> set[str]:
        return {name.removeprefix("figure-") for name in self.ids if name.startswith("figure-")}


def gathered(study: Study) -> Material:
    """What the report is made from, of a study in the working folder."""
    return gather(study, Stores(storage=STORAGE, data_root=Path("data")))


def page_of(study: Study, material: Material | None = None) -> Page:
    return Page(render(material or gathered(study)))


def drawn(material: Material) -> set[str]:
    """The names of the figures that the report has."""
    return {one.name for one in draw(material) if one.drawn}
