"""Plain text and Markdown: what is before the text goes, the rest stays as it is."""

from __future__ import annotations

import re

from everlong.documents.decoding import decode
from everlong.documents.extracted import Extracted, Limits, Plain, clean, language_code
from everlong.errors import DataError

_FRONT_LETTERS = 64 << 10
_FRONT = re.compile(
    r"(---|\+\+\+)[ \t]*\n(.*?)^(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_FIELD = re.compile(r"([A-Za-z][\w-]*)[ \t]*[:=][ \t]*(.*)")
_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t]*#*$|^(\S.*)\n=+[ \t]*$", re.MULTILINE)
_HEAD_LETTERS = 4000


def read_text(data: bytes, limits: Limits) -> Extracted:
    """A file that is one plain text.

    Raises:
        DataError: it is binary, in an unknown encoding, empty, or too long.
    """
    text, metadata = decoded(data, limits)
    return Extracted("", text, metadata=metadata)


def read_markdown(data: bytes, limits: Limits) -> Extracted:
    """A file in Markdown; what its front matter says of it is taken from there.

    Raises:
        DataError: as :func:`read_text`.
    """
    text, metadata = decoded(data, limits)
    told: dict[str, str] = {}
    if found := _FRONT.match(text, 0, _FRONT_LETTERS):
        fields = (_FIELD.fullmatch(line) for line in found[2].split("\n"))
        told = {one[1].lower(): one[2].strip(" \t\"'") for one in fields if one}
        if told or not found[2].strip():  # else a rule, and a text between two rules
            text = text[found.end() :].lstrip("\n")
    if not text.strip():
        raise DataError("a text with nothing behind its front matter")
    heading = _HEADING.search(text, 0, _HEAD_LETTERS)
    if author := told.get("author"):
        metadata["author"] = author
    return Extracted(
        place="",
        text=text,
        title=told.get("title") or (heading and (heading[1] or heading[2])) or None,
        language=language_code(told.get("lang") or told.get("language")),
        licence=told.get("license") or told.get("licence") or None,
        metadata=metadata,
    )


def decoded(data: bytes, limits: Limits) -> tuple[str, dict[str, Plain]]:
    """The cleaned text of a file, and its encoding if that is not UTF-8.

    Raises:
        DataError: as :func:`read_text`.
    """
    text, encoding = decode(data)
    limits.check_letters(len(text))
    text = clean(text)
    if not text.strip():
        raise DataError("an empty text")
    return text, {} if encoding == "utf-8" else {"encoding": encoding}
