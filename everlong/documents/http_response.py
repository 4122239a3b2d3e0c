"""What a web server answered: its status, its type, and its body without the ways it was sent.

Source: RFC 9112, sections 4 (status line), 7.1 (chunks); RFC 9110, section 8.4 (encodings).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from everlong.errors import DataError

_HEAD_BYTES = 256 << 10
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})\b")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w:.-]+)""", re.IGNORECASE)
_CHUNK_HEAD_BYTES = 1024
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Response:
    """A status line and head, and bytes behind them as they were sent."""

    status: int
    head: Mapping[str, str]
    """Names are lower-case."""
    sent: bytes

    @property
    def media_type(self) -> str:
        """Such as ``text/html``; empty where it is not told."""
        return self.head.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """As declared."""
        return charset_of(self.head.get("content-type", ""))

    def body(self, most: int) -> bytes:
        """What was sent, unpacked.

        Archives often have bodies unpacked already under a head that says otherwise: what does
        not look packed is taken as it is.

        Raises:
            DataError: it is packed in an unknown way, is damaged, or has more bytes than ``most``.
        """
        data = self.sent
        if "chunked" in self.head.get("transfer-encoding", "").lower():
            data = _unchunked(data)
        encoding = self.head.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            data = _inflated(data, 31, most) if data.startswith(_GZIP) else data
        elif encoding == "deflate":
            # Some servers leave out zlib's own head.
            is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            data = _inflated(data, 15 if is_zlib else -15, most)
        elif encoding not in ("", "identity", "none", "utf-8"):
            raise DataError(f"its content is encoded as {encoding}, not as gzip or deflate")
        if len(data) > most:
            raise DataError(f"a response of {len(data):,} bytes; record_bytes allows {most:,}")
        return data


def parse_response(data: bytes) -> Response:
    """The answer of a server.

    Raises:
        DataError: it is none.
    """
    status = _STATUS.match(data)
    if status is None:
        raise DataError(f"not an answer of a web server: it begins with {data[:20]!r}")
    end = _HEAD_END.search(data, 0, _HEAD_BYTES)
    if end is None:
        if len(data) >= _HEAD_BYTES:
            raise DataError(f"an answer with a head of more than {_HEAD_BYTES >> 10} KiB")
        return Response(int(status[1]), parse_head(data[status.end() :]), b"")
    return Response(int(status[1]), parse_head(data[status.end() : end.start()]), data[end.end() :])


def parse_head(lines: bytes) -> dict[str, str]:
    """The fields of a head by their names in lower case; of several alike the last counts."""
    found: dict[str, str] = {}
    for line in lines.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


def charset_of(content_type: str) -> str | None:
    """What a ``Content-Type`` says of the encoding."""
    found = _CHARSET.search(content_type)
    return found[1] if found else None


def _unchunked(data: bytes) -> bytes:
    """The chunks joined; up to the first that is none, or all of it if none is."""
    pieces: list[bytes] = []
    place = 0
    while place < len(data):
        end = data.find(b"\n", place, place + _CHUNK_HEAD_BYTES)
        try:
            size = int(data[place : max(place, end)].partition(b";")[0], 16)
        except ValueError:
            size = -1
        if size < 0:
            return b"".join(pieces) if pieces else data
        if size == 0:
            break
        pieces.append(data[end + 1 : end + 1 + size])
        place = end + 1 + size
        place += 2 if data[place : place + 2] == b"\r\n" else 1
    return b"".join(pieces)


def _inflated(data: bytes, window: int, most: int) -> bytes:
    inflate = zlib.decompressobj(window)
    try:
        unpacked = inflate.decompress(data, most + 1)
    except zlib.error as error:
        raise DataError(f"its content is damaged: {error}") from None
    if len(unpacked) > most:
        raise DataError(f"a response unpacks to more than {most:,} bytes; see record_bytes")
    return unpacked
