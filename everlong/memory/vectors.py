"""Vectors of a namespace's episodes, searched by cosine: all of them, or the promising ones.

Up to ``EXACT`` vectors every one is compared. Beyond that, vectors are first compared in the few
directions in which they differ most, which takes a fraction of the time, and then the best of those
in all directions. There is no graph and no list of cells: a vector is a row, and what is appended
is found at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 50_000
"""So many vectors are compared one by one."""
DIRECTIONS = 64
"""In which larger collections are compared first."""
PROMISING = 3000
"""Of those, how many are then compared in all directions."""

_SAMPLE = 20_000
"""Vectors from which directions are found."""
_AT_ONCE = 50_000
"""Rows that are converted at once."""


class Vectors:
    """Vectors with the numbers of their episodes, ascending; later ones are appended.

    One thread at a time may append; others may search meanwhile what was there before.

    Args:
        exact, directions, promising: see ``EXACT``, ``DIRECTIONS``, ``PROMISING``.
    """

    def __init__(
        self, exact: int = EXACT, directions: int = DIRECTIONS, promising: int = PROMISING
    ) -> None:
        self._exact, self._directions, self._promising = exact, directions, promising
        self._numbers = _Rows(np.empty(0, np.int64))
        # float32 while all are compared; float16, as they are stored, from then on.
        self._whole: _Rows | None = None
        self._basis: NDArray[np.float32] | None = None  # [dimensions, directions]
        self._short: _Rows | None = None  # [n, directions], float32
        self._sum: NDArray[np.float64] = np.zeros(0)

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
        if self._basis is None and len(self) + len(numbers) > self._exact:
            self._shorten(vectors)
        self._whole.append(vectors)
        if self._short is not None:
            self._short.append(self._projected(vectors))
        self._numbers.append(numbers)  # last: what has no number is not looked at

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
        whole = self._whole.used[:size]
        if self._short is None or self._basis is None:
            cosines = whole.astype(np.float32, copy=False) @ query
            rows = _largest(cosines, count)
            cosines = cosines[rows]
        else:
            rows = _largest(self._short.used[:size] @ (query @ self._basis), self._promising)
            cosines = whole[rows].astype(np.float32) @ query
        order = np.argsort(-cosines, kind="stable")[:count]
        mean = float(self._sum @ query) / size
        return self._numbers.used[rows[order]], cosines[order], mean

    def _shorten(self, later: NDArray[np.float16]) -> None:
        """Find directions, and keep what is there in half precision from now on."""
        assert self._whole is not None, "vectors are there"
        known = self._whole.used
        step = max((len(known) + len(later)) // _SAMPLE, 1)
        sample = np.concatenate((known[::step], later[::step].astype(np.float32)))
        # Not centred: what is to be kept is the product with a query.
        _, axes = np.linalg.eigh(sample.T @ sample)
        self._basis = np.ascontiguousarray(axes[:, ::-1][:, : self._directions])
        self._whole = _Rows(known.astype(np.float16))
        self._short = _Rows(self._projected(known))

    def _projected(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        assert self._basis is not None, "directions were found"
        found = np.empty((len(vectors), self._basis.shape[1]), np.float32)
        for start in range(0, len(vectors), _AT_ONCE):
            some = vectors[start : start + _AT_ONCE].astype(np.float32, copy=False)
            np.matmul(some, self._basis, out=found[start : start + _AT_ONCE])
        return found


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


def _largest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the largest scores, in no order."""
    if count >= len(scores):
        return np.arange(len(scores))
    # Sorting a million out takes longer than comparing them. A sample says what is certainly not
    # among the largest.
    step = max(len(scores) // _SAMPLE, 1)
    sample = scores[::step]
    rank = min(2 * count // step + 10, len(sample))
    least = np.partition(sample, len(sample) - rank)[len(sample) - rank]
    (places,) = np.nonzero(scores >= least)
    if len(places) < count:
        places = np.arange(len(scores))
    chosen = np.argpartition(-scores[places], count - 1)[:count]
    return places[chosen]
