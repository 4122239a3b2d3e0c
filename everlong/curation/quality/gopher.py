"""Gopher's rules of quality: what is no running text is dropped.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher", appendix A.1, "Quality Filtering". Where the paper leaves open what a word is, datatrove
0.10 is followed: punctuation is one, but neither counts as a word of a document nor in the mean
length of its words.

The rules were made for English; stop words are those of a document's language. A document in a
script without spaces between words has no lengths of words that could be compared, so these two
rules do not look at it; its words are estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from everlong.curation.document import Document, Dropped
from everlong.curation.quality.stop_words import STOP_WORDS
from everlong.curation.quality.words import Words, words_of
from everlong.errors import ConfigError

BULLETS = ("•", "-")
ELLIPSES = ("...", "…")


@dataclass(frozen=True)
class GopherQuality:
    """Drops documents that are too short or long, or not made of sentences.

    A rule whose value is None is not applied.
    """

    kind: Literal["gopher_quality"] = "gopher_quality"
    min_words: int | None = 50
    """Words, without those that are all punctuation."""
    max_words: int | None = 100_000
    min_mean_word_length: float | None = 3
    """Characters."""
    max_mean_word_length: float | None = 10
    max_symbols_a_word: float | None = 0.1
    """Number signs, and ellipses, for each word."""
    max_bullet_lines: float | None = 0.9
    """Share of the lines that start with a bullet or a hyphen."""
    max_ellipsis_lines: float | None = 0.3
    """Share of the lines that end with an ellipsis."""
    min_words_with_letter: float | None = 0.8
    """Share of the words, punctuation included, in which there is a letter. Direct speech and lists
    are close to it: a novel has between 0.78 and 0.89."""
    min_stop_words: int | None = 2
    """So many different ones of the stop words of its language."""
    stop_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Own ones by language, in the place of those that
    :mod:`everlong.curation.quality.stop_words` has of 107 languages. A document in a language
    without any needs none; one whose language is not known is taken for English, as all were in
    the paper."""

    def __post_init__(self) -> None:
        for name in (
            "min_words",
            "max_words",
            "min_mean_word_length",
            "max_mean_word_length",
            "max_symbols_a_word",
            "min_stop_words",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} is 0 or more, or null, not {value}")
        for name in ("max_bullet_lines", "max_ellipsis_lines", "min_words_with_letter"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, or null, not {value}")
        for name in ("words", "mean_word_length"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ConfigError(f"min_{name} is {least}, more than max_{name}, which is {most}")
        for language, words in self.stop_words.items():
            if self.min_stop_words is not None and len(set(words)) < self.min_stop_words:
                raise ConfigError(
                    f"stop_words has {len(set(words))} for {language!r}, fewer than "
                    f"min_stop_words, which is {self.min_stop_words}: no document would be kept"
                )

    def __call__(self, document: Document) -> Dropped | None:
        words = words_of(document.text)
        return (
            self._by_number(words)
            or self._by_length(words)
            or self._by_symbols(document.text, words)
            or self._by_lines(document.text)
            or self._by_letters(words)
            or self._by_stop_words(document.language or "en", words)
        )

    def _by_number(self, words: Words) -> Dropped | None:
        number = words.without_symbols
        if self.min_words is not None and number < self.min_words:
            return Dropped("few_words", f"{number:,.0f} words, at least {self.min_words:,}")
        if self.max_words is not None and number > self.max_words:
            return Dropped("many_words", f"{number:,.0f} words, at most {self.max_words:,}")
        return None

    def _by_length(self, words: Words) -> Dropped | None:
        if words.letters_a_word is not None:
            return None
        mean = words.mean_length
        if self.min_mean_word_length is not None and mean < self.min_mean_word_length:
            detail = f"{mean:.2f} letters a word, at least {self.min_mean_word_length}"
            return Dropped("short_words", detail)
        if self.max_mean_word_length is not None and mean > self.max_mean_word_length:
            detail = f"{mean:.2f} letters a word, at most {self.max_mean_word_length}"
            return Dropped("long_words", detail)
        return None

    def _by_symbols(self, text: str, words: Words) -> Dropped | None:
        if (most := self.max_symbols_a_word) is None or not len(words):
            return None
        for rule, signs in (("number_signs", ("#",)), ("ellipses", ELLIPSES)):
            found = sum(map(text.count, signs)) / words.number
            if found > most:
                return Dropped(rule, f"{found:.3f} for each word, at most {most}")
        return None

    def _by_lines(self, text: str) -> Dropped | None:
        # Lines need not be looked at where there are too few signs for the rule.
        fewest_lines = max(text.count("\n"), 1)
        most = self.max_bullet_lines
        if most is not None and sum(map(text.count, BULLETS)) > most * fewest_lines:
            lines = text.splitlines()
            found = sum(line.lstrip().startswith(BULLETS) for line in lines) / len(lines)
            if found > most:
                return Dropped("bullet_lines", f"{found:.3f} of the lines, at most {most}")
        most = self.max_ellipsis_lines
        if most is not None and sum(map(text.count, ELLIPSES)) > most * fewest_lines:
            lines = text.splitlines()
            found = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / len(lines)
            if found > most:
                return Dropped("ellipsis_lines", f"{found:.3f} of the lines, at most {most}")
        return None

    def _by_letters(self, words: Words) -> Dropped | None:
        if (least := self.min_words_with_letter) is None or not len(words):
            return None
        found = words.with_letter / words.number
        if found < least:
            return Dropped("words_without_letter", f"{found:.3f} have one, at least {least}")
        return None

    def _by_stop_words(self, language: str, words: Words) -> Dropped | None:
        least = self.min_stop_words
        stop_words = self.stop_words.get(language, STOP_WORDS.get(language))
        if least is None or stop_words is None:
            return None
        found = 0
        for word in dict.fromkeys(stop_words):
            if found >= least:
                return None
            found += words.has_word(word)
        if found < least:
            return Dropped("few_stop_words", f"{found} different ones, at least {least}")
        return None
