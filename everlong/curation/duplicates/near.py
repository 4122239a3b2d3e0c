"""Documents that are nearly the same as an earlier one.

A document is dropped if it is alike to an earlier document that stays (``leaders.py``
says why not clusters). How alike two documents are is estimated from their sketches
(``minhash.py``): candidates have a band in common, and are compared by their smallest
hashes. An estimate of what is alike just as the threshold says is too low half of the time. So it
has to reach somewhat less (``search.py``), and 97 % of such documents are found. Up to
``compared`` shingles, some 500 words, nothing is estimated: what is dropped is as alike as asked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from everlong.curation.document import Document, Dropped
from everlong.curation.duplicates.minhash import MinHash
from everlong.curation.duplicates.search import Entries, nearly_equal, write_columns
from everlong.curation.duplicates.store import DuplicateStore
from everlong.curation.duplicates.tables import Places, Table
from everlong.curation.duplicates.words import word_hashes
from everlong.curation.step import Findings, Hashes, Sketches
from everlong.errors import ConfigError

_NOTHING: Hashes = np.empty(0, dtype=np.uint64)
_LEAST_FOUND = 0.95
"""Of documents that are as alike as the threshold says, how many at least are candidates."""
_SCALE = 10_000
"""Similarities are told in parts of it."""
_CHUNK = 1 << 13
_STORED = ("columns", "sketches", "starts")


@dataclass(frozen=True)
class NearDuplicates:
    """Drops documents that are nearly the same as an earlier one that stays.

    The words of a text count, in their order; case, punctuation and white space do not.
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    cuts: ClassVar[bool] = False
    threshold: float = 0.8
    """Jaccard similarity of the sets of shingles, in (0, 1]. Replacing 2 of 100 words makes it
    0.82."""
    words: int = 5
    """Words of a shingle."""
    bands: int = 20
    """More bands find less alike documents, and take time."""
    rows: int = 6
    """Minima of a band; more of them make fewer candidates."""
    compared: int = 512
    """Hashes of a document that are kept to compare it; up to so many shingles the comparison is
    exact. Each takes 4 bytes on disk."""
    store: Path | None = None
    """Folder of what earlier runs have kept; what is nearly the same as that is dropped as well.
    None: runs know nothing of each other."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is above 0 and at most 1, not {self.threshold}")
        for name in ("words", "bands", "rows", "compared"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is 1 or more, not {getattr(self, name)}")
        if (found := self._minhash.found(self.threshold)) < _LEAST_FOUND:
            raise ConfigError(
                f"{self.bands} bands of {self.rows} rows find {found:.1%} of what is alike by "
                f"{self.threshold}, and {_LEAST_FOUND:.0%} is the least; take more bands, or "
                "fewer rows"
            )

    def sketch(self, document: Document) -> Hashes:
        """See :mod:`everlong.curation.duplicates.minhash`; none where there is no word."""
        words, _ = word_hashes(unicodedata.normalize("NFC", document.text))
        return self._minhash.sketch(words)

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> Findings:
        """Which document is nearly the same as which; see
        :class:`everlong.curation.step.CorpusStep`.

        A document that an earlier run has kept names itself.
        """
        numbers = _sketched(sketches, kept)
        with (work / "columns").open("w+b") as columns:
            own = Entries(write_columns(sketches, numbers, self.bands, columns), sketches, numbers)
            stored = self._stored(seen)
            leader, alike = nearly_equal(self._minhash, self.threshold, stored, own, work)
        return _Alike(leader, alike, numbers, len(kept))

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        """Drop a document that is nearly the same as another one."""
        if other is None:
            return None
        alike = f"similarity {int(found[0]) / _SCALE:.2f}"
        if other == document.id:
            return Dropped("known_text_nearly", f"{alike} to what an earlier run has kept")
        return Dropped("same_text_nearly", f"{alike} to {other}")

    def remember(self, sketches: Sketches, kept: NDArray[np.bool_], run: str) -> None:
        """Have later runs know what this one has kept."""
        if (store := self.remembered()) is None:
            return
        numbers = _sketched(sketches, kept)
        wanted = np.zeros(len(sketches), dtype=np.bool_)
        wanted[numbers] = True
        lengths = np.diff(sketches.starts)
        with store.adding(run, len(numbers), _STORED) as (columns, hashes, starts):
            write_columns(sketches, numbers, self.bands, columns)
            for some, values in sketches.chunks(_CHUNK):
                part = slice(some.start, some.stop)
                chosen = values[np.repeat(wanted[part], lengths[part])]
                hashes.write(chosen.astype("<u8", copy=False).tobytes())
            ends = np.cumsum(lengths[numbers], dtype="<i8")
            starts.write(np.concatenate([np.zeros(1, "<i8"), ends]).tobytes())

    @property
    def _minhash(self) -> MinHash:
        return MinHash(self.words, self.bands, self.rows, self.compared)

    def remembered(self) -> DuplicateStore | None:
        """See :class:`everlong.curation.step.RememberingStep`."""
        names = ("words", "bands", "rows", "compared")
        parameters = {name: getattr(self, name) for name in names}
        return None if self.store is None else DuplicateStore(self.store, self.kind, parameters)

    def _stored(self, seen: Sequence[str]) -> list[Entries]:
        """What runs before this one have kept."""
        store, found = self.remembered(), list[Entries]()
        for one in [] if store is None else store.runs(seen):
            assert store is not None
            columns, hashes, starts = (store.path(one, name) for name in _STORED)
            table = _StoredColumns(columns, one.entries)
            found.append(Entries(table, Sketches(hashes, np.fromfile(starts, dtype="<i8"))))
        return found


class _StoredColumns(Table):
    """Of an earlier run. The file is open only while it is read: of runs there may be more than a
    process may have files open."""

    def __init__(self, path: Path, rows: int) -> None:
        self._path, self.rows = path, rows

    def read(self, column: int, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """See :meth:`everlong.curation.duplicates.tables.Table.read`."""
        with self._path.open("rb") as file:
            return Table(file, self.rows, "<u8").read(column, first, count)


class _Alike:
    """Findings.

    Args:
        leader: of each entry the entry that stays for it, itself where that is one of an earlier
            run, or -1.
        alike: how alike they are.
        numbers: of the entries among the documents.
        documents: how many there are.
    """

    def __init__(
        self,
        leader: NDArray[np.int32],
        alike: NDArray[np.float32],
        numbers: Places,
        documents: int,
    ) -> None:
        dropped = leader >= 0
        self._other = np.full(documents, -1, dtype=np.int32)
        self._other[numbers[dropped]] = numbers[leader[dropped]]
        self._alike = np.zeros(documents, dtype=np.uint16)
        self._alike[numbers] = np.floor(alike * _SCALE)

    def of(self, document: int) -> tuple[Hashes, int | None]:
        other = int(self._other[document])
        if other < 0:
            return _NOTHING, None
        return self._alike[document : document + 1].astype(np.uint64), other


def _sketched(sketches: Sketches, kept: NDArray[np.bool_]) -> Places:
    """Numbers of documents that are kept and have a sketch."""
    return np.flatnonzero(kept & (np.diff(sketches.starts) > 0))
