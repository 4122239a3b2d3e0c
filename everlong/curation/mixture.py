"""How much of a training run each part of a corpus gives.

What there is most of is not what a model should read most of: small languages and sources get more
than their share by a temperature (Devlin et al., 2019, multilingual BERT; Conneau et al., 2020,
section 3.1), and no part is read so often that it is learned by heart.

Within a part, some documents may be read more often than others, by a score in their metadata: they
are sorted into bands, each with its repeats. Olmo 3 does that with web text instead of dropping
what is below a threshold: the worst two fifths are left out, the best twentieth is read seven times
(Olmo Team, 2025, section 3.4.4). Here the score is one that a step or the source of the documents
gave, and how the repeats rise is written in the recipe.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from everlong.curation.document import Document, Plain
from everlong.errors import ConfigError

NO_LANGUAGE = "unknown"
"""The part of documents whose language nothing tells."""
K = TypeVar("K")
_MOST_BANDS = 20
"""Each is a folder of token shards, of which all are written at once."""
_LEAST_TEMPERATURE = 0.1
"""Then of two parts one of which is ten times the other it gets ten thousand million times as much;
the powers of what is smaller could be too large for a number."""


@dataclass(frozen=True)
class Quality:
    """Which documents of a part are read more often than others."""

    field: str
    """Of the documents' metadata, with a number: a step wrote it, or it came with them."""
    repeats: tuple[float, ...] = (1, 2, 4)
    """How often each band is read, that with the lowest scores first; 0 leaves one out. Bands have
    about as many letters, and documents with the same score are in the same one. If the mixture's
    ``letters``, weights and temperature say nothing else, it is just so often, else next to one
    another. Documents without a number are read as often as the bands are on average."""

    def __post_init__(self) -> None:
        if not self.field:
            raise ConfigError("quality.field is empty; name a field of the documents' metadata")
        if not 2 <= len(self.repeats) <= _MOST_BANDS:
            raise ConfigError(
                f"quality.repeats has {len(self.repeats)} numbers; give 2 to {_MOST_BANDS}, one "
                "for each band"
            )
        if not all(0 <= one < math.inf for one in self.repeats) or not any(self.repeats):
            raise ConfigError(
                f"quality.repeats are 0 or more, and one is above 0, not {list(self.repeats)}"
            )


@dataclass(frozen=True)
class Mixture:
    """What is wanted."""

    by: Literal["source", "language"] = "source"
    """What the parts are."""
    temperature: float = 1
    """A part of n letters gets a share in proportion to n to the power of 1 / temperature: above 1
    small ones get more. 0.1 or more."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Times this, for parts that are named. One of which nothing is kept gives nothing."""
    letters: int | None = None
    """That the training run reads; None: as many as there are, repeats counted."""
    most_epochs: float = 4
    """No part is read more often: up to four times repeated text is nearly as good as new
    (Muennighoff et al., 2023). What would be read more often is given to the others; of a band to
    the others of its part, as far as they can take it."""
    quality: Quality | None = None
    """None: all documents of a part are read as often."""

    def __post_init__(self) -> None:
        if not self.temperature >= _LEAST_TEMPERATURE:
            raise ConfigError(
                f"temperature is {_LEAST_TEMPERATURE} or more, not {self.temperature}; with that "
                "the largest part gets nearly all"
            )
        if not self.most_epochs > 0:
            raise ConfigError(f"most_epochs is above 0, not {self.most_epochs}")
        if wrong := [
            f"{name}: {weight}"
            for name, weight in self.weights.items()
            if not 0 <= weight < math.inf
        ]:
            raise ConfigError(f"weights are numbers of 0 or more, not {', '.join(wrong)}")
        if self.letters is not None and self.letters < 1:
            raise ConfigError(f"letters is 1 or more, not {self.letters}")
        if self.quality is not None and max(self.quality.repeats) > self.most_epochs:
            raise ConfigError(
                f"quality.repeats are at most most_epochs, which is {self.most_epochs:g}, not "
                f"{list(self.quality.repeats)}; change one of them"
            )


@dataclass(frozen=True)
class Band:
    """Documents of a part that are read as often."""

    number: int | None
    """From 1, the lowest scores; None: those without a score."""
    least: float | None
    """The lowest score; None: those without one."""
    letters: int
    repeats: float


@dataclass(frozen=True)
class Part:
    """A part of the corpus, or a band of one."""

    name: str
    """Such as ``web``; of bands ``web/1``, ``web/2`` and ``web/unscored``."""
    letters: int
    share: float
    """Of the letters that a training run reads."""
    epochs: float
    """How often all of it is read."""
    of: str
    """The part, if this is a band of one; else the name."""
    least: float | None = None
    """The lowest score of a band, if it has scores."""


def name_of(mixture: Mixture, source: str, language: str | None) -> str:
    """The part that a document belongs to."""
    return source if mixture.by == "source" else language or NO_LANGUAGE


def bands_of(mixture: Mixture, documents: Iterable[Document]) -> dict[str, list[Band]]:
    """The bands of each part, from the lowest scores on, unscored documents last; none if the
    mixture has no ``quality``.

    Args:
        mixture: what is wanted.
        documents: all of the corpus; 16 bytes of each are kept.

    Raises:
        ConfigError: no document has a score.
    """
    if (quality := mixture.quality) is None:
        return {}
    scores: dict[str, tuple[array[float], array[int]]] = {}
    unscored: Counter[str] = Counter()
    others: set[str] = set()
    for document in documents:
        part = name_of(mixture, document.source, document.language)
        letters, score = len(document.text), _number(document.metadata.get(quality.field))
        if score is not None:
            of, sizes = scores.setdefault(part, (array("d"), array("q")))
            of.append(score)
            sizes.append(letters)
            continue
        unscored[part] += letters
        if not scores:
            others.update(n for n, v in document.metadata.items() if _number(v) is not None)
    if not scores:
        raise ConfigError(
            f"mixture.quality.field is {quality.field!r}, and no document has a number there; "
            f"there are numbers in: {', '.join(sorted(others)) or 'no field'}"
        )
    found = {part: _bands(quality.repeats, *of) for part, of in scores.items()}
    mean = sum(quality.repeats) / len(quality.repeats)
    for part, size in unscored.items():
        found.setdefault(part, []).append(Band(None, None, size, mean))
    return {part: [band for band in bands if band.letters] for part, bands in found.items()}


def _bands(repeats: Sequence[float], scores: array[float], letters: array[int]) -> list[Band]:
    """Bands with about as many letters each; of many documents with the same score there may be
    fewer bands than repeats."""
    values, which = np.unique(np.frombuffer(scores), return_inverse=True)
    sizes = np.zeros(len(values), dtype=np.int64)
    np.add.at(sizes, which, np.frombuffer(letters, dtype=np.int64))
    ends = sizes.cumsum()
    total, count = max(1, int(ends[-1])), len(repeats)
    # By the middle of what has the same score: if that is all, it is in the middle band.
    bands = np.minimum((2 * ends - sizes) * count // (2 * total), count - 1)
    found = []
    for number in np.unique(bands).tolist():
        here = bands == number
        least, size = float(values[here][0]), int(sizes[here].sum())
        found.append(Band(number + 1, least, size, repeats[number]))
    return found


def _number(value: Plain) -> float | None:
    """A score, if that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e300 < value < 1e300 else None  # neither NaN nor infinite


def mixed(
    mixture: Mixture, letters: Mapping[str, int], bands: Mapping[str, Sequence[Band]] | None = None
) -> list[Part]:
    """The parts of a corpus, those first that give most; the bands of each follow one another.

    Args:
        mixture: what is wanted.
        letters: of each part.
        bands: of each part, from :func:`bands_of`; None or empty: there are none.

    Raises:
        ConfigError: it leaves nothing.
    """
    there = {
        name: bands[name] if bands else [Band(None, None, size, 1)]
        for name, size in sorted(letters.items())
        if size
    }
    # What is repeated counts as often, what is left out does not.
    sizes = {name: sum(one.repeats * one.letters for one in some) for name, some in there.items()}
    most = {
        name: mixture.most_epochs * sum(one.letters for one in some if one.repeats)
        for name, some in there.items()
    }
    wanted = {
        name: mixture.weights.get(name, 1) * size ** (1 / mixture.temperature)
        for name, size in sizes.items()
    }
    if not sum(wanted.values()):
        raise ConfigError("the mixture leaves nothing; give a part weights and repeats above 0")
    read = _dealt(mixture.letters or sum(sizes.values()), wanted, most)
    whole = sum(read.values())
    parts = []
    for name in sorted(there, key=lambda name: (-read.get(name, 0) / whole, name)):
        each = _dealt(
            read.get(name, 0),
            {band: band.repeats * band.letters for band in there[name]},
            {band: mixture.most_epochs * band.letters for band in there[name]},
        )
        for band in there[name]:
            label = "unscored" if band.number is None else str(band.number)
            label = name if mixture.quality is None else f"{name}/{label}"
            share, epochs = each.get(band, 0) / whole, each.get(band, 0) / band.letters
            parts.append(Part(label, band.letters, share, epochs, name, band.least))
    return parts


def _dealt(total: float, wanted: Mapping[K, float], most: Mapping[K, float]) -> dict[K, float]:
    """What each gives of a total: so much as is wanted of it next to the others.

    None gives more than its most; the others do then, if they can.
    """
    given: dict[K, float] = {}
    free = {name: weight for name, weight in wanted.items() if weight}
    while free:
        left, weights = max(0, total - sum(given.values())), sum(free.values())
        asked = {name: left * (weight / weights) for name, weight in free.items()}
        full = [name for name, much in asked.items() if much > most[name]]
        if not full:
            return given | asked
        for name in full:
            given[name] = most[name]
            del free[name]
    return given


def part_finder(mixture: Mixture, parts: Sequence[Part]) -> Callable[[Document], str | None]:
    """What tells the name of the part, or of the band, that a document belongs to.

    Args:
        mixture: what is wanted.
        parts: of the corpus, as :func:`mixed` made them.

    Returns:
        A function; it says None of a document of a part that has no letters.
    """
    if (quality := mixture.quality) is None:
        names = {part.name for part in parts}

        def whole(document: Document) -> str | None:
            name = name_of(mixture, document.source, document.language)
            return name if name in names else None

        return whole
    unscored = {part.of: part.name for part in parts if part.least is None}
    scored: dict[str, list[tuple[float, str]]] = {}
    for part in parts:
        if part.least is not None:
            insort(scored.setdefault(part.of, []), (part.least, part.name))

    def band(document: Document) -> str | None:
        of = name_of(mixture, document.source, document.language)
        score = _number(document.metadata.get(quality.field))
        if score is None or of not in scored:
            return unscored.get(of)
        place = bisect_right(scored[of], score, key=lambda one: one[0])
        return scored[of][max(0, place - 1)][1]

    return band
