"""Word documents (.docx): paragraphs, headings, lists and tables as Markdown.

What was deleted while changes were tracked, field codes, notes, heads and feet of pages are left
out.

Source: ECMA-376, part 1, sections 17.3 (paragraphs), 17.4 (tables), 17.7 (styles).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from everlong.documents.archive import Archive, resolved
from everlong.documents.extracted import Extracted, Limits, Plain, clean, language_code
from everlong.documents.markup import table_text, tag_of
from everlong.documents.xml import parse_xml
from everlong.errors import DataError

if TYPE_CHECKING:
    from lxml import etree  # type: ignore[import-untyped]

_RELATIONS = "_rels/.rels"
_STYLES = "styles.xml"
_PROPERTIES = "docProps/core.xml"
_MAIN = "/officeDocument"
"""How the type of the relation to the main part ends, in both editions of the standard."""
_SILENT = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr", "sectPr"})
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_LEVELS = 6
_TITLE = "title"
_BASES = 10
"""Styles that a style is looked up in, one based on the other."""


def read_docx(data: bytes, limits: Limits) -> Extracted:
    """The text of a Word document.

    Raises:
        DataError: it is no Word document, is encrypted, has no text, or goes beyond a limit.
    """
    archive = Archive(data, limits)
    main = _main_part(archive, limits)
    document = parse_xml(archive.read(main), main, limits)
    styles_name = resolved(main, _STYLES)
    styles = None
    if styles_name is not None and styles_name in archive:
        styles = parse_xml(archive.read(styles_name), styles_name, limits)
    text = clean(_Writer(_heading_levels(styles)).written(document))
    limits.check_letters(len(text))
    if not text:
        raise DataError("a document without text")
    told: dict[str, str] = {}
    if _PROPERTIES in archive:
        for element in parse_xml(archive.read(_PROPERTIES), _PROPERTIES, limits):
            told[tag_of(element)] = clean(element.text or "").strip()
    metadata: dict[str, Plain] = {"author": told.get("creator"), "published": told.get("created")}
    return Extracted(
        place="",
        text=text,
        title=told.get("title") or None,
        language=language_code(told.get("language") or _language(styles)),
        metadata={key: value for key, value in metadata.items() if value},
    )


class _Writer:
    """Puts paragraphs and tables together, as a document is walked.

    Args:
        levels: of the styles that are those of headings, 1 is the highest.
    """

    def __init__(self, levels: Mapping[str, int]) -> None:
        self._levels = levels
        self._blocks: list[tuple[str, bool]] = []
        """Texts, and whether each is an item of a list."""
        self._lines: list[list[str]] = []
        """Of each paragraph that is open; one in a text box is within another."""
        self._cells: list[list[str]] = []
        """Of each row that is open; a table may be in a cell of another."""
        self._rows: list[list[list[str]]] = []
        self._cell: list[list[str]] = []
        """Paragraphs of each cell that is open."""

    def written(self, root: etree._Element) -> str:
        """All text of a document."""
        from lxml import etree

        walker = etree.iterwalk(root, events=("start", "end"))
        for event, element in walker:
            tag = tag_of(element)
            if tag in _SILENT:
                if event == "start":
                    walker.skip_subtree()
            elif event == "start":
                self._start(tag, element)
            else:
                self._end(tag, element)
        joined: list[str] = []
        was_item = False
        for text, item in self._blocks:
            joined += ["\n" if item and was_item else "\n\n", text]
            was_item = item
        return "".join(joined[1:])

    def _start(self, tag: str, element: etree._Element) -> None:
        if tag == "p":
            self._lines.append([])
        elif tag == "tbl":
            self._rows.append([])
        elif tag == "tr" and self._rows:
            self._cells.append([])
        elif tag == "tc" and self._cells:
            self._cell.append([])
        elif self._lines and (said := element.text if tag == "t" else _SIGNS.get(tag)):
            self._lines[-1].append(said)

    def _end(self, tag: str, element: etree._Element) -> None:
        if tag == "p" and self._lines:
            text = "".join(self._lines.pop()).strip()
            if text and self._cell:
                self._cell[-1].append(text)
            elif text:
                prefix, item = self._prefix(element)
                self._blocks.append((prefix + text, item))
        elif tag == "tc" and self._cell:
            self._cells[-1].append("\n".join(self._cell.pop()))
        elif tag == "tr" and self._cells:
            if any(cells := self._cells.pop()):
                self._rows[-1].append(cells)
        elif tag == "tbl" and self._rows and (rows := self._rows.pop()):
            if self._cell:
                self._cell[-1].append("\n".join(" ".join(row) for row in rows))
            else:
                self._blocks.append((table_text(rows), False))

    def _prefix(self, paragraph: etree._Element) -> tuple[str, bool]:
        properties = paragraph.find("{*}pPr")
        if properties is None:
            return "", False
        level = self._levels.get(_value(properties.find("{*}pStyle")) or "")
        outline = _value(properties.find("{*}outlineLvl"))
        if outline is not None and outline.isdecimal() and int(outline) < _LEVELS:
            level = int(outline) + 1
        if level is not None:
            return "#" * level + " ", False
        numbers = properties.find("{*}numPr")
        if numbers is None or _value(numbers.find("{*}numId")) == "0":
            return "", False
        depth = _value(numbers.find("{*}ilvl")) or "0"
        return "  " * (int(depth) % 10 if depth.isdecimal() else 0) + "- ", True


def _main_part(archive: Archive, limits: Limits) -> str:
    if _RELATIONS not in archive:
        raise DataError("not a Word document: it has no relations")
    for relation in parse_xml(archive.read(_RELATIONS), _RELATIONS, limits):
        name = resolved("", (relation.get("Target") or "").lstrip("/"))
        if (relation.get("Type") or "").endswith(_MAIN) and name is not None:
            return name
    raise DataError("not a Word document: it has no main part")


def _heading_levels(styles: etree._Element | None) -> dict[str, int]:
    """Of the styles of headings, by their own names or by those that they are based on."""
    if styles is None:
        return {}
    level: dict[str, int] = {}
    base: dict[str, str] = {}
    for style in styles.iterfind("{*}style"):
        identity = _attribute(style, "styleId") or ""
        name = (_value(style.find("{*}name")) or "").lower()
        base[identity] = _value(style.find("{*}basedOn")) or ""
        number = name.removeprefix("heading ")
        if name == _TITLE:
            level[identity] = 1
        elif number != name and number.isdecimal() and 1 <= int(number) <= _LEVELS:
            level[identity] = int(number)
    for identity in base:
        of = identity
        for _ in range(_BASES):
            if of in level:
                level[identity] = level[of]
                break
            of = base.get(of, "")
    return level


def _language(styles: etree._Element | None) -> str | None:
    found = None if styles is None else styles.find("{*}docDefaults//{*}lang")
    return _value(found)


def _value(element: etree._Element | None) -> str | None:
    return None if element is None else _attribute(element, "val")


def _attribute(element: etree._Element, name: str) -> str | None:
    """By its name alone: both editions of the standard have a namespace of their own."""
    for key, value in element.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return None
