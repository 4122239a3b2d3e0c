"""Noisy copies of documents, as people type and scanners read.

A model that has only seen clean text fails on misspelt questions. Of each document a part of the
words is changed: letters swapped, left out, doubled, or replaced by a neighbour on the keyboard
(Belinkov and Bisk 2018, "Synthetic and natural noise both break neural machine translation",
section 3), and words are left out or swapped (Wei and Zou 2019, "EDA", section 2).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from everlong.curation.augmentation.made import drawing, is_made, made
from everlong.curation.document import Document
from everlong.errors import ConfigError

_WORD = re.compile(r"\w+|\W+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}
"""Left and right of a key."""
_SHORTEST = 3
"""Letters of a word in which something is mistyped."""


@dataclass(frozen=True)
class Noise:
    """Makes copies of documents with mistakes in them."""

    kind: Literal["noise"] = "noise"
    sources: tuple[str, ...] = ()
    """Names of the sources whose documents are copied; empty: all."""
    copies: int = 1
    """Of each document."""
    mistyped: float = 0.05
    """Share of the words with a mistake in their letters, 0 to 1."""
    missing: float = 0.01
    """Share of the words that are left out, 0 to 1."""
    swapped: float = 0.01
    """Share of the words that change places with the next one, 0 to 1."""
    longest: int = 20_000
    """Letters of a document; longer ones are not copied."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("mistyped", "missing", "swapped")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} is {share}; give 0 to 1")
        if not any(shares.values()):
            raise ConfigError("mistyped, missing and swapped are all 0; copies would be equal")
        if self.copies < 1 or self.longest < 1:
            raise ConfigError(f"copies is {self.copies} and longest {self.longest}; give 1 or more")

    def make(self, document: Document) -> Iterator[Document]:
        """See :class:`everlong.curation.step.MakingStep`."""
        chosen = not self.sources or document.source in self.sources
        if not chosen or is_made(document) or len(document.text) > self.longest:
            return
        draw = drawing(document, self.kind, self.seed)
        for number in range(self.copies):
            text = self._noisy(document.text, draw)
            if text != document.text:
                yield made(document, self.kind, self.seed, str(number), text)

    def _noisy(self, text: str, draw: random.Random) -> str:
        parts = _WORD.findall(text)
        # What is not a word stays where it is, so that lines and marks are as they were.
        places = [place for place, part in enumerate(parts) if part[0].isalnum()]
        words: list[str] = []
        at = 0
        while at < len(places):
            word = parts[places[at]]
            if draw.random() < self.missing:
                word = ""
            elif draw.random() < self.swapped and at + 1 < len(places):
                words.append(parts[places[at + 1]])
                at += 1
            elif draw.random() < self.mistyped and len(word) >= _SHORTEST and word.isalpha():
                word = draw.choice(_MISTAKES)(word, draw)
            words.append(word)
            at += 1
        for place, word in zip(places, words, strict=True):
            parts[place] = word
        return "".join(parts)


def _swap(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _leave_out(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word))
    return word[:place] + word[place + 1 :]


def _double(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word))
    return word[:place] + word[place] + word[place:]


def _beside(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word))
    near = _BESIDE.get(word[place].lower())
    if near is None:
        return _swap(word, draw)
    letter = draw.choice(near)
    return word[:place] + (letter.upper() if word[place].isupper() else letter) + word[place + 1 :]


_MISTAKES: Sequence[Callable[[str, random.Random], str]] = (_swap, _leave_out, _double, _beside)
