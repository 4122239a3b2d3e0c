"""Web archives: the texts of pages in WARC and ARC files, one record after the other.

Of all records, only answers with status 200 that are HTML or plain text give a text, and so do
texts that were extracted before (WET files). A record that is damaged is told of, and the next one
is looked for: in the next gzip member, or at the next line that begins one.

Source: ISO 28500 (WARC 1.1), sections 4 and 5; the Internet Archive's ARC file format, version 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from everlong.documents.decoding import decode_page
from everlong.documents.extracted import Alive, Extracted, Limits, Refused, Waiting, clean, nobody
from everlong.documents.gzip_members import MemberStream
from everlong.documents.html import read_html
from everlong.documents.http_response import Response, charset_of, parse_head, parse_response
from everlong.errors import DataError

_WARC = b"WARC/"
_ARC = re.compile(rb"([a-z]+:\S*) \S+ \d{8,14} (\S*)(?: .*)? (\d+)\r?\n", re.IGNORECASE)
_LINE_BYTES = 64 << 10
_HEAD_LINES = 1000
_BEHIND_BYTES = 64
_END = b"\r\n\r\n"
"""Of a record of a WARC file."""
_MOST_DAMAGED = 500
"""Records of a file. Each may cost the reading of as many bytes as it claims to have, and the next
damaged one may begin right behind its head."""
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN = "text/plain"
_OK = 200
_LOOKS_LIKE_HTML = re.compile(
    rb"\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)\b", re.I | re.S
)


@dataclass(frozen=True)
class _Head:
    """What is before a record."""

    kind: str
    """``response`` is an answer with its own head; ``conversion`` and ``resource`` are contents."""
    url: str
    length: int
    media_type: str
    date: str | None
    truncated: str | None

    @property
    def wanted(self) -> bool:
        """Whether it may give a text."""
        if not self.url.lower().startswith(("http:", "https:")):
            return False
        if self.kind == "response":
            return True
        kind = self.media_type.partition(";")[0].strip().lower()
        return self.kind in ("conversion", "resource") and (kind in _HTML or kind == _PLAIN)


def read_warc(file: BinaryIO, limits: Limits, alive: Alive = nobody) -> Iterator[Waiting | Refused]:
    """The texts of an archive. Places are numbers of records of whatever kind, from 1.

    Args:
        file: at its beginning, packed or not.
        limits: of a record and of its page.
        alive: told at every record that gives no text.
    """
    stream = MemberStream(file)
    number = damaged = 0
    while _more(stream):
        number += 1
        place = str(number)
        taken = b""
        try:
            head = _read_head(stream)
            # Kept of what is not wanted, too: if its length is wrong, other records are in it.
            taken = stream.read(min(head.length, limits.record_bytes))
            rest = stream.skip(head.length - len(taken)) if head.length > len(taken) else 0
            _check_end(stream, head, len(taken) + rest)
        except DataError as error:
            damaged += 1
            if damaged == _MOST_DAMAGED:
                told = f"{damaged} of its records are damaged, this one: {error}"
                yield Refused(place, f"the file cannot be read on: {told}")
                return
            yield Refused(place, str(error))
            stream.unread(taken)
            _find_record(stream)
            continue
        if not head.wanted:
            alive()
            continue
        if head.length > limits.record_bytes:
            reason = f"{head.length:,} bytes; record_bytes allows {limits.record_bytes:,}"
            yield Refused(place, f"a record of {reason}")
            continue
        try:
            page = _page(head, taken, limits)
        except DataError as error:
            yield Refused(place, str(error))
        else:
            if page is not None:
                yield Waiting(place, partial(_extracted, place, head, page, limits))
            else:
                alive()


def _more(stream: MemberStream) -> bool:
    """Go to the beginning of the next record; whether there is one."""
    while True:
        try:
            while (signs := stream.peek(2)) and signs[:1] in b"\r\n":
                stream.skip(2 if signs == b"\r\n" else 1)
        except DataError:
            return True  # reading the record will say so
        if signs:
            return True
        if not stream.next_member():
            return False


def _read_head(stream: MemberStream) -> _Head:
    line = stream.line(_LINE_BYTES)
    if line.startswith(_WARC):
        lines = []
        while (line := stream.line(_LINE_BYTES)).strip():
            lines.append(line)
            if not line.endswith(b"\n") or len(lines) > _HEAD_LINES:
                raise DataError("a record with a head that has no end")
        return _warc_head(parse_head(b"".join(lines)))
    if found := _ARC.fullmatch(line):
        url = found[1].decode("utf-8", "replace")
        return _Head("response", url, int(found[3]), "", None, None)
    raise DataError(f"no record where one should begin, but {line[:40]!r}")


def _warc_head(head: Mapping[str, str]) -> _Head:
    length = head.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        raise DataError(f"a record whose length is {length[:40]!r}, not a number")
    return _Head(
        kind=head.get("warc-type", "").lower(),
        url=head.get("warc-target-uri", "").strip("<>"),
        length=int(length),
        media_type=head.get("content-type", ""),
        date=head.get("warc-date"),
        truncated=head.get("warc-truncated"),
    )


def _check_end(stream: MemberStream, head: _Head, length: int) -> None:
    """See that a record is as long as it says: it is followed by another, or by nothing.

    Raises:
        DataError: it is not.
    """
    if length < head.length:
        raise DataError(f"a record of {head.length:,} bytes, of which {length:,} are there")
    rest = stream.peek(_BEHIND_BYTES)
    if rest.startswith(_END):
        return  # whatever comes behind
    rest = rest.lstrip(b"\r\n")
    if rest and not rest.startswith(_WARC):
        rest = stream.peek(_LINE_BYTES).lstrip(b"\r\n")
        if not _ARC.fullmatch(rest[: rest.find(b"\n") + 1]):
            raise DataError(
                f"a record that is not of {head.length:,} bytes: behind them is {rest[:40]!r}"
            )


def _find_record(stream: MemberStream) -> None:
    """Go to the next line that begins a record, in this member or to the end of it."""
    at_start = True
    try:
        while line := stream.line(_LINE_BYTES):
            if at_start and (line.startswith(_WARC) or _ARC.fullmatch(line)):
                stream.unread(line)
                return
            at_start = line.endswith(b"\n")
    except DataError:
        stream.next_member()


@dataclass(frozen=True)
class _Page:
    """What a record has to read."""

    body: bytes
    charset: str | None
    is_html: bool


def _page(head: _Head, data: bytes, limits: Limits) -> _Page | None:
    """The page of a record; None: it has none of a kind that is read.

    Raises:
        DataError: it is damaged, or too large.
    """
    if head.kind == "response":
        response = parse_response(data)
        if response.status != _OK:
            return None
        media_type, charset = response.media_type, response.charset
    else:
        response = Response(_OK, {}, data)
        charset = charset_of(head.media_type)
        media_type = head.media_type.partition(";")[0].strip().lower()
    if media_type and media_type not in _HTML and media_type != _PLAIN:
        return None
    body = response.body(limits.record_bytes)
    if not media_type and not _LOOKS_LIKE_HTML.match(body):
        return None
    return _Page(body, charset, media_type != _PLAIN)


def _extracted(place: str, head: _Head, page: _Page, limits: Limits) -> Extracted:
    if page.is_html:
        extracted = read_html(page.body, limits, page.charset, head.url)
    else:
        text = clean(decode_page(page.body, page.charset)[0])
        limits.check_letters(len(text))
        if not text.strip():
            raise DataError("an empty text")
        extracted = Extracted("", text)
    told = {"url": head.url, "date": head.date, "truncated": head.truncated}
    metadata = {**extracted.metadata, **{key: value for key, value in told.items() if value}}
    return replace(extracted, place=place, metadata=metadata)
