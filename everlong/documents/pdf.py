"""PDF files: the text of their pages, with what belongs to the page and not to the text removed.

Running heads, feet and page numbers go, words that were divided at the end of a line are one again,
and lines of a paragraph are one line. A page is a picture of a text: in what order its parts are
read, and what a table on it says, is left to PDFium, and may be wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from everlong.documents.extracted import Extracted, Limits, Plain, clean
from everlong.errors import DataError, MissingExtraError

_EDGE = 2
"""Lines at the top and at the bottom of a page that may be a running head or foot."""
_SHARE = 0.5
"""Of the pages on the same side of the sheet on which a line must be, to be such a head."""
_REPEATED = 3
"""Pages on which it must be at least."""
_NUMERAL = "#"
"""Form of a page's number, also within a line."""
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"[ivxlc]+", re.IGNORECASE)
_DIVIDED = re.compile(r"(?<!\w)(\w++)[-\u00ad\u2010]\n(?=(\w+))")
_HYPHENATED = re.compile(r"(?<!\w)\w++(?:-\w++)+")
_PDFIUM_HYPHEN = re.compile(r"[\ufffe\x02]\r?\n?")
"""What PDFium writes for a hyphen that it takes for one of the line and not of the word."""
_FULL = 0.75
"""Share of the width of a page's lines from which on a line is taken for a full one."""
_WIDTH_QUANTILE = 0.9
_VERSE = 50
"""Letters; narrower pages may be verse, whose lines stay apart where they begin in capitals."""
_MARKS = ("- ", "– ", "•", "▪", "●", "○", "* ", "·", "‣", "◦", "□", "\uf0b7")
_NUMBERED = re.compile(r"\(?(?:\d{1,3}|[a-z])[.)]\s")
_ENDS = (".", "!", "?", ":", "。", "”", '"')


def read_pdf(data: bytes, limits: Limits) -> Extracted:
    """The text of a PDF file.

    Pages that cannot be read are left out and counted, as ``pages_left_out``.

    Raises:
        DataError: it is no PDF file, is encrypted, has no text (as scanned pages do not), or goes
            beyond a limit.
    """
    try:
        import pypdfium2 as pdfium  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("pypdfium2", "curate") from None
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        # What PDFium says of an error may be of a file before.
        if "password" in str(error).lower() and b"/Encrypt" in data:
            raise DataError("encrypted; save the file without a password") from None
        raise DataError("not a PDF file, or a damaged one") from None
    with closing(document):
        if len(document) > limits.pages:
            raise DataError(f"{len(document):,} pages; pages allows {limits.pages:,}")
        pages: list[str] = []
        letters = left_out = 0
        for number in range(len(document)):
            try:
                with closing(document[number]) as page, closing(page.get_textpage()) as shown:
                    letters += shown.count_chars()
                    limits.check_letters(letters)
                    pages.append(shown.get_text_range())
            except pdfium.PdfiumError:
                left_out += 1
        told = document.get_metadata_dict(skip_empty=True)
    text = pages_text(pages)
    if not text:
        raise DataError("no text: its pages may be pictures, which need text recognition first")
    metadata: dict[str, Plain] = {"pages": len(pages) + left_out}
    if left_out:
        metadata["pages_left_out"] = left_out
    if author := clean(told.get("Author", "")).strip():
        metadata["author"] = author
    return Extracted(
        "", text, title=clean(told.get("Title", "")).strip() or None, metadata=metadata
    )


def pages_text(pages: Sequence[str]) -> str:
    """One text of the texts of pages."""
    lines = [_lines(page) for page in pages]
    inner = _without_heads(lines)
    paragraphs: list[str] = []
    for page in inner:
        found = list(_paragraphs(page))
        if paragraphs and found and _goes_on(paragraphs[-1], found[0]):
            paragraphs[-1] += "\n" + found.pop(0)
        paragraphs += found
    return _mended("\n\n".join(paragraphs))


def _lines(page: str) -> list[str]:
    text = clean(_PDFIUM_HYPHEN.sub("-\n", page))
    return [line.strip() for line in text.split("\n")]


def _without_heads(pages: Sequence[list[str]]) -> Iterator[list[str]]:
    """Pages without running heads and feet, and without their numbers.

    A line at an edge is one if most pages of the same side have it there, or if it has a number
    and the page before or behind has it as well, as heads of chapters do.
    """
    full = [[line for line in page if line] for page in pages]
    edges = [set(_edges(page)) for page in full]
    counts = [Counter[_Edge](), Counter[_Edge]()]
    for number, found in enumerate(edges):
        counts[number % 2].update(found)
    sides = [len(full[side::2]) for side in (0, 1)]

    def is_head(number: int, edge: _Edge) -> bool:
        side = number % 2
        if counts[0][edge] + counts[1][edge] < _REPEATED:
            return False
        if edge[1] == _NUMERAL or counts[side][edge] > _SHARE * sides[side]:
            return True
        near = edges[max(0, number - 2) : number] + edges[number + 1 : number + 3]
        return _NUMERAL in edge[1] and any(edge in page for page in near)

    for number, page in enumerate(full):
        gone = {edge[0] % len(page) for edge in edges[number] if is_head(number, edge)}
        yield [line for place, line in enumerate(page) if place not in gone]


_Edge = tuple[int, str]
"""Place of a line, counted from the top or (negative) from the bottom, and its form."""


def _edges(page: Sequence[str]) -> Iterator[_Edge]:
    for place in (*range(_EDGE), *range(-_EDGE, 0)):
        if -len(page) <= place < len(page):
            yield place, _form(page[place])


def _form(line: str) -> str:
    """A line with its numbers made alike, as they differ from page to page."""
    return _NUMERAL if _ROMAN.fullmatch(line) else _NUMBER.sub(_NUMERAL, line)


def _paragraphs(page: Sequence[str]) -> Iterator[str]:
    """Lines put together that are full, up to one that is not; still with line feeds in them."""
    widths = sorted(map(len, page))
    width = widths[int(_WIDTH_QUANTILE * (len(widths) - 1))] if widths else 0
    kept: list[str] = []
    for line in page:
        if kept and not _is_joined(kept[-1], line, width):
            yield "\n".join(kept)
            kept = []
        kept.append(line)
    if kept:
        yield "\n".join(kept)


def _is_joined(line: str, after: str, width: int) -> bool:
    """Whether a paragraph goes on with the line after."""
    if line.endswith("-") and line[-2:-1].isalpha() and after[0].isalnum():
        return True
    if len(line) < _FULL * width or _begins_item(after):
        return False
    return width >= _VERSE or after[0].islower()


def _begins_item(line: str) -> bool:
    return line.startswith(_MARKS) or _NUMBERED.match(line) is not None


def _goes_on(paragraph: str, after: str) -> bool:
    """Whether a paragraph goes on, on the next page."""
    return after[0].islower() and not paragraph.endswith(_ENDS)


def _mended(text: str) -> str:
    """Divided words made whole, and all other line feeds in paragraphs made spaces."""
    words = Counter(_HYPHENATED.findall(text)) if "-\n" in text else Counter[str]()

    def joined(found: re.Match[str]) -> str:
        before, after = found[1], found[2]
        # A hyphen of the word itself is at the end of a line now and then: it shows elsewhere.
        keep = words[f"{before}-{after}"] or not after[0].islower() or not before[-1].islower()
        return f"{before}-" if keep else before

    return re.sub(r"(?<!\n)\n(?!\n)", " ", _DIVIDED.sub(joined, text)).strip()
