"""Vectors of a namespace's episodes, searched by cosine: all of them, or the promising ones.

Up to ``EXACT`` vectors every one is compared. Beyond that, only signs are compared first, a bit for
each dimension, which takes a small part of the time; and then those that agree most, in full. There
is no graph and no list of cells: a vector is a row, and what is appended is found at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 50_000
"""So many vectors are compared one by one."""
PROMISING = 5_000
"""Of more, how many are compared in full: 94 % of the ten nearest of a million are among them, and
81 % of the hundred nearest, measured with the words of a model."""

_WORD = 64
"""Signs that are compared at once."""
_SIGNS_AT_ONCE = 1 << 16
_ROWS_AT_ONCE = 512
"""Few enough to stay in the processor's caches."""


class Vectors:
    """Vectors with the numbers of their episodes, ascending; later ones are appended.

    One thread at a time may append; others may search meanwhile what was there before.

    Args:
        exact, promising: see ``EXACT``, ``PROMISING``.
    """

    def __init__(self, exact: int = EXACT, promising: int = PROMISING) -> None:
        self._exact, self._promising = exact, promising
        self._numbers = _Rows(np.empty(0, np.int64))
        # float32 while all are compared; float16, as they are stored, from then on.
        self._whole: _Rows | None = None
        self._sum: NDArray[np.float64] = np.zeros(0)
        self._centre: NDArray[np.float32] | None = None
        self._signs: list[_Rows] = []  # one [n] of uint64 for each 64 dimensions

    def __len__(self) -> int:
        return len(self._numbers.used)

    @property
    def last(self) -> int:
        """Number of the last episode; 0: there is none."""
        return int(self._numbers.used[-1]) if len(self) else 0

    def append(self, numbers: NDArray[np.int64], vectors: NDArray[np.float16]) -> None:
        """Add vectors [n, dimensions] of later episodes."""
        if not len(numbers):
            return
        if self._whole is None:
            self._whole = _Rows(np.empty((0, vectors.shape[1]), np.float32))
            self._sum = np.zeros(vectors.shape[1])
        self._sum += vectors.sum(0, dtype=np.float64)
        if self._centre is None and len(self) + len(numbers) > self._exact:
            # Vectors of texts all lean to one side: what tells them apart is the rest.
            self._centre = (self._sum / (len(self) + len(numbers))).astype(np.float32)
            known = self._whole.used
            self._whole = _Rows(known.astype(np.float16))
            self._signs = [_Rows(column) for column in _signs(known - self._centre)]
        self._whole.append(vectors)
        if self._centre is not None:
            for rows, column in zip(self._signs, _signs(vectors - self._centre), strict=True):
                rows.append(column)
        self._numbers.append(numbers)  # last: what has no number is not looked at

    def without(self, numbers: Sequence[int]) -> Vectors:
        """These vectors but for those of some episodes; whoever searches these is not disturbed."""
        kept = ~np.isin(self._numbers.used, numbers)
        if self._whole is None or kept.all():
            return self
        left = Vectors(self._exact, self._promising)
        left._numbers = _Rows(self._numbers.used[kept])
        left._whole = _Rows(self._whole.used[kept])
        left._sum = self._sum - self._whole.used[~kept].sum(0, dtype=np.float64)
        left._centre = self._centre
        left._signs = [_Rows(column.used[kept]) for column in self._signs]
        return left

    def nearest(
        self, query: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
        """The vectors nearest to a query.

        Args:
            query: [dimensions], of unit length.
            count: how many are wanted.

        Returns:
            Numbers of episodes and cosines, the nearest first; and the mean cosine of all.
        """
        size = len(self)
        if self._whole is None or not size:
            return np.empty(0, np.int64), np.empty(0, np.float32), 0.0
        whole, signs = self._whole.used[:size], self._signs
        rows = self._agreeing(signs, query, max(count, self._promising)) if signs else None
        cosines = _products(whole, rows, query)
        if count < len(cosines):
            chosen = np.argpartition(-cosines, count - 1)[:count]
        else:
            chosen = np.arange(len(cosines))
        chosen = chosen[np.argsort(-cosines[chosen], kind="stable")]
        found = chosen if rows is None else rows[chosen]
        return self._numbers.used[found], cosines[chosen], float(self._sum @ query) / size

    def _agreeing(
        self, signs: list[_Rows], query: NDArray[np.float32], count: int
    ) -> NDArray[np.int64]:
        """Rows with the most signs of the query's, ``count`` or, where signs are equal, more."""
        size = len(self)
        wanted = _signs(query[None])[:, 0]
        differing = np.zeros(size, np.uint16)
        one = np.empty(_SIGNS_AT_ONCE, np.uint64)
        bits = np.empty(_SIGNS_AT_ONCE, np.uint8)
        for start in range(0, size, _SIGNS_AT_ONCE):
            some = differing[start : start + _SIGNS_AT_ONCE]
            for rows, word in zip(signs, wanted, strict=True):
                column = rows.used[start : start + len(some)]
                np.bitwise_xor(column, word, out=one[: len(some)])
                np.bitwise_count(one[: len(some)], out=bits[: len(some)])
                np.add(some, bits[: len(some)], out=some)
        most = int(np.searchsorted(np.cumsum(np.bincount(differing)), min(count, size)))
        return np.nonzero(differing <= most)[0]


class _Rows:
    """An array that grows at its end; all is copied only when its room is used up."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.used = self._room = rows

    def append(self, rows: NDArray[Any]) -> None:
        old, new = len(self.used), len(self.used) + len(rows)
        if new > len(self._room):
            room = np.empty((new + new // 4, *self.used.shape[1:]), self.used.dtype)
            room[:old] = self.used
            self._room = room
        self._room[old:new] = rows
        self.used = self._room[:new]


def _signs(vectors: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Which numbers of vectors [n, dimensions] are above zero: bits [words, n]."""
    bits = np.packbits(vectors > 0, axis=1)
    words = -(-vectors.shape[1] // _WORD)
    padded = np.zeros((len(vectors), words * _WORD // 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(padded.view(np.uint64).T)


def _products(
    vectors: NDArray[Any], rows: NDArray[np.int64] | None, query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Products of a query with some rows, or with all."""
    if rows is None and vectors.dtype == np.float32:
        found: NDArray[np.float32] = vectors @ query
        return found
    places = np.arange(len(vectors)) if rows is None else rows
    found = np.empty(len(places), np.float32)
    block = np.empty((_ROWS_AT_ONCE, vectors.shape[1]), np.float32)
    for start in range(0, len(places), _ROWS_AT_ONCE):
        some = places[start : start + _ROWS_AT_ONCE]
        np.copyto(block[: len(some)], vectors[some])
        np.matmul(block[: len(some)], query, out=found[start : start + len(some)])
    return found
