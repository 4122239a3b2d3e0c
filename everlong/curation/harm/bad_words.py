"""Keeps out documents by lists of slurs and gross insults, in fourteen languages.

C4 dropped every page with one listed word (Raffel et al. 2020, "Exploring the Limits of Transfer
Learning", section 2.2), by a list on which there is much that insults nobody, and so lost texts
about sexuality and by minorities (Dodge et al. 2021, "Documenting Large Webtext Corpora", section
5.3). So the lists of :mod:`everlong.curation.harm.bad_word_lists` are short, have no name that a
group gives itself, and a long document may have a few of their words: a novel that quotes is no
pamphlet.

A list knows no context. Who quotes a slur, studies it or takes it back says it as well; hate in
other words, in another spelling or in a language without a list passes. Of the tweets that people
called hateful, which :mod:`everlong.curation.harm.toxicity` finds 71 % of, the English list finds
35 %, 6 % of the offensive ones, and 1.1 % of those that are neither. Of 22,000 sentences of news
and pages of manuals in the fourteen languages the lists drop none; they were settled with these at
hand. How much the other lists find is not measured: there were no labelled texts to do it with.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from everlong.curation.document import Document, Dropped
from everlong.curation.harm.bad_word_lists import WORDS
from everlong.curation.language.codes import canonical, is_canonical
from everlong.errors import ConfigError, MissingDataError
from everlong.files import sha256_file

_MARKS = re.compile("[\u0300-\u036f\u0640\u064b-\u065f]+")
"""Accents, and what Arabic may write or leave: vowels, and the stretch of a word."""
_LETTER = r"[\w\u0900-\u0963]"
"""Of a word; the vowels of Devanagari are no letters for ``\\w``."""
_UNSPACED = frozenset(("zh", "ja", "th", "lo", "km", "my"))
"""Languages that do not part their words: a listed word may be anywhere."""
_PREFIXES = {"ar": "[وف]?[بكل]?(?:ال|لل)?"}
"""What is written together with the word behind it."""
_MOST_BYTES = 1 << 20
"""Of a file of words."""


@dataclass(frozen=True)
class BadWords:
    """Drops a document with too many listed words for its length.

    How many there are is in the metadata as ``bad_words``; None: its language, which is what a step
    before has told, else what its file or record states, has no list. Why it was dropped tells how
    many there are, and none of them.
    """

    kind: Literal["bad_words"] = "bad_words"
    letters: int | None = 4000
    """Letters that a text must have for each listed word: one is enough to drop a shorter text.
    None: one is enough for any, as in C4."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Own lists by language, ``{de: ./words.txt}``: on each line a word or phrase, with ``*`` at
    its end for any ending; in the place of what comes with the package."""
    languages: tuple[str, ...] = ()
    """Only documents in these are looked at; empty: in all that have a list."""

    def __post_init__(self) -> None:
        if self.letters is not None and self.letters < 1:
            raise ConfigError(
                f"letters is {self.letters}; give 1 or more, or null: one word drops any text"
            )
        for name, codes in (("files", self.files), ("languages", self.languages)):
            for code in codes:
                if not is_canonical(code):
                    told = canonical(code)
                    hint = f"here it is called {told}" if is_canonical(told) else "give such as de"
                    raise ConfigError(f"{name} has {code!r}, which is no language; {hint}")
        if without := sorted(set(self.languages) - {*WORDS, *self.files}):
            raise ConfigError(
                f"languages has {', '.join(without)}, without a list; give one in files, or some "
                f"of {', '.join(WORDS)}"
            )

    def prepare(self) -> None:
        """Read the lists.

        Raises:
            MissingDataError: a file is not there.
            ConfigError: it is not in UTF-8, too large, or has no word.
        """
        for language in self._languages():
            self._pattern(language)

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return {language: sha256_file(_there(path)) for language, path in self.files.items()}

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`."""
        language = document.language
        if language is None or language not in self._languages():
            document.metadata["bad_words"] = None
            return None
        found = self.count(document.text, language)
        document.metadata["bad_words"] = found
        if not found or (self.letters is not None and found * self.letters <= len(document.text)):
            return None
        told = f"{found} in {len(document.text):,} letters, by the list of {language}"
        return Dropped("bad_words", told)

    def count(self, text: str, language: str) -> int:
        """How many listed words of a language a text has; phrases count once."""
        return sum(1 for _ in self._pattern(language).finditer(_plain(text)))

    def _languages(self) -> Collection[str]:
        return self.languages or {*WORDS, *self.files}

    def _pattern(self, language: str) -> re.Pattern[str]:
        path = self.files.get(language)
        return _of_package(language) if path is None else _of_file(language, path)


def _plain(text: str) -> str:
    """In lower case, without accents, as words are looked for."""
    if text.isascii():
        return text.lower()
    # The I without a dot of Turkish has the large letter of the one with it.
    return _MARKS.sub("", unicodedata.normalize("NFKD", text)).casefold().replace("ı", "i")


@functools.cache
def _of_package(language: str) -> re.Pattern[str]:
    return _any_of(language, WORDS[language].split(","))


@functools.lru_cache(maxsize=64)
def _of_file(language: str, path: Path) -> re.Pattern[str]:
    """Raises as :meth:`BadWords.prepare`."""
    if (size := _there(path).stat().st_size) > _MOST_BYTES:
        raise ConfigError(f"{path} has {size:,} bytes; a list of words has {_MOST_BYTES:,} at most")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}; save it in UTF-8") from None
    if not any(line.strip(" *\t") for line in lines):
        raise ConfigError(f"{path} has no word; write one on each line")
    return _any_of(language, lines)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; change the files of bad_words")
    return path


def _any_of(language: str, terms: Iterable[str]) -> re.Pattern[str]:
    """What finds any of some terms, the longest that is there."""
    every = {_plain(term).strip() for term in terms} - {"", "*"}
    plain = sorted(every, key=lambda term: (-len(term), term))
    if language in _UNSPACED:
        return re.compile("|".join(re.escape(term.rstrip("*")) for term in plain))
    ways = []
    for term in plain:
        words = r"\W+".join(map(re.escape, term.rstrip("*").split()))
        ways.append(words if term.endswith("*") else f"{words}(?!{_LETTER})")
    prefix = _PREFIXES.get(language, "")
    return re.compile(f"(?<!{_LETTER}){prefix}(?:{'|'.join(ways)})")
