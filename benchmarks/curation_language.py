"""How often a sentence's language is told right, in each language that can be told.

The sentences are the test part of SIB-200: 204 in each of 205 pairs of a language and a script. The
thresholds and tables of ``everlong/curation/language.py`` were chosen on its other parts. A pair
counts when the first identifier has the language among its labels and knows the script; the others
are listed with the reason, and what their sentences are taken for is not in the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.report import Measured
from everlong.curation.language.codes import canonical
from everlong.curation.language.identification import Identified, first_languages, identify
from everlong.curation.language.scripts import SCRIPTS
from everlong.data.languages import by_language

TEST = Path("sib200", "test.tsv.gz")
ACCURATE = 0.9
"""From here on a language counts as covered."""
_SCRIPTS_OF = {"Hans": ("Hani",), "Hant": ("Hani",), "Jpan": ("Hani", "Hira", "Kana")}
"""Codes of ISO 15924 for several scripts together or for a variant, as letters have them."""


@dataclass(frozen=True)
class OfLanguage:
    """What was measured in one language and script."""

    code: str
    """As SIB-200 has it: ``eng_Latn``."""
    language: str
    """Canonical."""
    excluded: str | None
    """Why it is not in the figures."""
    accuracy: float
    """Share of its sentences that are told right."""
    confident: float
    """Share with a confidence of 0.5 or more, which is what the filter asks for."""
    agreed: float | None
    """Share of which the second identifier says the same; None: it was not asked."""
    accuracy_agreed: float | None
    """Of those, how many are right."""
    told: dict[str, int]
    """Sentences by what they are told to be; ``none`` where nothing is told."""


@dataclass(frozen=True)
class Confusion:
    """A language that is taken for another one."""

    language: str
    told: str
    sentences: int


def measure(
    data_folder: Path,
) -> tuple[dict[str, Measured], list[OfLanguage], list[Confusion]]:
    """Tell the language of every sentence.

    Args:
        data_folder: has ``sib200/test.tsv.gz``.

    Returns:
        The figures by claim; every pair of language and script, the excluded ones included; and
        the confusions among the others, frequent ones first.

    Raises:
        MissingDataError: the data is not there.
    """
    texts = by_language([data_folder / TEST])
    every = [
        _measured(code, [identify(text) for text in sentences])
        for code, sentences in sorted(texts.items())
    ]
    known = [one for one in every if one.excluded is None]
    confusions: Counter[tuple[str, str]] = Counter()
    for one in known:
        for told, count in one.told.items():
            if told != one.language:
                confusions[one.language, told] += count
    return (
        _figures(every, known),
        every,
        [Confusion(*pair, count) for pair, count in confusions.most_common()],
    )


def _figures(every: Sequence[OfLanguage], known: Sequence[OfLanguage]) -> dict[str, Measured]:
    accuracy = 100 * mean(one.accuracy for one in known)
    asked = [one for one in known if one.agreed is not None and one.accuracy_agreed is not None]
    agreed = mean(one.agreed or 0 for one in asked)
    right = sum((one.agreed or 0) * (one.accuracy_agreed or 0) for one in asked) / sum(
        one.agreed or 0 for one in asked
    )
    worst = sorted(known, key=lambda one: one.accuracy)[:8]
    covered = {one.language for one in known if one.accuracy >= ACCURATE}
    languages = {one.language for one in known}
    return {
        "language_accuracy": Measured(
            accuracy,
            f"mean of {len(known)} pairs of language and script, 204 sentences each "
            f"({len(every) - len(known)} of {len(every)} excluded); the second identifier is asked "
            f"in {len(asked)}, agrees on {agreed:.1%} of their sentences, and {right:.1%} of "
            f"these are right; lowest: "
            + ", ".join(f"{one.code} {one.accuracy:.0%}" for one in worst),
        ),
        "languages_covered": Measured(
            float(len(covered)),
            f"of {len(languages)} languages measured, those with {ACCURATE:.0%} of the sentences "
            "right in at least one script",
        ),
    }


def _measured(code: str, found: Sequence[Identified]) -> OfLanguage:
    language = canonical(code)
    told = Counter(one.language or "none" for one in found)
    asked = [one for one in found if one.agreed is not None]
    agreed = [one for one in asked if one.agreed]
    # Whether it is asked depends on what is told; a few strays do not make a figure.
    counts = 2 * len(asked) > len(found)
    return OfLanguage(
        code,
        language,
        _why_excluded(code),
        told[language] / len(found),
        sum(one.confidence >= 0.5 for one in found) / len(found),
        len(agreed) / len(asked) if counts else None,
        sum(one.language == language for one in agreed) / len(agreed)
        if counts and agreed
        else None,
        dict(told.most_common()),
    )


def _why_excluded(code: str) -> str | None:
    language, script = canonical(code), code.partition("_")[2]
    if language not in first_languages():
        return "the first identifier does not know the language"
    if SCRIPTS[language].isdisjoint(_SCRIPTS_OF.get(script, (script,))):
        return "the first identifier does not know the language in this script"
    return None
