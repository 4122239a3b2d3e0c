"""Keeps evaluation sets out of training data.

A document is contaminated where it has 13 words in a row that an evaluation set has, too, whatever
their case, accents, punctuation and white space (Brown et al. 2020, "Language Models are Few-Shot
Learners", appendix C). As there, what is found is cut out with 200 letters on each side, pieces of
fewer than 200 letters go, too, and so do documents that fall into more than ten pieces; runs that
are in more than ten documents are common phrases, which a model may learn. Ours: an item of which
most is in a document is contamination however many documents have it, because benchmarks are copied
often; and texts of 8 to 12 words are looked for as a whole. A question with one of its options is
an item, and so is a text of some length that no other items have, such as a question without its
solution.

It is a step of the whole corpus because of the common phrases. It should come after the duplicates
are gone: copies of one document make a phrase common.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.decontamination.index import (
    LARGE,
    ContaminationIndex,
    Hits,
    Sets,
    names_of,
    opened,
)
from everlong.curation.document import Changed, Document, Dropped
from everlong.curation.step import Hashes, Sketches
from everlong.errors import ConfigError

_WHOLE = 0.8
"""An item is in a document when so much of it is."""
_LONGEST_WORD = 40
"""Where no space is that near, the script has none between words, and a word may be cut."""


@dataclass(frozen=True)
class Decontamination:
    """Cuts out of documents what evaluation sets have, too, or drops these documents."""

    kind: Literal["decontamination"] = "decontamination"
    cuts: ClassVar[bool] = True
    tasks: tuple[str, ...] = ()
    """Of ``everlong eval``, such as ``[gsm8k, boolq]``; all examples that are asked."""
    data: Path | None = None
    """Folder of the tasks' data, as ``everlong eval --data`` has it."""
    files: tuple[Path, ...] = ()
    """Other sets: ``.jsonl``, ``.json``, ``.tsv``, ``.csv``, ``.txt``, packed (``.gz``) or not."""
    action: Literal["cut", "drop"] = "cut"
    """Cut out what is found and what is around it, or drop the document."""
    words: int = 13
    """In a row, that are contamination; in scripts without spaces signs."""
    shortest: int = 8
    """Texts of fewer words than that are looked for as a whole, down to so many."""
    least_overlap: float = 0.0
    """Share of an item that a document has to have, 0 to 1; 0: one run of words is enough. Of a
    question with options it is that of the question with one of them, the best."""
    most_documents: int = 10
    """What is in more documents is a common phrase, and stays; the data card says how many have
    such."""
    window: int = 200
    """Letters that are cut on each side, and that a piece has to have to stay."""
    most_pieces: int = 10
    """Documents that fall into more are dropped."""

    def __post_init__(self) -> None:
        if not self.tasks and not self.files:
            raise ConfigError("decontamination needs tasks or files, and has neither")
        if self.tasks and self.data is None:
            raise ConfigError("decontamination has tasks; data must name the folder of their data")
        if not 1 <= self.shortest <= self.words:
            raise ConfigError(
                f"shortest is {self.shortest} and words {self.words}; give 1 <= shortest <= words"
            )
        if not 0 <= self.least_overlap <= 1:
            raise ConfigError(f"least_overlap is {self.least_overlap}; give 0 to 1")
        for name, least in (("most_documents", 1), ("window", 0), ("most_pieces", 1)):
            if (value := getattr(self, name)) < least:
                raise ConfigError(f"{name} is {value}; give {least} or more")

    def sketch(self, document: Document) -> Hashes:
        """The entries of the index that the document has."""
        return np.unique(self._index.hits(document.text).hashes)

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> Contaminated:
        """Which entries are no common phrases, for each document that has any."""
        index = self._index
        first = np.concatenate(([True], index.hashes[1:] != index.hashes[:-1]))
        entries = index.hashes[first]
        counts = np.zeros(len(entries), dtype=np.int64)
        for _, hashes in _pairs(sketches, kept):
            np.add.at(counts, np.searchsorted(entries, hashes), 1)
        documents, found = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        common = 0
        for owners, hashes in _pairs(sketches, kept):
            rare = counts[np.searchsorted(entries, hashes)] <= self.most_documents
            chosen = rare | _of_whole_items(index, owners, hashes)
            documents.append(owners[chosen])
            found.append(hashes[chosen])
            common += len(np.unique(owners[~chosen]))
        return Contaminated(np.concatenate(documents), np.concatenate(found), common)

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        """See :class:`everlong.curation.step.CorpusStep`."""
        index = self._index
        hits = index.hits(document.text)
        hits = _only(hits, np.isin(hits.hashes, found))
        different = np.unique(hits.hashes)
        of, wholes = index.wholes_of(different)
        there, counts = np.unique(wholes, return_counts=True)
        numbers, item = np.unique(index.items[there], return_inverse=True)
        shares = np.zeros(len(numbers))
        np.maximum.at(shares, item, counts / index.totals[there])
        enough = shares >= self.least_overlap
        if not enough.any():
            return None
        order = np.argsort(-shares[enough], kind="stable")
        numbers, shares = numbers[enough][order], shares[enough][order]
        detail = f"{names_of(index, numbers.tolist())}: {shares[0]:.0%} of the first"
        if self.action == "drop":
            return Dropped("contaminated", detail)
        chosen = different[of[np.isin(index.items[wholes], numbers)]]
        hits = _only(hits, np.isin(hits.hashes, chosen))
        pieces, windows = _cut(document.text, hits, self.window)
        if windows + 1 > self.most_pieces:
            return Dropped("pieces", f"{detail}; {windows + 1} pieces, at most {self.most_pieces}")
        if not pieces:
            return Dropped("contaminated", f"{detail}; nothing else is left")
        document.text = "\n\n".join(pieces)
        document.metadata["contamination"] = detail
        document.history.append(Changed(self.kind, "cut", windows))
        return None

    def reads(self) -> Mapping[str, str]:
        """See :class:`everlong.curation.step.ReadingStep`."""
        return {"entries": opened(self._sets).digest()}  # files may have changed meanwhile

    @property
    def _index(self) -> ContaminationIndex:
        return _opened(self._sets)

    @property
    def _sets(self) -> Sets:
        return Sets(self.tasks, self.data, self.files, self.words, self.shortest)


class Contaminated:
    """See :class:`everlong.curation.step.Findings`.

    Args:
        documents: [P], sorted.
        hashes: [P], an entry that each has.
        common: documents that have entries which are common phrases, and keep them.
    """

    def __init__(self, documents: NDArray[np.int64], hashes: Hashes, common: int) -> None:
        self._documents, self._hashes, self._common = documents, hashes, common

    def of(self, document: int) -> tuple[Hashes, int | None]:
        """The document's entries."""
        first, last = np.searchsorted(self._documents, [document, document + 1])
        return self._hashes[first:last], None

    def noted(self) -> Mapping[str, int]:
        """What stays though evaluation sets have it."""
        return {"common_phrases": self._common} if self._common else {}


@functools.lru_cache(maxsize=2)
def _opened(sets: Sets) -> ContaminationIndex:
    return opened(sets)


def _pairs(
    sketches: Sketches, kept: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], Hashes]]:
    """Documents that are kept, each as often as it has entries, and these entries; documents are
    never divided."""
    for numbers, hashes in sketches.chunks():
        lengths = np.diff(sketches.starts[numbers.start : numbers.stop + 1])
        owners = np.repeat(np.arange(numbers.start, numbers.stop), lengths)
        yield owners[kept[owners]], hashes[kept[owners]]


def _of_whole_items(
    index: ContaminationIndex, owners: NDArray[np.int64], hashes: Hashes
) -> NDArray[np.bool_]:
    """Which pairs of a document and an entry are part of an item most of which is there."""
    of, wholes = index.wholes_of(hashes)
    both = owners[of] * np.int64(len(index.totals)) + wholes
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    totals = index.totals[wholes]
    whole = (totals >= LARGE) & (counts[inverse] >= _WHOLE * totals)
    found = np.zeros(len(hashes), dtype=np.bool_)
    found[of[whole]] = True
    return found


def _only(hits: Hits, chosen: NDArray[np.bool_]) -> Hits:
    return Hits(hits.hashes[chosen], hits.starts[chosen], hits.ends[chosen])


def _cut(text: str, hits: Hits, window: int) -> tuple[list[str], int]:
    """What is left of a text, and how many places were cut out."""
    pieces: list[str] = []
    windows = 0
    end = 0
    order = np.argsort(hits.starts, kind="stable")
    for start, stop in zip(hits.starts[order].tolist(), hits.ends[order].tolist(), strict=True):
        first, last = max(0, start - window), min(len(text), stop + window)
        if first > end or not windows:
            windows += 1
            pieces.append(text[_word_start(text, end) : _word_end(text, first)])
        end = max(end, last)
    pieces.append(text[_word_start(text, end) :])
    pieces = [piece.strip() for piece in pieces]
    return [piece for piece in pieces if piece and len(piece) >= window], windows


def _word_start(text: str, place: int) -> int:
    """The place, or behind the word that it would cut."""
    for near in range(place, min(place + _LONGEST_WORD, len(text))):
        if near == 0 or text[near - 1].isspace():
            return near
    return place


def _word_end(text: str, place: int) -> int:
    """The place, or before the word that it would cut."""
    for near in range(place, max(place - _LONGEST_WORD, -1), -1):
        if near in (0, len(text)) or text[near].isspace():
            return near
    return place
