"""reStructuredText as Markdown: the words of a document, without what only its builder needs.

Headings, code, notes and definitions of functions stay; comments, targets, pictures and tables of
contents go. Tables and what is not known stay as they are.

Source: the reStructuredText markup specification of Docutils.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from everlong.documents.extracted import Extracted, Limits
from everlong.documents.text import decoded
from everlong.errors import DataError

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}")
_DIRECTIVE = re.compile(r"\.\.[ \t]+([A-Za-z][\w:.+-]*)::(?:[ \t]+(.*))?")
_NOTE = re.compile(r"\.\.[ \t]+(\[[^\]]+\])[ \t]+(.*)")
_OPTION = re.compile(r":[\w-]+:(?:[ \t].*)?")
_FIELD = re.compile(r":([\w -]+):[ \t]*(.*)")
_CODE = frozenset(
    {"code", "code-block", "sourcecode", "parsed-literal", "prompt", "doctest", "testcode"}
    | {"testsetup", "testoutput", "math", "productionlist", "ipython"}
)
_SILENT = frozenset(
    {"toctree", "image", "figure", "include", "literalinclude", "raw", "contents", "index", "meta"}
    | {
        "highlight",
        "default-role",
        "role",
        "sectnum",
        "header",
        "footer",
        "title",
        "tabularcolumns",
    }
    | {"currentmodule", "py:currentmodule", "module", "py:module", "sectionauthor", "codeauthor"}
    | {"automodule", "autoclass", "autofunction", "automethod", "autosummary", "graphviz", "plot"}
    | {"unicode", "replace", "date"}
)
_NAMED = {
    **{one: f"{one.capitalize()}:" for one in ("note", "warning", "tip", "important", "caution")},
    **{one: f"{one.capitalize()}:" for one in ("danger", "hint", "attention", "error")},
    "seealso": "See also:",
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
}
"""What their names say in the text."""
_ROLE = re.compile(r":[A-Za-z][\w:+.-]{0,100}:`([^`]+)`")
_LINK = re.compile(r"`([^`<]++)<[^`>]+>`__?")
_REFERENCE = re.compile(r"`([^`]+)`__?(?!\w)")
_LITERAL = re.compile(r"``([^`]+)``")
_FOOTNOTE = re.compile(r"(\[[#*\w]+\])_(?!\w)")
_DEEPEST = 12
"""Blocks within blocks; what is deeper stays as it is."""


def read_restructured_text(data: bytes, limits: Limits) -> Extracted:
    """The text of a file.

    Raises:
        DataError: as :func:`everlong.documents.text.read_text`.
    """
    source, metadata = decoded(data, limits)
    converter = _Converter()
    told, lines = _front(source.expandtabs(8).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(converter.convert(lines, 0))).strip("\n")
    if not text.strip():
        raise DataError("a text of which nothing is left without its markup")
    if author := told.get("author"):
        metadata["author"] = author
    return Extracted(
        place="",
        text=text,
        title=converter.title,
        licence=told.get("license") or told.get("licence"),
        metadata=metadata,
    )


def _front(lines: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
    """Fields that a file begins with, and what is behind them."""
    told: dict[str, str] = {}
    for number, line in enumerate(lines):
        if found := _FIELD.fullmatch(line):
            told[found[1].lower()] = found[2].strip()
        elif line.strip() and not (told and line.startswith(" ")):
            return told, lines[number:]
    return told, ()


class _Converter:
    """Knows which adornments stand for which level, by the order in which they come."""

    def __init__(self) -> None:
        self.title: str | None = None
        self._levels: list[tuple[str, bool]] = []

    def convert(self, lines: Sequence[str], depth: int) -> Iterator[str]:
        """Lines of Markdown for lines that are indented no further than their first."""
        number = 0
        while number < len(lines):
            line = lines[number]
            if (heading := self._heading(lines, number)) is not None:
                text, used = heading
                yield from ("", text, "")
                number += used
            elif line.startswith(".. ") or line.rstrip() == "..":
                body, number = _block(lines, number + 1)
                yield from self._explicit(line, body, depth)
            elif line.rstrip().endswith("::"):
                if (said := line.rstrip()[:-2].rstrip()) or line.rstrip() != "::":
                    yield _inline(f"{said}:") if said else ""
                body, number = _block(lines, number + 1)
                if any(one.strip() for one in body):
                    yield from _fenced(body)
                else:
                    yield from body
            else:
                yield _inline(line)
                number += 1

    def _heading(self, lines: Sequence[str], number: int) -> tuple[str, int] | None:
        """A heading that begins here, and of how many lines it is."""
        line, *after = (one.rstrip() for one in lines[number : number + 3])
        if len(after) > 1 and _ADORNMENT.fullmatch(line) and after[1] == line and after[0].strip():
            style, text, used = (line[0], True), after[0].strip(), 3
        elif (
            after
            and line
            and line[0] != " "
            and _ADORNMENT.fullmatch(after[0])
            and not _ADORNMENT.fullmatch(line)
            and len(after[0]) >= len(line)
        ):
            style, text, used = (after[0][0], False), line, 2
        else:
            return None
        if style not in self._levels:
            self._levels.append(style)
        text = _inline(text)
        self.title = self.title or text
        return f"{'#' * min(6, self._levels.index(style) + 1)} {text}", used

    def _explicit(self, line: str, body: Sequence[str], depth: int) -> Iterator[str]:
        """What begins with two dots."""
        if note := _NOTE.fullmatch(line):
            yield _inline(f"{note[1]} {note[2]}")
            yield from self._within(body, depth)
            return
        found = _DIRECTIVE.fullmatch(line.rstrip())
        if found is None:
            return  # a comment, a target or a substitution
        name, argument = found[1].lower(), (found[2] or "").strip()
        start = 0
        while start < len(body) and _OPTION.fullmatch(body[start].strip()):
            start += 1
        body = body[start:]
        if name in _SILENT:
            return
        if name in _CODE:
            shown = [argument, *body] if name in ("math", "productionlist") else body
            yield from _fenced(shown, argument if name.startswith(("code", "source")) else "")
            return
        if name in _NAMED:
            argument = f"{_NAMED[name]} {argument}".rstrip()
        yield from ("", _inline(argument))
        if not (name in _NAMED and body and body[0].strip()):
            yield ""
        yield from self._within(body, depth)
        yield ""

    def _within(self, body: Sequence[str], depth: int) -> Iterator[str]:
        body = _dedented(body)
        return self.convert(body, depth + 1) if depth < _DEEPEST else iter(body)


def _block(lines: Sequence[str], number: int) -> tuple[Sequence[str], int]:
    """Lines from here on that are indented or empty, and the number of the first that is not."""
    end = number
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return lines[number:end], end


def _dedented(lines: Sequence[str]) -> Sequence[str]:
    indents = (len(line) - len(line.lstrip(" ")) for line in lines if line.strip())
    indent = min(indents, default=0)
    return [line[indent:] for line in lines]


def _fenced(lines: Sequence[str], language: str = "") -> Iterator[str]:
    text = "\n".join(_dedented(lines)).strip("\n").rstrip()
    if text:
        yield from ("", f"```{language}", text, "```", "")


def _inline(line: str) -> str:
    """A line without roles, targets of links, and doubled backquotes."""
    if "`" in line:
        line = _LITERAL.sub("\0\\1\0", line)
        line = _ROLE.sub(_role, line)
        line = _LINK.sub(lambda found: found[1].rstrip(), line)
        line = _REFERENCE.sub(r"\1", line).replace("\0", "`")
    return _FOOTNOTE.sub(r"\1", line) if "]_" in line else line


def _role(found: re.Match[str]) -> str:
    text = found[1]
    if text.endswith(">") and "<" in text:
        return text[: text.rindex("<")].strip() or text
    if text.startswith("~"):
        return text.rpartition(".")[2]
    return text.lstrip("!")
