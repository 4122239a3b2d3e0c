"""The text of a tree of HTML elements: paragraphs apart, headings, lists and tables as Markdown.

Emphasis and links leave their words alone; pictures, scripts and forms leave nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

HEADINGS = {f"h{n}": "#" * n + " " for n in range(1, 7)}
BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"}
    | {"dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header"}
    | {"hgroup", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table"}
    | {"tbody", "td", "tfoot", "th", "thead", "tr", "ul", *HEADINGS}
)
SILENT = frozenset(
    {"script", "style", "noscript", "template", "svg", "canvas", "object", "embed", "applet"}
    | {"iframe", "audio", "video", "map", "button", "select", "textarea", "input", "datalist"}
    | {"head", "rp", "rt", "math"}
)
"""Of these nothing is kept; of a formula only what is written in TeX."""
_BREAK = "\x0b"
"""Stands for ``br``: no XML can have it, and white space around it is closed up as elsewhere."""
_SPACE = re.compile(r"[ \t\n\r\f]+")
"""What HTML closes up; a space that does not break is none of it."""
_AROUND_BREAK = re.compile(r" ?\x0b ?")
_LARGEST_CELL = 1000
"""Letters; a table with a larger cell is there for layout."""


def text_of(root: etree._Element) -> str:
    """All text of a tree, in the order it stands there."""
    writer = Writer()

    def is_silent(element: etree._Element, tag: str) -> bool:
        if tag == "math":
            writer.formula(element)
        return tag in SILENT

    write_tree(writer, root, is_silent)
    return writer.text()


def write_tree(
    writer: Writer, root: etree._Element, skips: Callable[[etree._Element, str], bool]
) -> None:
    """Write a tree but for some elements, whose tails are written all the same.

    Args:
        writer: to which.
        root: of the tree; its own tail is not written.
        skips: told each element and its name before what is in it; whether that is left out.
    """
    from lxml import etree

    skipped = None
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = tag_of(element)
        if event == "start":
            if skips(element, tag):
                skipped = element
                walker.skip_subtree()
            else:
                writer.start(tag, element)
        else:
            if element is not skipped:
                writer.end(tag)
            if element is not root and element.tail:
                writer.add(element.tail)


def tag_of(element: etree._Element) -> str:
    """The name of an element without its namespace; empty for what is no element."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    return tag.rpartition("}")[2]


class Writer:
    """Puts texts and elements together, as a tree is walked."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._prefix = ""
        """Of the next block."""
        self._lists: list[int | None] = []
        """Of each list that is open, how many items it had; None: they have no numbers."""
        self._rows: list[_Rows | None] = []
        """Of each table that is open; None: it is there for layout."""
        self._pre = 0

    def start(self, tag: str, element: etree._Element) -> None:
        """An element begins; ``element`` is looked at for what it has in it."""
        if tag in BLOCKS:
            if tag not in ("td", "th", "tr") or not self._in_table():
                self._close()
            if tag in HEADINGS:
                self._prefix = HEADINGS[tag]
            elif tag in ("ul", "ol"):
                self._lists.append(0 if tag == "ol" else None)
            elif tag == "li":
                self._prefix = self._item()
            elif tag == "table":
                self._rows.append(_Rows() if _is_data(element) else None)
            elif tag == "pre":
                self._pre += 1
        elif tag == "br":
            self._line.append("\n" if self._pre else _BREAK)
        if element.text:
            self._line.append(element.text)

    def end(self, tag: str) -> None:
        """The element ends that began last, and has not ended."""
        if tag not in BLOCKS:
            return
        if rows := self._in_table():
            if tag in ("td", "th"):
                rows.cells.append(self._take())
                return
            if tag == "tr":
                rows.end()
                return
            if tag == "caption":
                self._blocks += [text] if (text := self._take()) else []
                return
        self._close()
        self._prefix = ""
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "table" and self._rows and (rows := self._rows.pop()):
            self._blocks += [text] if (text := rows.text()) else []
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)

    def add(self, text: str) -> None:
        """Text between elements."""
        self._line.append(text)

    def formula(self, element: etree._Element) -> None:
        """A formula in MathML, whose TeX many pages have beside it."""
        if tex := (element.get("alttext") or "").strip():
            self._line.append(f" ${tex}$ ")

    def text(self) -> str:
        """What was written."""
        self._close()
        joined: list[str] = []
        for block in self._blocks:
            # Items of a list are lines, all else is apart.
            near = joined and _is_item(block) and _is_item(joined[-1])
            joined += ["\n" if near else "\n\n", block]
        return "".join(joined[1:])

    def _in_table(self) -> _Rows | None:
        return self._rows[-1] if self._rows else None

    def _item(self) -> str:
        indent = "  " * max(0, len(self._lists) - 1)
        if not self._lists or self._lists[-1] is None:
            return f"{indent}- "
        self._lists[-1] += 1
        return f"{indent}{self._lists[-1]}. "

    def _take(self) -> str:
        text = "".join(self._line)
        self._line.clear()
        text = _AROUND_BREAK.sub("\n", _SPACE.sub(" ", text)).strip(" \n")
        return "" if text.isspace() else text

    def _close(self) -> None:
        if not self._line:
            return
        if self._in_table():
            # Paragraphs within a cell.
            self._line.append(_BREAK)
            return
        if self._pre:
            text = "".join(self._line).strip("\n").rstrip()
            self._line.clear()
            if text:
                self._blocks.append(f"{self._prefix}```\n{text}\n```")
        elif text := self._take():
            if self._prefix.startswith("#"):
                text = text.replace("\n", " ")
            self._blocks.append(self._prefix + text)
        else:
            return
        self._prefix = ""


class _Rows:
    """A table as Markdown."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self._rows: list[list[str]] = []

    def end(self) -> None:
        """A row ends."""
        if any(self.cells):
            self._rows.append(self.cells)
        self.cells = []

    def text(self) -> str:
        self.end()
        return table_text(self._rows)


def table_text(rows: list[list[str]]) -> str:
    """Rows of a table as Markdown, the first as its head."""
    width = max(map(len, rows), default=0)
    if width == 1:  # only its rows make it a table
        return "\n\n".join(row[0] for row in rows)
    lines = []
    for number, row in enumerate(rows):
        cells = [" ".join(filter(None, cell.replace("|", "\\|").split("\n"))) for cell in row]
        lines.append(f"| {' | '.join(cells + [''] * (width - len(cells)))} |")
        if number == 0:
            lines.append("|" + " --- |" * width)
    return "\n".join(lines)


def _is_data(table: etree._Element) -> bool:
    """Whether cells belong in rows; otherwise each is a text of its own."""
    if next(table.iterdescendants(*_NOT_IN_CELLS), None) is not None:
        return False
    return all(len("".join(cell.itertext())) <= _LARGEST_CELL for cell in table.iter("{*}td"))


_NOT_IN_CELLS = tuple(f"{{*}}{one}" for one in ("table", "h1", "h2", "h3", "article", "section"))


def _is_item(block: str) -> bool:
    return _ITEM.match(block) is not None


_ITEM = re.compile(r" *(?:-|\d+\.) ")
