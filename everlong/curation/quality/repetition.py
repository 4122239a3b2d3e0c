"""Gopher's rules of repetition: text that says the same again and again is dropped.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", appendix A.1, "Repetition Removal", table A1. Where the paper leaves something open,
datatrove 0.10 is followed: of several most frequent n-grams the first one is measured, even if each
is there once; duplicate n-grams do not overlap.

Sequences of words are compared by 64 bits of a hash, all at once in arrays. Most documents are far
from every threshold, and bounds that need one sort of their n-grams show it; only for others is
counted exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.document import Document, Dropped
from everlong.curation.quality.words import Words, lines_of, words_of
from everlong.errors import ConfigError

_PARAGRAPHS = re.compile(r"\n{2,}")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that no bit of what it multiplies is lost; 2**64 divided by the golden ratio."""


def _top() -> dict[int, float]:
    return {2: 0.2, 3: 0.18, 4: 0.16}


def _duplicate() -> dict[int, float]:
    return {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}


@dataclass(frozen=True)
class GopherRepetition:
    """Drops documents in which lines, paragraphs or sequences of words are repeated.
    By Gopher's rule a document's most frequent sequence counts though it is there but once, as in
    short texts.

    A rule whose value is None is not applied. All values are shares, from 0 to 1.
    """

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_paragraphs: float | None = 0.3
    """Of the paragraphs, between which there are empty lines."""
    max_duplicate_paragraph_letters: float | None = 0.2
    """Of the document's characters, those in such paragraphs."""
    max_duplicate_lines: float | None = 0.3
    max_duplicate_line_letters: float | None = 0.2
    max_top_ngram: Mapping[int, float] | None = field(default_factory=_top)
    """By number of words: characters of the most frequent sequence of so many, at all its places;
    of the document's characters."""
    max_duplicate_ngrams: Mapping[int, float] | None = field(default_factory=_duplicate)
    """By number of words: characters of sequences of so many that were there before."""

    def __post_init__(self) -> None:
        for name in (
            "max_duplicate_paragraphs",
            "max_duplicate_paragraph_letters",
            "max_duplicate_lines",
            "max_duplicate_line_letters",
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, or null, not {value}")
        for name in ("max_top_ngram", "max_duplicate_ngrams"):
            for words, share in (getattr(self, name) or {}).items():
                if words < 1 or not 0 <= share <= 1:
                    raise ConfigError(
                        f"{name} has {share} for {words} words; give shares from 0 to 1, for "
                        "1 word or more"
                    )

    def __call__(self, document: Document) -> Dropped | None:
        if not (text := document.text):
            return Dropped("empty", "no text")
        return (
            _duplicates(
                "paragraph",
                _paragraphs(text),
                len(text),
                self.max_duplicate_paragraphs,
                self.max_duplicate_paragraph_letters,
            )
            or _duplicates(
                "line",
                _lines(text),
                len(text),
                self.max_duplicate_lines,
                self.max_duplicate_line_letters,
            )
            or self._by_ngrams(text)
        )

    def _by_ngrams(self, text: str) -> Dropped | None:
        grams = _Grams(words_of(text))
        return _top_ngram(grams, len(text), self.max_top_ngram or {}) or _duplicate_ngrams(
            grams, len(text), self.max_duplicate_ngrams or {}
        )


def _paragraphs(text: str) -> list[str]:
    bare = text.strip()
    return _PARAGRAPHS.split(bare) if "\n\n" in bare else [bare]


def _lines(text: str) -> list[str]:
    """Between line feeds, of which several are as one; at the text's ends there may be empty
    ones."""
    lines = lines_of(text)
    if "" not in lines:
        return lines
    return [line for i, line in enumerate(lines) if line or i in (0, len(lines) - 1)]


def _duplicates(
    what: str, parts: Sequence[str], length: int, most: float | None, most_letters: float | None
) -> Dropped | None:
    different = set(parts)
    if len(different) == len(parts):
        return None
    share = (len(parts) - len(different)) / len(parts)
    if most is not None and share > most:
        return Dropped(f"duplicate_{what}s", f"{share:.3f} of them, at most {most}")
    share = (sum(map(len, parts)) - sum(map(len, different))) / length
    if most_letters is not None and share > most_letters:
        detail = f"{share:.3f} of the characters, at most {most_letters}"
        return Dropped(f"duplicate_{what}_letters", detail)
    return None


class _Grams:
    """All sequences of some number of words in a text of N words.

    In a script without spaces between words, where each letter is one, a sequence has as many
    letters as so many words have.
    """

    def __init__(self, words: Words) -> None:
        self._hashes = np.ascontiguousarray(words.hashes)
        self._ends = np.zeros(len(words) + 1, dtype=np.int64)
        np.cumsum(words.lengths, out=self._ends[1:])
        self._scale = words.letters_a_word or 1.0
        self._keys, self._size = self._hashes, 1
        self.space = 0 if words.letters_a_word else 1
        """Characters between words."""

    def size(self, number: int) -> int:
        """Length in entries of a sequence of so many words."""
        return round(number * self._scale)

    def keys(self, size: int) -> NDArray[np.uint64]:
        """Of each sequence a number, the same for the same one, [max(N - size + 1, 0)]."""
        if size < self._size:
            self._keys, self._size = self._hashes, 1
        while self._size < size and len(self._keys):
            self._keys = self._keys[:-1] * _MULTIPLIER + self._hashes[self._size :]
            self._size += 1
        return self._keys

    def letters(self, size: int) -> NDArray[np.int64]:
        """Characters of each sequence, without the spaces."""
        return self._ends[size:] - self._ends[:-size]

    def covered(self, places: NDArray[np.int64], size: int) -> int:
        """Characters that are in any of the sequences that start at some different places."""
        steps = np.zeros(len(self._ends), dtype=np.int64)
        steps[places] = 1
        steps[places + size] -= 1
        inside = np.cumsum(steps[:-1]) > 0
        return int(np.diff(self._ends).sum(where=inside))


def _top_ngram(grams: _Grams, length: int, most: Mapping[int, float]) -> Dropped | None:
    # No sequence is there more often than the most frequent shorter one.
    often: int | None = None
    for number, share in sorted(most.items()):
        size, spaces = grams.size(number), grams.space * (number - 1)
        keys = grams.keys(size)
        if not len(keys):
            return None
        letters = grams.letters(size)
        longest = int(letters.max()) + spaces
        if often is not None and often * longest / length <= share:
            continue
        ordered = np.sort(keys)
        changes = (ordered[1:] != ordered[:-1]).nonzero()[0] + 1
        starts = np.concatenate(([0], changes, [len(keys)]))
        counts = starts[1:] - starts[:-1]
        often = int(counts.max())
        if often * longest / length <= share:
            continue
        first = (
            int(np.isin(keys, ordered[starts[:-1][counts == often]]).argmax()) if often > 1 else 0
        )
        found = often * (int(letters[first]) + spaces) / length
        if found > share:
            detail = f"{often:,} times, {found:.3f} of the characters, at most {share}"
            return Dropped(f"top_{number}_gram", detail)
    return None


def _duplicate_ngrams(grams: _Grams, length: int, most: Mapping[int, float]) -> Dropped | None:
    # What a repeated sequence covers is covered by repeated shorter ones.
    covered: int | None = None
    least_share = min(most.values(), default=1.0)
    for number, share in sorted(most.items()):
        if covered is not None and covered / length <= share:
            continue
        size = grams.size(number)
        keys = grams.keys(size)
        if not len(keys):
            return None
        letters = grams.letters(size)
        if covered is None:
            ordered = np.sort(keys)
            repeats = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
            if repeats * int(letters.max()) / length <= least_share:
                return None
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        covered = grams.covered(order[same + 1], size)
        if covered / length <= share:
            continue
        places = np.union1d(order[same], order[same + 1])
        found = _repeated_letters(keys, letters, places, size) / length
        if found > share:
            detail = f"{found:.3f} of the characters, at most {share}"
            return Dropped(f"duplicate_{number}_grams", detail)
    return None


def _repeated_letters(
    keys: NDArray[np.uint64], letters: NDArray[np.int64], places: NDArray[np.int64], size: int
) -> int:
    """Characters of sequences that were there before, one after the other and without overlap.

    Args:
        places: of all sequences that are there more than once.
        size: entries of a sequence.
    """
    seen: set[int] = set()
    found = after = 0
    for place, key, length in zip(
        places.tolist(), keys[places].tolist(), letters[places].tolist(), strict=True
    ):
        if place < after:
            continue
        if key in seen:
            found += length
            after = place + size
        else:
            seen.add(key)
    return found
