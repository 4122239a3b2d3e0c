"""From bytes to text: by byte order mark, by what is declared, and by what the bytes can be.

Text without a declaration is UTF-8, or else Windows-1252 if it looks like that: few letters are
beyond ASCII, and no control characters are among them. Other old encodings look the same to a
program that does not know the language, so they are refused rather than guessed.
"""

from __future__ import annotations

import codecs
import re

from everlong.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_LABELS = {
    "utf-8": ("utf-8", "utf8", "unicode-1-1-utf-8"),
    # On the web, Latin-1 and ASCII are other names of Windows-1252.
    "cp1252": ("windows-1252", "cp1252", "iso-8859-1", "iso8859-1", "latin1", "us-ascii", "ascii"),
    **{f"iso8859-{n}": (f"iso-8859-{n}", f"iso8859-{n}") for n in (2, 3, 4, 5, 6, 7, 8, 10, 13)},
    **{f"iso8859-{n}": (f"iso-8859-{n}", f"iso8859-{n}") for n in (14, 15, 16)},
    "cp1254": ("iso-8859-9", "iso8859-9", "latin5", "windows-1254", "cp1254"),
    "cp874": ("windows-874", "tis-620", "iso-8859-11"),
    **{f"cp{n}": (f"windows-{n}", f"cp{n}") for n in (1250, 1251, 1253, 1255, 1256, 1257, 1258)},
    "koi8-r": ("koi8-r", "koi8", "koi"),
    "koi8-u": ("koi8-u",),
    "cp866": ("ibm866", "cp866"),
    "mac-roman": ("macintosh", "mac"),
    "gb18030": ("gb18030", "gbk", "gb2312", "gb_2312-80", "x-gbk"),
    "big5hkscs": ("big5", "big5-hkscs", "x-x-big5"),
    "euc-jp": ("euc-jp", "x-euc-jp"),
    "iso2022-jp": ("iso-2022-jp",),
    "cp932": ("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"),
    "cp949": ("euc-kr", "ks_c_5601-1987", "korean", "windows-949"),
}
_CODECS = {label: codec for codec, labels in _LABELS.items() for label in labels}
"""Labels as WHATWG's Encoding Standard (4.2) has them, the common ones. No other name reaches
Python's codecs, some of which are no encodings, and some take very long."""

_DECLARED = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w:.-]+)""", re.IGNORECASE
)
_HEAD_BYTES = 4096
_SAMPLE_BYTES = 1 << 20
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\x81\x8d\x8f\x90\x9d]")
"""What no text in Windows-1252 has: control characters, and bytes that mean nothing there."""
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_NULLS = 0.01
_FEW = 0.25
"""Share of bytes beyond ASCII. In French it is 4 in 100; in Russian or Japanese text in an encoding
of its own more than half."""


def decode(data: bytes) -> tuple[str, str]:
    """The text of a file that declares nothing, and the name of its encoding.

    Raises:
        DataError: it is binary, or in an encoding that cannot be told.
    """
    if marked := _by_mark(data):
        return marked
    if data.count(0) > _NULLS * len(data):
        raise DataError("not text but binary data: it has many null bytes")
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        if not _looks_western(data):
            raise DataError(
                f"not text, or in an unknown encoding ({error}); save it as UTF-8"
            ) from None
    return data.decode("cp1252", "replace"), "windows-1252"


def decode_page(data: bytes, charset: str | None = None) -> tuple[str, str]:
    """The text of a web page, whatever it is, and the name of its encoding.

    Args:
        data: the page.
        charset: what its header declares.
    """
    if marked := _by_mark(data):
        return marked
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and not data.isascii():
        return text, "utf-8"  # by accident, bytes are never that, whatever is declared
    for label in (charset, _declared(data)):
        codec = _CODECS.get(label.strip().lower()) if label else None
        if codec == "iso2022-jp" or (codec not in (None, "utf-8") and text is None):
            assert codec is not None
            return data.decode(codec, "replace"), codec
    if text is not None:
        return text, "utf-8"
    if _looks_western(data) and _declared(data) is None and charset is None:
        return data.decode("cp1252", "replace"), "windows-1252"
    return data.decode("utf-8", "replace"), "utf-8"


def _by_mark(data: bytes) -> tuple[str, str] | None:
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(codec, "replace"), codec
    return None


def _declared(data: bytes) -> str | None:
    found = _DECLARED.search(data, 0, _HEAD_BYTES)
    return found[1].decode("ascii", "replace") if found else None


def _looks_western(data: bytes) -> bool:
    sample = data[:_SAMPLE_BYTES]
    beyond = len(sample) - len(sample.translate(None, _BEYOND_ASCII))
    return _NO_TEXT.search(data) is None and beyond <= _FEW * len(sample)
