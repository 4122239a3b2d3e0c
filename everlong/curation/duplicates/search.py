"""Search for near duplicates among sketches on disk.

What is looked at are entries: first those of earlier runs, then the documents of this run. Entries
with the same set of shingles are the same, and only the first of them is looked at further. Of the
others one band after the other is sorted; entries with the same key are a run, and
``leaders.py`` compares those. In memory is a column at a time, and of each entry's runs
what is needed to find the documents that stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from everlong.curation.duplicates.leaders import Leaders
from everlong.curation.duplicates.minhash import (
    BANDS,
    COUNT,
    NO_HASH,
    SET,
    Compared,
    MinHash,
    similarity,
)
from everlong.curation.duplicates.tables import Places, Table, equal_rows
from everlong.curation.step import Hashes, Sketches

_DEVIATIONS = 2.0
"""An estimate may be less than the threshold by so many of its standard deviations: 98 % of those
of what is just as alike as the threshold says are not below that."""
_CHUNK = 1 << 13
"""Documents whose sketches are in memory together."""
_PAIRS = 1 << 9
"""That are compared together."""
_LOADED = 1 << 12
"""Sketches that are kept in memory: those of a batch, and what it is compared with."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Documents with their sketches."""

    columns: Table
    """The hash of the set and the keys of the bands, from :func:`write_columns`."""
    sketches: Sketches
    numbers: Places | None = None
    """Which of the sketches are meant; None: all of them."""

    def __len__(self) -> int:
        return self.columns.rows

    def sketch(self, entry: int) -> Hashes:
        """Of one of them."""
        return self.sketches.of(entry if self.numbers is None else int(self.numbers[entry]))


def write_columns(sketches: Sketches, numbers: Places, bands: int, file: BinaryIO) -> Table:
    """Write what is sorted, of some documents.

    Args:
        sketches: of all documents.
        numbers: of the documents that are meant, ascending; none is without a sketch.
        bands: of a sketch.
        file: is written.
    """
    table = Table(file, len(numbers), "<u8")
    row = 0
    for some, hashes in sketches.chunks(_CHUNK):
        end = int(np.searchsorted(numbers, some.stop))
        starts = sketches.starts[numbers[row:end]] - sketches.starts[some.start]
        for column, place in enumerate((SET, *range(BANDS, BANDS + bands))):
            table.write(column, row, hashes[starts + place])
        row = end
    return table


def nearly_equal(
    minhash: MinHash, threshold: float, stored: Sequence[Entries], own: Entries, work: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Which documents are nearly the same as an earlier one.

    Args:
        minhash: has made the sketches.
        threshold: of similarity.
        stored: what earlier runs have kept.
        own: documents of this run.
        work: folder for a file.

    Returns:
        For each own one, which own one stays for it, or its own number where that is one of an
        earlier run, or -1 where it stays itself; and how alike they are.
    """
    return _Search(minhash, threshold, [*stored, own]).leaders(work)


class _Search:
    """See :func:`nearly_equal`; own entries are the last part."""

    def __init__(self, minhash: MinHash, threshold: float, parts: Sequence[Entries]) -> None:
        self._minhash, self._threshold, self._parts = minhash, threshold, parts
        self._first = [*accumulate(map(len, parts), initial=0)]
        self._known, self._count = self._first[-2:]
        self._loaded: dict[int, Hashes] = {}

    def leaders(self, work: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rows, first = equal_rows(self._column(0))
        same, original = rows[~first], rows[first][np.cumsum(first) - 1][~first]
        differ = np.ones(self._count, dtype=np.bool_)
        differ[same] = False
        with (work / "runs").open("w+b") as file:
            runs = Table(file, self._count, "<i4")
            count, members = self._write_runs(np.flatnonzero(differ), runs)
            leader, alike = Leaders(
                runs, self._minhash.bands, count, members, self._known, self._compare
            ).decide()
        own = same >= self._known
        same, original = same[own] - self._known, original[own]
        leader[same], alike[same] = original, 1.0
        # What the original gives way to, its copies give way to.
        copied = np.maximum(original - self._known, 0)
        moved = (original >= self._known) & (leader[copied] >= 0)
        leader[same[moved]], alike[same[moved]] = leader[copied[moved]], alike[copied[moved]]
        numbers = np.arange(len(leader), dtype=np.int32)
        return np.where(
            leader >= self._known, leader - self._known, np.where(leader < 0, -1, numbers)
        ), alike

    def _column(self, column: int) -> Hashes:
        return np.concatenate([part.columns.read(column) for part in self._parts])

    def _write_runs(self, entries: Places, runs: Table) -> tuple[int, int]:
        """Number the runs of each band.

        Returns:
            How many there are, and members of all together.
        """
        count = members = 0
        for band in range(self._minhash.bands):
            rows, first = equal_rows(self._column(1 + band)[entries])
            run = np.cumsum(first) - 1
            # Runs of nothing but what is known say nothing; the last is the largest number.
            last = np.append(np.flatnonzero(first)[1:], len(first)) - 1 if len(first) else rows
            wanted = entries[rows[last]] >= self._known
            numbers = np.cumsum(wanted) - 1 + count
            chosen = wanted[run]
            column = np.full(self._count, -1, dtype=np.int32)
            column[entries[rows[chosen]]] = numbers[run[chosen]]
            runs.write(band, 0, column)
            count += int(np.count_nonzero(wanted))
            members += int(np.count_nonzero(chosen))
        return count, members

    def _compare(self, one: Places, other: Places) -> NDArray[np.float32]:
        """How alike entries are, one by one; 0: not enough."""
        found = np.zeros(len(one), dtype=np.float32)
        for start in range(0, len(one), _PAIRS):
            part = slice(start, start + _PAIRS)
            count = len(one[part])
            entries, place = np.unique(
                np.concatenate([one[part], other[part]]), return_inverse=True
            )
            loaded = self._load(entries)
            alike, known, share = similarity(loaded.of(place[:count]), loaded.of(place[count:]))
            variance = self._threshold * (1 - self._threshold) / known * (1 - share)
            enough = alike >= self._threshold - _DEVIATIONS * np.sqrt(variance)
            found[part] = np.where(enough, alike, 0)
        return found

    def _load(self, entries: Places) -> Compared:
        values = np.full((len(entries), self._minhash.compared), NO_HASH, dtype=np.uint32)
        counts = np.empty(len(entries), dtype=np.int64)
        for row, entry in enumerate(entries.tolist()):
            if (sketch := self._loaded.get(entry)) is None:
                part = bisect_right(self._first, entry) - 1
                sketch = self._parts[part].sketch(entry - self._first[part])
                if len(self._loaded) >= _LOADED:
                    self._loaded.clear()
                self._loaded[entry] = sketch
            smallest = self._minhash.smallest(sketch)
            values[row, : len(smallest)] = smallest
            counts[row] = sketch[COUNT]
        return Compared(values, counts)
