"""A page as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser

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
