"""Documents whose texts are the same, but for what a normalisation takes away.

A document is known by 128 bits of a cryptographic hash, so nobody can write a text that is taken
for another one. Of equal ones the first stays.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.document import Document, Dropped
from everlong.curation.duplicates.store import DuplicateStore
from everlong.curation.duplicates.tables import Places, equal_rows
from everlong.curation.step import Findings, Hashes, Sketches

_NOTHING: Hashes = np.empty(0, dtype=np.uint64)
_SIGNS = 0x3_4000
"""Unicode has letters and punctuation only below."""
_STORED = "digests"
_STORED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ExactDuplicates:
    """Drops documents whose text was there before.

    Texts are compared in Unicode's composed form (NFC), and as the fields say. A text of which
    nothing is left that way, such as one of nothing but punctuation, is compared as it is.
    """

    kind: Literal["exact_duplicates"] = "exact_duplicates"
    cuts: ClassVar[bool] = False
    case: bool = False
    """Whether texts that differ in capitals are different ones."""
    white_space: bool = False
    """Whether texts that differ in white space are different ones; if not, any of it is as one
    space, and at the ends as none."""
    punctuation: bool = True
    """Whether texts that differ in punctuation are different ones."""
    store: Path | None = None
    """Folder of what earlier runs have kept, which is dropped as well; None: runs know nothing of
    each other."""

    def sketch(self, document: Document) -> Hashes:
        """Two numbers."""
        normal = self._normal(document.text).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(normal, digest_size=16).digest()
        return np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> Findings:
        """Which document is the same as which; see :class:`everlong.curation.step.CorpusStep`.

        A document that an earlier run has kept names itself.
        """
        numbers = np.flatnonzero(kept)
        columns = _columns(sketches, numbers)
        other = np.full(len(kept), -1, dtype=np.int32)
        rows, first = equal_rows(*columns)
        copied = rows[first][np.cumsum(first) - 1]
        other[numbers[rows[~first]]] = numbers[copied[~first]]
        if (store := self.remembered()) is not None:
            paths = [store.path(one, _STORED) for one in store.runs(seen)]
            known = numbers[_stored(columns, paths)]
            other[known] = known
        return _Same(other)

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        """Drop a copy."""
        if other is None:
            return None
        if other == document.id:
            return Dropped("known_text", "an earlier run has kept the same text")
        return Dropped("same_text", f"the same text as {other}")

    def remember(self, sketches: Sketches, kept: NDArray[np.bool_], run: str) -> None:
        """Have later runs know what this one has kept."""
        if (store := self.remembered()) is None:
            return
        columns = _columns(sketches, np.flatnonzero(kept))
        order = np.lexsort(columns[::-1])
        with store.adding(run, len(order), [_STORED]) as (file,):
            for start in range(0, len(order), _STORED_AT_ONCE):
                some = order[start : start + _STORED_AT_ONCE]
                pairs = np.stack([column[some] for column in columns], axis=1)
                file.write(pairs.astype("<u8", copy=False).tobytes())

    def _normal(self, text: str) -> str:
        """What is left of a text if what does not matter is taken away."""
        normal = unicodedata.normalize("NFC", text)
        if not self.punctuation:
            normal = _without_punctuation(normal)
        if not self.case:
            normal = normal.casefold()
        if not self.white_space:
            normal = " ".join(normal.split())
        return normal or text

    def remembered(self) -> DuplicateStore | None:
        """See :class:`everlong.curation.step.RememberingStep`."""
        names = ("case", "white_space", "punctuation")
        parameters = {name: getattr(self, name) for name in names}
        return None if self.store is None else DuplicateStore(self.store, self.kind, parameters)


@dataclass(frozen=True, eq=False)
class _Same:
    """Findings: of each document the one that it is a copy of, itself where that is of an earlier
    run, or -1."""

    other: NDArray[np.int32]

    def of(self, document: int) -> tuple[Hashes, int | None]:
        other = int(self.other[document])
        return _NOTHING, None if other < 0 else other


def _columns(sketches: Sketches, numbers: Places) -> tuple[Hashes, Hashes]:
    """The two numbers of some documents."""
    wanted = np.zeros(len(sketches), dtype=np.bool_)
    wanted[numbers] = True
    columns = np.empty(len(numbers), np.uint64), np.empty(len(numbers), np.uint64)
    row = 0
    for some, hashes in sketches.chunks():
        pairs = hashes.reshape(-1, 2)[wanted[some.start : some.stop]]
        for column, values in zip(columns, pairs.T, strict=True):
            column[row : row + len(pairs)] = values
        row += len(pairs)
    return columns


def _stored(columns: tuple[Hashes, Hashes], paths: list[Path]) -> NDArray[np.bool_]:
    """Which rows are in files of sorted ones, of which a piece is in memory at a time."""
    found = np.zeros(len(columns[0]), dtype=np.bool_)
    order = np.argsort(columns[0])
    ascending = columns[0][order]
    for path in paths:
        with path.open("rb") as file:
            while len(pairs := np.fromfile(file, dtype="<u8", count=2 * _STORED_AT_ONCE)):
                first, second = np.ascontiguousarray(pairs.reshape(-1, 2).T)
                begin = np.searchsorted(ascending, first[0])
                end = np.searchsorted(ascending, first[-1], side="right")
                some = order[begin:end]
                # That two of them begin with the same 64 bits does not happen: one place is enough.
                place = np.searchsorted(first, columns[0][some])
                same = (first[place] == columns[0][some]) & (second[place] == columns[1][some])
                found[some[same]] = True
    return found


def _without_punctuation(text: str) -> str:
    """A text without the signs of Unicode's category P."""
    signs = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    left = signs[_no_punctuation().take(signs, mode="clip")]
    return left.tobytes().decode("utf-32-le", "surrogatepass")


@functools.cache
def _no_punctuation() -> NDArray[np.bool_]:
    """For each sign whether it is no punctuation; there is none above the last of them."""
    return np.array([unicodedata.category(chr(code))[0] != "P" for code in range(_SIGNS)])
