"""The files within an EPUB or Word file, which are ZIP files, read within limits.

Nothing is unpacked to disk, so a name such as ``../../etc/passwd`` is a name like any other. What a
ZIP file claims of its sizes is not believed: what comes out is counted.
"""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from urllib.parse import unquote

from everlong.documents.extracted import Limits
from everlong.errors import DataError

_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x07"
_END_BYTES = 22
_COMMENT_BYTES = 0xFFFF
_ENTRY_BYTES = 4096
"""That the directory has for an entry at most: three names and comments, none of them long."""
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
"""What Python's zipfile raises for files that are damaged, or made to be."""


class Archive:
    """A ZIP file in memory.

    Args:
        data: its bytes.
        limits: of entries, and of bytes that are read out of it.

    Raises:
        DataError: it is no ZIP file, is damaged, or has more entries than allowed.
    """

    def __init__(self, data: bytes, limits: Limits) -> None:
        _check_directory(data, limits)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN as error:
            raise DataError(f"a damaged ZIP file: {error}") from None
        self._limits = limits
        self._left = limits.unpacked_bytes

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """The bytes of an XML file in it.

        Raises:
            DataError: it is not there, encrypted or damaged, or is larger than allowed.
        """
        entry = self._zip.NameToInfo.get(name)
        if entry is None:
            raise DataError(f"{name} is not in the file")
        if entry.flag_bits & _ENCRYPTED:
            raise DataError(f"{name} is encrypted; save the file without a password")
        if entry.compress_type not in _METHODS:
            raise DataError(f"{name} is compressed by method {entry.compress_type}, not by deflate")
        most = min(self._left, self._limits.xml_bytes)
        try:
            with self._zip.open(entry) as file:
                data = file.read(most + 1)
        except _BROKEN as error:
            raise DataError(f"{name} is damaged: {error}") from None
        if len(data) > most:
            raise DataError(
                f"{name} unpacks to more than {most:,} bytes; xml_bytes allows "
                f"{self._limits.xml_bytes:,} a part, unpacked_bytes "
                f"{self._limits.unpacked_bytes:,} altogether"
            )
        self._left -= len(data)
        return data


def resolved(base: str, link: str) -> str | None:
    """The name of a file that a file in the archive refers to; None: it is outside."""
    path = unquote(link.partition("#")[0])
    name = posixpath.normpath(posixpath.join(posixpath.dirname(base), path))
    return None if not path or ":" in path or name.startswith(("/", "..")) else name


def _check_directory(data: bytes, limits: Limits) -> None:
    """Look at the directory's size before zipfile makes an object of every entry."""
    place = data.rfind(_END, max(0, len(data) - _END_BYTES - _COMMENT_BYTES))
    if place < 0 or place + _END_BYTES > len(data):
        raise DataError("not a complete ZIP file: its end is missing")
    entries, size = struct.unpack_from("<HL", data, place + 10)
    if data[max(0, place - 20) : place].startswith(_END_64):
        raise DataError("a ZIP64 file, which a document of an allowed size does not need")
    if entries > limits.entries or size > _ENTRY_BYTES * max(entries, 1):
        raise DataError(
            f"a ZIP file with {entries:,} entries in a directory of {size:,} bytes; entries "
            f"allows {limits.entries:,}"
        )
