"""C4's rules of quality: lines that are no sentences are removed, and documents that have few left.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.2, in the order of its published code, as datatrove 0.10 has it: a document
is dropped for what is in a line that the rules before have kept. The list of bad words is not here;
toxicity has a step of its own.

C4 is English. Where a document is known to be in another language, the punctuation of all scripts
ends a line, and lines in a script that has none are taken as they are. mC4 (Xue et al. 2021,
section 3.1) gave the rule up for that reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from everlong.curation.document import Changed, Document, Dropped
from everlong.curation.quality.words import (
    SENTENCE_ENDS,
    WITHOUT_SENTENCE_ENDS,
    PieceTable,
    split_piece,
    without_unspaced,
    words_worth,
)
from everlong.errors import ConfigError

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_LINE_ENDS = frozenset(".?!\"'")
_LINE_ENDS_ELSEWHERE = _LINE_ENDS | SENTENCE_ENDS | WITHOUT_SENTENCE_ENDS | frozenset("”’»」』")


@dataclass(frozen=True)
class C4Quality:
    """Removes lines, and drops documents that have too few sentences left or are no text at all.

    What was removed is in the document's history, by rule. A rule whose value is None or false is
    not applied.
    """

    kind: Literal["c4_quality"] = "c4_quality"
    max_word_length: int | None = 1000
    """Lines with a longer word are removed; in characters."""
    citations: bool = True
    """Remove ``[1]``, ``[edit]`` and ``[citation needed]``."""
    line_ends: bool = True
    """Lines are removed that do not end with a full stop, question mark, exclamation mark or
    quotation mark, or that end with an ellipsis."""
    min_words_a_line: int | None = 3
    """Lines with fewer are removed; here a word is what is between spaces."""
    lorem_ipsum: bool = True
    """Drop documents with this placeholder."""
    javascript: bool = True
    """Remove lines that name it: most ask to turn it on."""
    curly_bracket: bool = True
    """Drop documents with ``{``: most are code."""
    policy: bool = True
    """Remove lines on terms of use, privacy and cookies."""
    min_sentences: int | None = 5
    """Documents with fewer are dropped."""

    def __post_init__(self) -> None:
        for name in ("max_word_length", "min_words_a_line", "min_sentences"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} is 0 or more, or null, not {value}")

    def __call__(self, document: Document) -> Dropped | None:
        text = document.text
        lowered = text.lower()
        # Found in few documents; what is not in the text is in no line of it.
        lorem_ipsum = self.lorem_ipsum and "lorem ipsum" in lowered
        javascript = self.javascript and "javascript" in lowered
        policy = self.policy and any(phrase in lowered for phrase in _POLICIES)
        curly_bracket = self.curly_bracket and "{" in text
        citations = self.citations and "[" in text
        ends = _LINE_ENDS if document.language in (None, "en") else _LINE_ENDS_ELSEWHERE
        kept: list[str] = []
        changes: Counter[str] = Counter()
        for line in text.splitlines():
            bare, count = line.strip(), 0
            if self._has_long_word(bare):
                changes["long_word"] += 1
                continue
            if citations:
                bare, count = _CITATION.subn("", bare)
            if self.line_ends and (bare[-1:] not in ends or bare.endswith("...")):
                changes["line_end" if line and not line.isspace() else "white_space"] += 1
                continue
            if self._has_few_words(line):
                changes["few_words"] += 1
                continue
            if lorem_ipsum and "lorem ipsum" in bare.lower():
                return Dropped("lorem_ipsum", "has this placeholder")
            if javascript and "javascript" in bare.lower():
                changes["javascript"] += 1
                continue
            if curly_bracket and "{" in bare:
                return Dropped("curly_bracket", "has one")
            if policy and any(phrase in bare.lower() for phrase in _POLICIES):
                changes["policy"] += 1
                continue
            changes["citations"] += count
            kept.append(bare)
        if dropped := self._by_sentences(kept):
            return dropped
        left = "\n".join(kept).strip()
        if left != text:
            document.text = left
            counts = {rule: count for rule, count in sorted(changes.items()) if count}
            # Line breaks of other kinds, and spaces at the ends of lines, count as one change.
            for rule, count in (counts or {"white_space": 1}).items():
                document.history.append(Changed(self.kind, rule, count))
        return None

    def _has_long_word(self, line: str) -> bool:
        if (longest := self.max_word_length) is None or len(line) <= longest:
            return False
        return any(len(word) > longest for word in without_unspaced(line).split())

    def _has_few_words(self, line: str) -> bool:
        if not (fewest := self.min_words_a_line) or len(line.split(None, fewest)) >= fewest:
            return False
        return line.isascii() or words_worth(line) < fewest

    def _by_sentences(self, lines: list[str]) -> Dropped | None:
        if (fewest := self.min_sentences) is None or len(lines) >= fewest:
            return None if lines else Dropped("few_sentences", "nothing is left")
        if (found := count_sentences(lines, fewest)) < fewest:
            return Dropped("few_sentences", f"{found} are left, at least {fewest}")
        return None


def count_sentences(texts: Iterable[str], enough: int) -> int:
    """Sentences of some texts of one line each, counted up to ``enough``.

    A sentence goes on until a word that is a sentence end, and takes the punctuation after it, as
    spaCy's ``sentencizer`` has it. No text has less than one.
    """
    found = 0
    for text in texts:
        found += 1 + "".join(map(_marks.__getitem__, text.split())).count(_END + _GOES_ON)
        if found >= enough:
            break
    return found


_END, _GOES_ON = "e", "g"


def _marks_of(piece: str) -> str:
    """What the words of a piece are to a sentence: its end, or a part. Punctuation is left out,
    because it does not matter what of it stands between the two."""
    return "".join(map(_mark, split_piece(piece)))


def _mark(word: str) -> str:
    if word in SENTENCE_ENDS:
        return _END
    return "" if all(unicodedata.category(sign)[0] == "P" for sign in word) else _GOES_ON


_marks = PieceTable(_marks_of)
