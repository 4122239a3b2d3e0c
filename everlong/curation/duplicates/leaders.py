"""Which documents stay of those that are alike: one at a time, the first comes first.

A document is dropped if it is alike to an earlier one that stays. Clusters of everything that is
connected, which is how MinHash is often used, drop more: in a chain of texts, each a little other
than the one before, the ends have nothing in common, and one of all of them would be left. Here
every document that is dropped has one that stays and is as alike to it as was asked for.

Whether a document stays depends on the ones before it. They are taken a thousand at a time:
first they are compared with what stays of the earlier ones, all together; then those that are left
with each other, in rounds, where in each round stay all that have none before them which is
undecided (Blelloch, Fineman and Shun 2012, section 3). What comes out is the same as one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from everlong.curation.duplicates.tables import Places, Table

Compare = Callable[[Places, Places], NDArray[np.float32]]
"""How alike documents are to others, one by one; 0 where that is not enough."""

_BATCH = 1 << 10
"""Documents that are compared with each other, each with each where nothing else helps."""
_MOST_IN_A_RUN = 256
"""So many of a run's documents that stay, the last ones, are looked at."""
_MOST_COMPARED = 64
"""Of those, a document is compared with so many at most, which have the most runs in common with
it. Where there are more, all share a template, and what is alike enough has more in common."""


class Leaders:
    """Finds out what stays.

    Args:
        runs: a column for each band; in the row of a document the number of the run of documents
            which have the same key in this band, or -1 where there is no other, int32.
        count: of all runs.
        members: of all runs together.
        known: so many documents, the first ones, stay anyway.
        compare: looks at two lists of documents.
    """

    def __init__(
        self, runs: Table, bands: int, count: int, members: int, known: int, compare: Compare
    ) -> None:
        self._runs, self._bands, self._known, self._compare = runs, bands, known, compare
        # Pages of what is never written are never in memory.
        self._last = np.full(count, -1, dtype=np.int32)
        self._stays = np.empty(members, dtype=np.int32)
        self._before = np.empty(members, dtype=np.int32)
        self._used = 0
        self._leader = np.full(runs.rows - known, -1, dtype=np.int32)
        self._alike = np.zeros(runs.rows - known, dtype=np.float32)

    def decide(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Look at all documents.

        Returns:
            For each document after the known ones, number of the one that stays for it, or -1 where
            it stays itself; and how alike they are.
        """
        known, rows = self._known, self._runs.rows
        bounds = [*range(0, known, _BATCH), *range(known, rows, _BATCH), rows]
        for first, end in pairwise(bounds):
            columns = [self._runs.read(band, first, end - first) for band in range(self._bands)]
            runs = np.stack(columns, axis=1)
            document, band = np.nonzero(runs >= 0)
            run = runs[document, band]
            document += first
            if first >= self._known:
                self._find_earlier(run, document)
                left = self._stay(document)
                run, document = run[left], document[left]
            order = np.lexsort((document, run))
            run, document = run[order], document[order]
            if first >= self._known:
                self._settle(run, document, first)
                left = self._stay(document)
                run, document = run[left], document[left]
            self._add(run, document)
        return self._leader, self._alike

    def _stay(self, document: Places) -> NDArray[np.bool_]:
        stay: NDArray[np.bool_] = self._leader[document - self._known] < 0
        return stay

    def _find_earlier(self, run: NDArray[np.int32], document: Places) -> None:
        """Compare documents with those of their runs that stay, of earlier batches."""
        at, pairs = self._last[run], []
        for _ in range(_MOST_IN_A_RUN):
            there = at >= 0
            if not there.any():
                break
            at, document = at[there], document[there]
            pairs.append(_pack(document, self._stays[at]))
            at = self._before[at]
        if pairs:
            self._drop(_most_shared(np.concatenate(pairs)))

    def _settle(self, run: NDArray[np.int32], document: Places, start: int) -> None:
        """Compare documents of a batch with each other.

        Args:
            run, document: sorted by run, then by document.
            start: first document of the batch.
        """
        while len(run):
            first = np.ones(len(run), dtype=np.bool_)
            np.not_equal(run[1:], run[:-1], out=first[1:])
            waits = np.zeros(_BATCH, dtype=np.bool_)
            waits[document[~first] - start] = True
            leader = document[first][np.cumsum(first) - 1]
            asked = ~first & ~waits[leader - start]
            self._drop(np.unique(_pack(document[asked], leader[asked])))
            left = waits[document - start] & self._stay(document)
            run, document = run[left], document[left]

    def _drop(self, pairs: Places) -> None:
        """Compare pairs, sorted, and drop documents that are alike to the other one."""
        document, leader = pairs >> 32, pairs & 0xFFFF_FFFF
        alike = self._compare(document, leader)
        enough = alike > 0
        dropped, place = np.unique(document[enough], return_index=True)
        self._leader[dropped - self._known] = leader[enough][place]
        self._alike[dropped - self._known] = alike[enough][place]

    def _add(self, run: NDArray[np.int32], document: Places) -> None:
        """Have documents of a batch stay, sorted by run."""
        if not len(run):
            return
        places = np.arange(self._used, self._used + len(run), dtype=np.int32)
        again = run[1:] == run[:-1]
        before = self._last[run]
        before[1:][again] = places[:-1][again]
        self._stays[places] = document
        self._before[places] = before
        end = np.append(~again, True)
        self._last[run[end]] = places[end]
        self._used += len(run)


def _pack(document: Places, leader: NDArray[np.integer]) -> Places:
    packed: Places = document << 32 | leader
    return packed


def _most_shared(pairs: Places) -> Places:
    """Each pair once, sorted; of a document those that are there most often."""
    found, times = np.unique(pairs, return_counts=True)
    document = found >> 32
    order = np.lexsort((-times, document))
    _, first, size = np.unique(document, return_index=True, return_counts=True)
    if size.max() <= _MOST_COMPARED:
        return found
    rank = np.arange(len(found)) - np.repeat(first, size)
    return np.sort(found[order[rank < _MOST_COMPARED]])
