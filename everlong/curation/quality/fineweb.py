"""FineWeb's rules of quality: lists, menus and what else is no prose is dropped.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at
Scale", section 3.6, with the thresholds that datatrove 0.10 has for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everlong.curation.document import Document, Dropped
from everlong.curation.quality.words import (
    ENGLISH_LETTERS,
    SENTENCE_ENDS,
    WITHOUT_SENTENCE_ENDS,
    lines_of,
    words_of,
)
from everlong.errors import ConfigError

_LINE_ENDS = SENTENCE_ENDS | WITHOUT_SENTENCE_ENDS
"""A line in a script that has no sign for it cannot lack one."""


@dataclass(frozen=True)
class FineWebQuality:
    """Drops documents by what their lines are like; empty lines do not count.

    A rule whose value is None is not applied.
    """

    kind: Literal["fineweb_quality"] = "fineweb_quality"
    min_punctuated_lines: float | None = 0.12
    """Share of the lines that end with a full stop, question mark or exclamation mark, of any
    script."""
    max_short_lines: float | None = 0.67
    """Share of the lines that have ``short_line`` characters or fewer."""
    short_line: int = 30
    """Characters of English; in a script without spaces between words, fewer say as much."""
    max_duplicate_line_letters: float | None = 0.01
    """Of the characters, those in lines that were there before."""
    max_line_feeds_a_word: float | None = 0.3

    def __post_init__(self) -> None:
        for name in ("min_punctuated_lines", "max_short_lines", "max_duplicate_line_letters"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, or null, not {value}")
        if self.short_line < 0:
            raise ConfigError(f"short_line is 0 or more, not {self.short_line}")
        if (most := self.max_line_feeds_a_word) is not None and not most >= 0:
            raise ConfigError(f"max_line_feeds_a_word is 0 or more, or null, not {most}")

    def __call__(self, document: Document) -> Dropped | None:
        text = document.text
        lines = [line for line in lines_of(text) if line and not line.isspace()]
        if not lines:
            return Dropped("empty", "no text")
        return (
            self._by_ends(lines)
            or self._by_length(text, lines)
            or self._by_duplicates(text, lines)
            or self._by_line_feeds(text)
        )

    def _by_ends(self, lines: list[str]) -> Dropped | None:
        if (least := self.min_punctuated_lines) is None:
            return None
        found = sum(line[-1] in _LINE_ENDS for line in lines) / len(lines)
        if found < least:
            return Dropped("few_line_ends", f"{found:.3f} of the lines have one, at least {least}")
        return None

    def _by_length(self, text: str, lines: list[str]) -> Dropped | None:
        if (most := self.max_short_lines) is None:
            return None
        longest: float = self.short_line
        if (letters := words_of(text).letters_a_word) is not None:
            longest *= letters / ENGLISH_LETTERS
        found = sum(len(line) <= longest for line in lines) / len(lines)
        if found > most:
            return Dropped("short_lines", f"{found:.3f} of the lines, at most {most}")
        return None

    def _by_duplicates(self, text: str, lines: list[str]) -> Dropped | None:
        most, different = self.max_duplicate_line_letters, set(lines)
        if most is None or len(different) == len(lines):
            return None
        repeated = sum(map(len, lines)) - sum(map(len, different))
        found = repeated / (len(text) - text.count("\n"))
        if found > most:
            return Dropped("duplicate_lines", f"{found:.3f} of the characters, at most {most}")
        return None

    def _by_line_feeds(self, text: str) -> Dropped | None:
        if (most := self.max_line_feeds_a_word) is None:
            return None
        found = text.count("\n") / words_of(text).number
        if found > most:
            return Dropped("line_feeds", f"{found:.3f} for each word, at most {most}")
        return None
