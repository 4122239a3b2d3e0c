"""Passages that are in the corpus more than once, and lines that many documents of a source have.

C4 leaves one of all equal spans of three sentences, wherever they are (Raffel et al. 2020, section
2.2). Here a span is some sentences or lines that follow one another, and what makes two of them
equal are their words. The first stays, in the order of the documents. Every sentence that is cut is
the copy of one before it in that order, so all of them stay somewhere, but for what is in documents
of which too little is left.

Menus, notices and calls to subscribe are in many documents of a source, and of no use in the first
of them either: a line that enough documents have is cut in all.

Hashes of all spans are more than memory has room for. They are sorted into files by their first
bits, and a file is looked at as a whole; of each span one bit is kept, whether it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from everlong.curation.document import Changed, Document, Dropped
from everlong.curation.duplicates.tables import Places, equal_rows
from everlong.curation.duplicates.words import mixed, odd_numbers, word_hashes
from everlong.curation.step import Findings, Hashes, Sketches
from everlong.errors import ConfigError

_NOTHING: Hashes = np.empty(0, dtype=np.uint64)
_ONE = np.uint64(1)
_SENTENCE_END = re.compile(
    r"""[\n.!?…؟۔।。！？｡](?:(?<=[.!?…؟۔।])["'”’»)\]]*+\s+|(?<=\n)\s*|(?<=[。！？｡])[」』”’）]*+\s*)"""
)
"""A full stop with quotes and brackets behind it, and white space, which Chinese does without; or
the end of a line. No abbreviation is known: what is cut too often is so in every copy."""
_LINE_END = re.compile(r"\n\s*")
_FACTORS = 1 << 16
"""Words of a unit that are told apart by their places."""
_IN_A_FILE = 1 << 21
"""Hashes, about."""
_MOST_FILES = 256
_CHUNK = 1 << 14
"""Documents whose sketches are in memory together."""


@dataclass(frozen=True)
class RepeatedSpans:
    """Cuts passages that were there before, and lines that many documents of a source have."""

    kind: Literal["repeated_spans"] = "repeated_spans"
    cuts: ClassVar[bool] = True
    unit: Literal["sentence", "line"] = "sentence"
    """What spans are made of."""
    span: int | None = 3
    """So many units in a row, the same words in the same order, are cut where they were there
    before; None: only common lines are cut."""
    common_line: int | None = None
    """A line that so many documents of one source have is cut in all of them; None: no line is."""
    least_words: int = 50
    """A document of which fewer words are left is dropped."""

    def __post_init__(self) -> None:
        if self.span is None and self.common_line is None:
            raise ConfigError("span and common_line are both None: nothing would be cut")
        if self.span is not None and self.span < 1:
            raise ConfigError(f"span is 1 or more, or None, not {self.span}")
        if self.common_line is not None and self.common_line < 2:
            raise ConfigError(f"common_line is 2 or more, or None, not {self.common_line}")
        if self.least_words < 0:
            raise ConfigError(f"least_words is 0 or more, not {self.least_words}")

    def sketch(self, document: Document) -> Hashes:
        """Hashes of the spans, even ones, then of the lines, odd ones."""
        spans, lines = self._looked_at(document.text)
        found = [_NOTHING]
        if self.span is not None and len(spans.starts) >= self.span:
            found.append(_windows(spans.hashes, self.span) & ~_ONE)
        if self.common_line is not None:
            source = xxhash.xxh3_64_intdigest(document.source.encode("utf-8", "surrogatepass"))
            found.append(mixed(lines.hashes + np.uint64(source)) | _ONE)
        return np.concatenate(found)

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> Findings:
        """Which spans and lines are cut; see :class:`everlong.curation.step.CorpusStep`."""
        cut = np.zeros(-(-int(sketches.starts[-1]) // 8), dtype=np.uint8)
        for hashes, places in _by_hash(sketches, kept, work):
            rows, first = equal_rows(hashes)
            line, places = hashes[rows] & _ONE == 1, places[rows]
            chosen = ~first & ~line
            if self.common_line is not None:
                chosen |= line & _common(first, places, sketches.starts, self.common_line)
            some = places[chosen]
            np.bitwise_or.at(cut, some >> 3, np.uint8(1) << (some & 7).astype(np.uint8))
        return _Cuts(cut, sketches.starts)

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        """Cut what was found, and drop the document if too little is left."""
        assert other is None, "documents are not copies here"
        if not len(found):
            return None
        spans, lines = self._looked_at(document.text)
        places = found.astype(np.int64)
        windows = max(0, len(spans.starts) - self.span + 1) if self.span is not None else 0
        firsts, common = places[places < windows], places[places >= windows] - windows
        cuts = np.concatenate(
            [
                np.stack([spans.starts[firsts], spans.ends[firsts + (self.span or 1) - 1]], axis=1),
                np.stack([lines.starts[common], lines.ends[common]], axis=1),
            ]
        )
        document.text, pieces = _without(document.text, cuts)
        document.history.append(Changed(self.kind, "repeated", pieces))
        words = len(word_hashes(document.text)[0])
        if words < self.least_words:
            return Dropped(
                "few_words_left", f"{words} words are not repeated, at least {self.least_words}"
            )
        return None

    def _looked_at(self, text: str) -> tuple[_Units, _Units]:
        """What spans are made of, and the lines."""
        hashes, places = word_hashes(text)
        lines = _units(text, _LINE_END, hashes, places)
        if self.unit == "line":
            return lines, lines
        return _units(text, _SENTENCE_END, hashes, places), lines


@dataclass(frozen=True, eq=False)
class _Units:
    """Sentences or lines of a text, those that have a word."""

    starts: Places
    """Where each begins; they are all of the text together."""
    ends: Places
    hashes: Hashes
    """Of their words."""


def _units(text: str, end: re.Pattern[str], words: Hashes, places: Places) -> _Units:
    if not len(words):
        return _Units(places, places, _NOTHING)
    bounds = np.array([0, *(match.end() for match in end.finditer(text))], dtype=np.int64)
    first = np.searchsorted(places, bounds)  # word of each unit
    has_word = np.append(first[1:], len(words)) > first
    first, starts = first[has_word], bounds[has_word]
    starts[0] = 0  # what has no word goes with the unit before it
    sizes = np.diff(first, append=len(words))
    place = np.arange(len(words)) - np.repeat(first, sizes)
    weighted = words * odd_numbers(_FACTORS, 4)[place & (_FACTORS - 1)]
    return _Units(starts, np.append(starts[1:], len(text)), np.add.reduceat(weighted, first))


def _windows(units: Hashes, span: int) -> Hashes:
    """Hashes of so many units in a row."""
    count = len(units) - span + 1
    sums = np.zeros(count, dtype=np.uint64)
    for place, factor in enumerate(odd_numbers(span, 5)):
        sums += units[place : count + place] * factor
    return mixed(sums)


def _common(
    first: NDArray[np.bool_], places: Places, starts: NDArray[np.int64], documents: int
) -> NDArray[np.bool_]:
    """Which hashes so many documents have.

    Args:
        first: which of the hashes differ from the one before; equal ones are together.
        places: of them among all hashes, ascending where they are equal.
        starts: of the documents.
    """
    document = np.searchsorted(starts, places, side="right")
    new = first.copy()
    new[1:] |= document[1:] != document[:-1]
    begins = np.flatnonzero(first)
    counts = np.add.reduceat(new.astype(np.int64), begins) if len(begins) else begins
    return np.repeat(counts >= documents, np.diff(begins, append=len(first)))


def _by_hash(
    sketches: Sketches, kept: NDArray[np.bool_], work: Path
) -> Iterator[tuple[Hashes, Places]]:
    """All hashes of documents that are kept, some at a time, equal ones together.

    Yields:
        Hashes, and their places among all hashes, ascending.
    """
    total = int(sketches.starts[-1])
    bits = min(max(0, (total // _IN_A_FILE).bit_length()), _MOST_FILES.bit_length() - 1)
    paths = [work / f"{number}.hashes" for number in range(1 << bits)]
    lengths = np.diff(sketches.starts)
    with ExitStack() as opened:
        files = [opened.enter_context(path.open("wb")) for path in paths]
        for some, hashes in sketches.chunks(_CHUNK):
            part = slice(some.start, some.stop)
            start = int(sketches.starts[some.start])
            place = np.flatnonzero(np.repeat(kept[part], lengths[part]))
            hashes = hashes[place]
            # A shift by all 64 bits is not defined.
            number = (hashes >> np.uint64(63 - bits) >> _ONE).astype(np.uint16)
            order = np.argsort(number, kind="stable")
            pairs = np.stack([hashes, (place + start).astype(np.uint64)], axis=1)[order]
            ends = np.searchsorted(number[order], np.arange(len(files)), side="right")
            for file, piece in zip(files, np.split(pairs, ends[:-1]), strict=True):
                file.write(piece.astype("<u8", copy=False).tobytes())
    for path in paths:
        pairs = np.fromfile(path, dtype="<u8").reshape(-1, 2)
        path.unlink()
        yield np.ascontiguousarray(pairs[:, 0]), pairs[:, 1].astype(np.int64)


class _Cuts:
    """Findings: bits of all hashes of all documents."""

    def __init__(self, cut: NDArray[np.uint8], starts: NDArray[np.int64]) -> None:
        self._cut, self._starts = cut, starts

    def of(self, document: int) -> tuple[Hashes, int | None]:
        start, end = int(self._starts[document]), int(self._starts[document + 1])
        some = self._cut[start >> 3 : (end + 7) >> 3]
        if not some.any():
            return _NOTHING, None
        bits = np.unpackbits(some, bitorder="little")[start & 7 :][: end - start]
        return np.flatnonzero(bits).astype(np.uint64), None


def _without(text: str, cuts: Places) -> tuple[str, int]:
    """A text without some of its parts, which may overlap; and how many pieces were cut out.

    Args:
        cuts: [n, 2], from and to.
    """
    pieces: list[tuple[int, int]] = []
    for start, end in sorted(cuts.tolist()):
        if pieces and start <= pieces[-1][1]:
            pieces[-1] = pieces[-1][0], max(end, pieces[-1][1])
        else:
            pieces.append((start, end))
    parts, at = [], 0
    for start, end in pieces:
        left, white = text[at:start], _white_end(text[start:end])
        if "\n" in white and "\n" not in _white_end(left):  # a paragraph ends with what is cut
            left = left.rstrip() + white
        parts.append(left)
        at = end
    return "".join([*parts, text[at:]]).strip(), len(pieces)


def _white_end(text: str) -> str:
    return text[len(text.rstrip()) :]
