"""What readers give, a text or why there is none, and the limits that all of them keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from everlong.errors import ConfigError, DataError

Plain = str | int | float | bool | None
"""What metadata may hold."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_LANGUAGE = re.compile("[A-Za-z]{2,3}(?![A-Za-z0-9])")
_DEEPEST = 250


@dataclass(frozen=True)
class Extracted:
    """A text, and what its file says of it."""

    place: str
    """Where in the file it is, the same in every run: ``12`` is the 12th record; empty: the file
    is one text."""
    text: str
    title: str | None = None
    language: str | None = None
    """As the file itself says, so perhaps wrong: ISO 639 code without region, ``en``."""
    licence: str | None = None
    """SPDX expression, where the file states a licence that is known."""
    metadata: Mapping[str, Plain] = field(default_factory=dict)
    """What else the file says, such as ``url`` and ``author``."""


@dataclass(frozen=True)
class Refused:
    """A place of a file that gives no text; what comes behind it is read all the same."""

    place: str
    reason: str
    """For people: what was found, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A place of a file where a text is, of which it is known that it comes next, and no more."""

    place: str
    read: Callable[[], Extracted]
    """The costly part; raises DataError if there is no text."""


Alive = Callable[[], None]
"""Told by a reader that it goes on, while it passes over what gives no text."""


def nobody() -> None:
    """Who need not be told."""


@dataclass(frozen=True)
class Limits:
    """How much a reader takes on before it refuses.

    They bound memory, whatever a file claims of itself. They do not bound time: some parsers may
    be slow within them, and a caller that cannot wait runs readers in a process that it can end.
    """

    file_bytes: int = 256 << 20
    """Of a file that is one text. Web archives, JSON lines and Parquet are read piece by piece and
    may have any size."""
    record_bytes: int = 16 << 20
    """Of a line of JSON, or of a response in a web archive, when it is unpacked."""
    page_bytes: int = 4 << 20
    """Of a web page; the time that its text takes may grow faster than its size."""
    unpacked_bytes: int = 512 << 20
    """Of all that is read out of one EPUB or Word file."""
    xml_bytes: int = 64 << 20
    """Of one part of such a file."""
    letters: int = 50_000_000
    """Of one text."""
    nesting: int = 200
    """Elements within one another; at most 250, where the parser itself gives up."""
    pages: int = 10_000
    """Of a PDF file."""
    entries: int = 20_000
    """Files in an EPUB or Word file."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if (value := getattr(self, one.name)) < 1:
                raise ConfigError(f"{one.name} is {value}; it must be 1 or more")
        if self.nesting > _DEEPEST:
            raise ConfigError(f"nesting is {self.nesting}; it can be {_DEEPEST} at most")

    def check_letters(self, count: int) -> None:
        """Refuse a text that is too long.

        Raises:
            DataError: it has more than :attr:`letters`.
        """
        if count > self.letters:
            raise DataError(f"a text of {count:,} letters; letters allows {self.letters:,}")


def clean(text: str) -> str:
    """A text as all steps behind the readers expect it, and otherwise as it is.

    Lines end with a line feed alone. Null characters are gone, and halves of surrogate pairs,
    which no encoding can write.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode("utf-8")  # a hundred times faster than to look for them
    except UnicodeEncodeError:
        text = _SURROGATE.sub("", text)
    return text


def language_code(tag: str | None) -> str | None:
    """The language of a tag such as ``en-GB`` or ``pt_BR``: ``en``; None: it is no such tag."""
    found = _LANGUAGE.match(tag.strip()) if tag else None
    code = found[0].lower() if found else None
    return None if code in (None, "und", "mul", "zxx") else code
