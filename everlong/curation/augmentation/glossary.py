"""Glossaries of documents: the terms that they define or shorten, and those of a list.

A short form in brackets behind its long form is found by the letters that they share, from the end
(Schwartz and Hearst 2003, "A simple algorithm for identifying abbreviation definitions in
biomedical text", section 3).
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from everlong.curation.augmentation.made import drawing, is_made, made, title_of
from everlong.curation.augmentation.structure import definitions
from everlong.curation.document import Document
from everlong.curation.step import named_file
from everlong.errors import ConfigError
from everlong.files import sha256_file

_SHORT_FORM = re.compile(r" \(([A-Za-z][\w-]{1,9})\)")
_PHRASE_END = re.compile(r"[^\w '’/-]")
_BEFORE = 200
"""Letters in which a long form is looked for."""
_WORD = re.compile(r"\w[\w'’-]*")
_NAMED = "glossary's terms"
"""Where a list is named."""
_MOST_WORDS = 5
"""Of a term in a list."""


@dataclass(frozen=True)
class Glossary:
    """Makes a glossary of the terms that a document explains, or that a list explains for it."""

    kind: Literal["glossary"] = "glossary"
    sources: tuple[str, ...] = ()
    """Names of the sources whose documents get one; empty: all."""
    terms: Path | None = None
    """A list: ``.tsv``, on each line a term and what it means; terms have up to five words."""
    fewest: int = 2
    """Terms of a glossary; a document with fewer gets none."""
    most: int = 50
    """If there are more, these are drawn."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most:
            raise ConfigError(
                f"fewest is {self.fewest} and most {self.most}; give 1 <= fewest <= most"
            )

    def prepare(self) -> None:
        """Read the list.

        Raises:
            MissingDataError: it is not there.
            ConfigError: it is not in UTF-8, or a line of it has no term and meaning.
        """
        if self.terms is not None:
            _terms(self.terms)

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return {} if self.terms is None else {"terms": sha256_file(named_file(self.terms, _NAMED))}

    def make(self, document: Document) -> Iterator[Document]:
        """See :class:`everlong.curation.step.MakingStep`.

        Raises:
            ConfigError: see :meth:`prepare`.
        """
        if is_made(document) or (self.sources and document.source not in self.sources):
            return
        meanings: dict[str, tuple[str, str]] = {}
        for long_form, short in short_forms(document.text):
            meanings.setdefault(short.lower(), (short, long_form))
        for one in definitions(document.text):
            meanings.setdefault(one.term.lower(), (one.term, one.sentence))
        if self.terms is not None:
            for term, meaning in _of_list(document.text, _terms(self.terms)):
                meanings.setdefault(term.lower(), (term, meaning))
        if len(meanings) < self.fewest:
            return
        draw = drawing(document, self.kind, self.seed)
        names = sorted(draw.sample(sorted(meanings), min(self.most, len(meanings))))
        title = title_of(document)
        heading = f"# Glossary of {title}" if title else "# Glossary"
        entries = (f"**{meanings[name][0]}**: {meanings[name][1]}" for name in names)
        yield made(document, self.kind, self.seed, "0", "\n\n".join((heading, *entries)))


def short_forms(text: str) -> Iterator[tuple[str, str]]:
    """Long forms with the short forms that stand for them, in order."""
    for found in _SHORT_FORM.finditer(text):
        short = found[1]
        if not any(sign.isupper() for sign in short):
            continue
        before = text[max(0, found.start() - _BEFORE) : found.start()]
        words = _PHRASE_END.split(before)[-1].split()[-min(len(short) + 5, 2 * len(short)) :]
        long_form = _long_form(short, " ".join(words))
        if long_form is not None:
            yield long_form, short


def _long_form(short: str, before: str) -> str | None:
    """The end of what is before that has all letters of the short form, in their order."""
    place = len(before)
    for number, letter in enumerate(reversed(short.lower())):
        if not letter.isalnum():
            continue
        last = number == len(short) - 1
        while True:
            place -= 1
            if place < 0:
                return None
            if before[place].lower() == letter and (
                not last or place == 0 or not before[place - 1].isalnum()
            ):
                break
    return before[place:] if len(before[place:]) > len(short) else None


def _of_list(text: str, terms: dict[str, tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The terms of a list that are in a text; of two that begin alike the longer one."""
    words = [found[0].lower() for found in _WORD.finditer(text)]
    at = 0
    while at < len(words):
        for size in range(min(_MOST_WORDS, len(words) - at), 0, -1):
            if (known := terms.get(" ".join(words[at : at + size]))) is not None:
                yield known
                at += size
                break
        else:
            at += 1


@functools.lru_cache(maxsize=4)
def _terms(path: Path) -> dict[str, tuple[str, str]]:
    """Terms and meanings by the words of the term; raises as :meth:`Glossary.prepare`."""
    found: dict[str, tuple[str, str]] = {}
    try:
        with named_file(path, _NAMED).open(encoding="utf-8", newline="") as lines:
            rows = [*csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; save it in UTF-8, with a term and its meaning on "
            "each line"
        ) from None
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            raise ConfigError(f"{path}, line {number}: needs a term, a tab, and its meaning")
        words = [one[0].lower() for one in _WORD.finditer(row[0])]
        found.setdefault(" ".join(words), (row[0].strip(), row[1].strip()))
    return found
