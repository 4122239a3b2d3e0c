"""A file that is read on and on, gzip member by gzip member, past members that are damaged.

Web archives have each record in a gzip member of its own, so that one can be read without the
others. Python's gzip joins members, and ends with the first that is damaged; where a file was cut
off it withholds what could be read right before.
"""

from __future__ import annotations

import io
import re
import zlib
from typing import BinaryIO

from everlong.errors import DataError

_READ_BYTES = 1 << 18
_MAGIC = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)
"""How a member begins; the other bits of the flags are reserved."""
_HEAD_BYTES = 4
_TRIED_BYTES = 512
_FED_BLOCKS = 16
"""Blocks of a member that are kept to look through again; the last ones of a long one."""
_PLAIN = re.compile(rb"WARC/|[a-z]+:", re.IGNORECASE)
"""How web archives begin that are not packed, though some of what is in them may be."""


class MemberStream:
    """The unpacked bytes of a file, in memory never more than asked for and a block.

    A file that is not packed is one member.

    Args:
        file: at its beginning; it need not be seekable.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed_bytes = file.read(_READ_BYTES)
        self._buffer, self._at = b"", 0
        self._inflate: zlib._Decompress | None = None
        # The first member may be damaged as well.
        self.packed = (
            _MAGIC.search(self._packed_bytes) is not None
            and _PLAIN.match(self._packed_bytes) is None
        )
        self._ended = False
        self._fed: list[bytes] = []
        """What of the member was unpacked, as it is in the file."""
        self._failed: str | None = None
        if self.packed:
            self._inflate = zlib.decompressobj(31)

    def peek(self, size: int) -> bytes:
        """The next bytes of the member, fewer at its end; they stay to be read.

        Raises:
            DataError: as :meth:`read`.
        """
        while len(self._buffer) - self._at < size and self._fill():
            pass
        return self._buffer[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """The next bytes of the member, fewer at its end.

        Raises:
            DataError: the member is damaged, or cut off.
        """
        pieces: list[bytes] = []
        while size > 0 and (piece := self.take(size)):
            size -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take(self, most: int) -> bytes:
        """Some of the next bytes, at least one; none at the end of the member.

        Raises:
            DataError: as :meth:`read`.
        """
        if self._at == len(self._buffer) and not self._fill():
            return b""
        data = self._buffer[self._at : self._at + most]
        self._at += len(data)
        return data

    def skip(self, size: int) -> int:
        """Pass over bytes of the member; how many there were of them.

        Raises:
            DataError: as :meth:`read`.
        """
        left = size
        while left > 0 and (data := self.take(left)):
            left -= len(data)
        return size - left

    def line(self, most: int) -> bytes:
        """The next line with its end, or so many bytes of it; empty at the end of the member.

        Raises:
            DataError: as :meth:`read`.
        """
        while (end := self._buffer.find(b"\n", self._at, self._at + most)) < 0:
            if len(self._buffer) - self._at >= most or not self._fill():
                end = min(self._at + most, len(self._buffer)) - 1
                break
        line = self._buffer[self._at : end + 1]
        self._at = end + 1
        return line

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._buffer, self._at = data + self._buffer[self._at :], 0

    def next_member(self) -> bool:
        """Go to the member behind this one, whatever is left of it; whether there is one."""
        self._buffer, self._at = b"", 0
        if not self.packed:
            return False
        try:
            while not self._ended:
                self._inflated()
            data = self._packed_bytes
            if len(data) < _HEAD_BYTES:
                data += self._file.read(_READ_BYTES)
            # Where a member has to begin, a damaged one is told of.
            start = 0 if _MAGIC.match(data) else _member(data)
        except DataError:
            # Damaged data may have run on into the next members, so look behind the first byte.
            data = b"".join(self._fed)[1:]
            start = _member(data)
        while start is None:
            more = self._file.read(_READ_BYTES)
            if not more:
                self._packed_bytes, self._fed = b"", []
                self._ended, self._failed = True, None
                return False
            data = data[-_TRIED_BYTES:] + more
            start = _member(data)
        self._packed_bytes = data[start:]
        self._inflate, self._ended = zlib.decompressobj(31), False
        self._fed, self._failed = [], None
        return True

    def _fill(self) -> bool:
        """Have more of the member behind what is not read yet; False: there is no more."""
        if self._inflate is None:
            data, self._packed_bytes = self._packed_bytes or self._file.read(_READ_BYTES), b""
        else:
            data = b""
            while not data and not self._ended:
                data = self._inflated()
        if not data:
            return False
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        return True

    def _inflated(self) -> bytes:
        assert self._inflate is not None, "the file is packed"
        if self._failed is not None:
            raise DataError(self._failed)
        if not self._packed_bytes:
            self._packed_bytes = self._file.read(_READ_BYTES)
            if not self._packed_bytes:
                raise DataError("the file ends within packed data")
        if not self._inflate.unconsumed_tail:
            self._fed.append(self._packed_bytes)
            if len(self._fed) > _FED_BLOCKS:
                del self._fed[0]
        try:
            data = self._inflate.decompress(self._packed_bytes, _READ_BYTES)
        except zlib.error as error:
            self._failed = f"damaged packed data: {error}"
            raise DataError(self._failed) from None
        self._ended = self._inflate.eof
        self._packed_bytes = (
            self._inflate.unused_data if self._ended else self._inflate.unconsumed_tail
        )
        return data


def _member(data: bytes) -> int | None:
    """Where a member begins that can be unpacked, at its beginning at least."""
    for found in _MAGIC.finditer(data):
        try:
            zlib.decompressobj(31).decompress(
                data[found.start() : found.start() + _TRIED_BYTES], _TRIED_BYTES
            )
        except zlib.error:
            continue
        return found.start()
    return None


class Unpacked(io.RawIOBase):
    """The members of a file joined.

    Args:
        stream: at its beginning.
    """

    def __init__(self, stream: MemberStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what is at hand.

        Raises:
            DataError: as :meth:`MemberStream.read`, when all before was read.
        """
        while not (data := self._stream.take(len(buffer))):
            if not self._stream.next_member():
                return 0
        buffer[: len(data)] = data
        return len(data)
