"""Any file to texts: the reader for it, chosen by its name and by what it begins with.

What is wrong with a file, or with one place of it, is told as a value, and the rest is read. Memory
is bounded by :class:`Limits`, time is not: a caller that cannot wait reads in a process that it can
end, counts what it was given, and skips that number in the next try, or what is from there on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from everlong.documents.docx import read_docx
from everlong.documents.epub import read_epub
from everlong.documents.extracted import Alive, Extracted, Limits, Refused, Waiting, nobody
from everlong.documents.gzip_members import MemberStream, Unpacked
from everlong.documents.html import read_html
from everlong.documents.manual_page import read_manual_page
from everlong.documents.parts import GZIP, JSON_LINES, PARQUET, Part, parts
from everlong.documents.pdf import read_pdf
from everlong.documents.records import read_json_lines, read_parquet
from everlong.documents.restructured_text import read_restructured_text
from everlong.documents.source import LANGUAGES, NAMES, read_source
from everlong.documents.text import read_markdown, read_text
from everlong.documents.warc import read_warc
from everlong.errors import DataError

__all__ = ["Extracted", "Limits", "Part", "Refused", "parts", "read"]

_GZIP_SUFFIX = ".gz"
_BUFFER_BYTES = 1 << 20
_SNIFFED_BYTES = 4096
_EPUB = b"mimetypeapplication/epub+zip"
_EPUB_PLACE = 30
"""Where the first file of a ZIP file has its name, and behind it its content (EPUB 3.3, 4.3)."""
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).){0,1000}+-->\s*)*<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
"""A comment ends at its first end: could one go on, many would be divided in all possible ways."""


@dataclass(frozen=True)
class _Opened:
    """A file, or a part of it, that is being read."""

    part: Part
    file: io.BufferedReader[Any]
    """Unpacked, at its beginning."""
    packed: bool
    name: Path
    """Without the suffix of the packing."""
    limits: Limits
    text_field: str
    root: Path
    alive: Alive

    def whole(self) -> bytes:
        """All of it.

        Raises:
            DataError: it is too large.
        """
        data = self.file.read(self.limits.file_bytes + 1)
        if len(data) > self.limits.file_bytes:
            raise DataError(f"a file of more than {self.limits.file_bytes:,} bytes; see file_bytes")
        return data


Reader = Callable[[_Opened], Iterator[Waiting | Refused]]


def _one(reader: Callable[[bytes, Limits], Extracted]) -> Reader:
    """A reader of files that are one text."""

    def found(opened: _Opened) -> Iterator[Waiting | Refused]:
        yield Waiting("", lambda: reader(opened.whole(), opened.limits))

    return found


def _source(opened: _Opened) -> Iterator[Waiting | Refused]:
    name, root = opened.name, opened.root
    yield Waiting("", lambda: read_source(opened.whole(), opened.limits, name, root))


def _json_lines(opened: _Opened) -> Iterator[Waiting | Refused]:
    part, size = opened.part, None
    if not opened.packed and part.end is not None:
        opened.file.seek(part.start)
        size = part.end - part.start
    limits, field = opened.limits, opened.text_field
    return read_json_lines(opened.file, limits, field, part.first, size, opened.alive)


def _parquet(opened: _Opened) -> Iterator[Waiting | Refused]:
    if opened.packed:
        raise DataError("a Parquet file that is packed; unpack it, as it is packed within")
    part = opened.part
    groups = None if part.end is None else range(part.start, part.end)
    return read_parquet(part.path, opened.limits, opened.text_field, part.first, groups)


def _web_archive(opened: _Opened) -> Iterator[Waiting | Refused]:
    with opened.part.path.open("rb") as file:  # it is unpacked there, record by record
        yield from read_warc(file, opened.limits, opened.alive)


_READ_PDF, _READ_DOCX, _READ_EPUB, _READ_HTML, _READ_PAGE = map(
    _one, (read_pdf, read_docx, read_epub, read_html, read_manual_page)
)

READERS: Mapping[str, Reader] = {
    **dict.fromkeys((*LANGUAGES, *NAMES), _source),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".shtml"), _READ_HTML),
    **dict.fromkeys((".txt", ".text"), _one(read_text)),
    **dict.fromkeys((".md", ".markdown"), _one(read_markdown)),
    **dict.fromkeys((".rst", ".rest"), _one(read_restructured_text)),
    **dict.fromkeys(JSON_LINES, _json_lines),
    **dict.fromkeys((".warc", ".wet", ".arc"), _web_archive),
    PARQUET: _parquet,
    ".pdf": _READ_PDF,
    ".docx": _READ_DOCX,
    ".epub": _READ_EPUB,
    **dict.fromkeys((*(f".{section}" for section in range(1, 10)), ".man"), _READ_PAGE),
}
"""By suffix, or by the whole name of some source files; all lower-case."""


def read(
    what: Path | Part,
    limits: Limits | None = None,
    *,
    text_field: str = "text",
    root: Path | None = None,
    skip: Mapping[int, str] | None = None,
    alive: Alive = nobody,
) -> Iterator[Extracted | Refused]:
    """The texts of a file or of a part of it, one by one.

    Args:
        what: a file, or a part that :func:`parts` made of one.
        limits: None: the usual ones.
        text_field: field of records that has the text.
        root: folder of the source tree that the file is in, whose licence counts; None: its folder.
        skip: numbers of what is given, from 0, that shall not be read but refused, and why: those
            at which an earlier try had to be ended.
        alive: told now and then while much is passed over that gives no text.

    Returns:
        As many in every run. Each says its place, which no other in the file has.
    """
    part = what if isinstance(what, Part) else Part(what, 0)
    skipped = skip or {}
    place = ""
    try:
        folder = root or part.path.parent
        with _open(part, limits or Limits(), text_field, folder, alive) as opened:
            for number, found in enumerate(_reader(opened)(opened)):
                place = found.place
                if number in skipped:
                    yield Refused(place, skipped[number])
                elif isinstance(found, Refused):
                    yield found
                else:
                    yield _read(found)
    except (DataError, OSError) as error:
        yield Refused(f"{place}+" if place else "", _told(error))


def _read(found: Waiting) -> Extracted | Refused:
    try:
        return found.read()
    except (DataError, OSError, MemoryError, RecursionError) as error:
        return Refused(found.place, _told(error))


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, DataError) else f"cannot be read: {error!r}"


@contextmanager
def _open(
    part: Part, limits: Limits, text_field: str, root: Path, alive: Alive
) -> Iterator[_Opened]:
    path = part.path
    if not path.is_file():
        raise DataError("not a file")
    name = path.with_suffix("") if path.suffix.lower() == _GZIP_SUFFIX else path
    make = partial(
        _Opened, part, name=name, limits=limits, text_field=text_field, root=root, alive=alive
    )
    with io.BufferedReader(io.FileIO(path), _BUFFER_BYTES) as file:
        if file.peek(2)[:2] != GZIP:
            yield make(file=file, packed=False)
            return
        with io.BufferedReader(Unpacked(MemberStream(file)), _BUFFER_BYTES) as unpacked:
            yield make(file=unpacked, packed=True)


def _reader(opened: _Opened) -> Reader:
    """The reader for a file.

    What it begins with counts more than its name, where a format has such a beginning.

    Raises:
        DataError: there is none.
    """
    suffix = opened.name.suffix.lower()
    named = READERS.get(opened.name.name.lower()) or READERS.get(suffix)
    if named is _web_archive:
        return named  # one whose first record is damaged, too
    start = opened.file.peek(_SNIFFED_BYTES)[:_SNIFFED_BYTES]
    if start.startswith(b"%PDF-"):
        return _READ_PDF
    if start.startswith(b"PAR1"):
        return _parquet
    if start.startswith(b"WARC/"):
        return _web_archive
    if start.startswith(b"PK\x03\x04"):
        if start[_EPUB_PLACE:].startswith(_EPUB):
            return _READ_EPUB
        if named in (_READ_EPUB, _READ_DOCX):
            return named
        raise DataError("a ZIP file that is neither an EPUB nor a Word file")
    if named is not None:
        return named
    if _HTML.match(start):
        return _READ_HTML
    known = ", ".join(sorted(one for one in READERS if one not in (*LANGUAGES, *NAMES)))
    raise DataError(f"no reader for {suffix or opened.name.name}; there are those for {known}")
