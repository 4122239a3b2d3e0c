"""What the structure of a text says of itself: sections, definitions, tables, tasks, questions.

Readers write headings, lists and tables as Markdown; that is what is looked for here.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A heading, and the text until the next one."""

    heading: str
    """Without number and marks."""
    level: int
    """1 is the highest."""
    above: str | None
    """The heading that it stands under."""
    text: str


@dataclass(frozen=True)
class Definition:
    """A sentence that says what something is."""

    term: str
    article: str
    """``a``, ``an``, ``the`` or nothing."""
    plural: bool
    quoted: bool
    """The term stands in quotation marks, as in contracts."""
    sentence: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Each as long as the head."""
    text: str
    """As it stands in the document."""


@dataclass(frozen=True)
class Task:
    """Something to do, and the command or code that does it."""

    wish: str
    code: str


@dataclass(frozen=True)
class Answered:
    """A question of the text itself, and its answer."""

    question: str
    answer: str


_HEADING = re.compile(r"^(#{1,6}) +(.+)$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(
    r"(?:(?:section|article|chapter|part|clause) +(?:[0-9]+(?:\.[0-9]+)*|[IVXLC]+|[A-Z])\b[.):]?"
    r"(?: *[-–—:])? +"
    r"|[0-9]+(?:\.[0-9]+)+[.):]? +|(?:[0-9]+|[IVXLC]+|[A-Z])[.):] +)(?=\S)",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[*_`]+|\\(?=[^\w\s])")
_LINK = re.compile(r"!?\[([^\]\n]{0,300})\]\([^)\n]{0,500}\)")

_DEFINITION = re.compile(
    r"(?:(?<=[.!?] )|^)"
    r"(?:(?P<article>An?|The)[ \n]+)?"
    r"(?:[“\"](?P<quoted>[^”\"\n]{2,60})[”\"]|(?P<term>[A-Za-z][\w'’/-]*(?:[ \n][\w'’/-]+){0,4}))"
    r"(?:[ \n]+\([^()\n]{1,60}\))?[ \n]+"
    r"(?P<verb>(?:is|are)(?:[ \n]+defined[ \n]+as)?|means?|refers?[ \n]+to|shall[ \n]+mean)[ \n]+"
    r"(?=(?:an?|the|any|one|those|all|when|each)\b)"
    r"(?:[^.!?\n]|[.!?](?!\s|$)|\n(?!\s*\n)){12,400}?[.!?](?=\s|$)",
    re.MULTILINE,
)
_NO_TERM_WORDS = """
it this that these those there here he she they we you i what which who how why when where one some
many most each both all such another other if as in on at by for from with but and or so no not now
today then first second last next result goal aim purpose problem reason answer question following
above below same only best case fact idea point difference however therefore its their his her our
your my example
"""
_NO_TERM = frozenset(_NO_TERM_WORDS.split())
"""Words that a term neither begins nor ends with."""
_ROW = re.compile(r"^ *\|(.*)\| *$")
_RULE = re.compile(r"^ *\|(?: *:?-+:? *\|)+ *$")
_CELL = re.compile(r"(?<!\\)\|")
_TASK = re.compile(
    r"^(?:- |\* |\d+\. )?(?P<wish>[A-Z][^\n`:]{8,160}):[ \t]*\n\s*"
    r"(?:(?P<fence>```|~~~)[^\n]*\n(?P<block>.{1,2000}?)\n(?P=fence)"
    r"|`(?P<line>[^`\n]{2,400})`[ \t]*$)",
    re.MULTILINE | re.DOTALL,
)
_ANSWERED = re.compile(
    r"^\**(?:Q|Question)[.:]\** +(?P<question>[^\n]{8,300})\n\s*"
    r"\**(?:A|Answer)[.:]\** +(?P<answer>.+?)(?=\n\s*\n|\n\**(?:Q|Question)[.:]|\Z)",
    re.MULTILINE | re.DOTALL,
)


def sections(text: str) -> Iterator[Section]:
    """Sections with a text of their own, in order."""
    edges = [edge for found in _FENCE.finditer(text) for edge in found.span()]
    headings = [
        found
        for found in _HEADING.finditer(text)
        if bisect.bisect_right(edges, found.start()) % 2 == 0  # not inside code
    ]
    open_: list[tuple[int, str]] = []
    for number, found in enumerate(headings):
        level, heading = len(found[1]), plain(found[2][0] + found[2][1:].rstrip("#"))
        while open_ and open_[-1][0] >= level:
            open_.pop()
        end = headings[number + 1].start() if number + 1 < len(headings) else len(text)
        body = text[found.end() : end].strip()
        if heading and body:
            yield Section(heading, level, open_[-1][1] if open_ else None, body)
        open_.append((level, heading))


def plain(heading: str) -> str:
    """A heading without its number, marks and links."""
    heading = " ".join(_MARKS.sub("", _LINK.sub(r"\1", heading)).split())
    number = _NUMBER.match(heading)
    return heading[number.end() :] if number else heading


def definitions(text: str) -> Iterator[Definition]:
    """Sentences such as "A femur is a bone of the leg", in order."""
    for found in _DEFINITION.finditer(text):
        term = " ".join((found["quoted"] or found["term"]).split())
        words = term.lower().split()
        if words[0] in _NO_TERM or words[-1] in _NO_TERM:
            continue
        if not (found["quoted"] or found["article"]) and term[0].islower():
            continue  # a line begins here, and no sentence
        yield Definition(
            term,
            (found["article"] or "").lower(),
            found["verb"].startswith("are"),
            found["quoted"] is not None,
            " ".join(found[0].split()),
        )


def tables(text: str) -> Iterator[Table]:
    """Tables with a head and rows, in order."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        if not (_ROW.match(lines[number]) and _RULE.match("".join(lines[number + 1 : number + 2]))):
            number += 1
            continue
        first, number = number, number + 2
        head = _cells(lines[first])
        rows = []
        while number < len(lines) and _ROW.match(lines[number]):
            cells = _cells(lines[number])
            if len(cells) == len(head):
                rows.append(cells)
            number += 1
        if len(rows) > 1 and rows[0][0][:1] in ("", "(") and not all(head[1:]):
            head = _second_head(head, rows.pop(0))
        if rows:
            yield Table(head, tuple(rows), "\n".join(lines[first:number]))


def tasks(text: str) -> Iterator[Task]:
    """Wishes that a command or code follows, in order."""
    for found in _TASK.finditer(text):
        yield Task(" ".join(_MARKS.sub("", found["wish"]).split()), found["block"] or found["line"])


def answered(text: str) -> Iterator[Answered]:
    """Questions after ``Q:`` with what is after ``A:``, in order."""
    for found in _ANSWERED.finditer(text):
        yield Answered(" ".join(found["question"].split()), found["answer"].strip())


def _second_head(head: tuple[str, ...], below: tuple[str, ...]) -> tuple[str, ...]:
    """The names of columns under a head whose cells are over several of them, such as years under
    ``Years ended``."""
    if all(below[1:]) and len(set(below)) == len(below):
        return (head[0], *below[1:])
    return tuple(f"{upper} {lower}".strip() for upper, lower in zip(head, below, strict=True))


def _cells(line: str) -> tuple[str, ...]:
    found = _ROW.match(line)
    assert found is not None, "looked at before"
    cells = (" ".join(cell.replace("\\|", "|").split()) for cell in _CELL.split(found[1]))
    return tuple(_MARKS.sub("", cell) for cell in cells)
