"""Columns of numbers, too many for memory together: on disk, and looked through for equal ones."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from everlong.curation.step import Hashes

Places = NDArray[np.int64]


class Table:
    """A file of columns, one after the other.

    Rows are written as they come, some at a time into each column; then columns are read.

    Args:
        file: for reading, writing, or both.
        rows: of every column.
        dtype: of the numbers, little-endian.
    """

    def __init__(self, file: BinaryIO, rows: int, dtype: str) -> None:
        self._file, self.rows, self._dtype = file, rows, np.dtype(dtype)

    def write(self, column: int, first: int, values: NDArray[Any]) -> None:
        """Write some rows of a column."""
        self._seek(column, first)
        self._file.write(values.astype(self._dtype, copy=False).tobytes())

    def read(self, column: int, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """Rows of a column; all of them, if it is not said how many."""
        count = self.rows - first if count is None else count
        self._seek(column, first)
        found = np.fromfile(self._file, dtype=self._dtype, count=count)
        assert len(found) == count, f"{len(found)} of {count} rows"
        return found

    def _seek(self, column: int, row: int) -> None:
        self._file.seek((column * self.rows + row) * self._dtype.itemsize)


def equal_rows(key: Hashes, *more: Hashes) -> tuple[Places, NDArray[np.bool_]]:
    """Rows that are equal to another one.

    What is sorted first are keys whose last bits give way to the number of the row: a sort of plain
    numbers, in place, is several times as fast as one of their order. Rows that then seem equal are
    few, and compared in full.

    Args:
        key: [n].
        more: further columns, all of which have to be equal.

    Returns:
        Numbers of such rows, equal ones together, in ascending order; and for each whether it is
        the first of its equals.
    """
    bits = np.uint64(len(key).bit_length())
    packed = key >> bits
    packed <<= bits
    packed |= np.arange(len(key), dtype=np.uint64)
    packed.sort()
    seem_equal = packed[_in_groups((packed[1:] ^ packed[:-1]) >> bits != 0)[: len(key)]]
    rows: Places = (seem_equal & np.uint64((1 << int(bits)) - 1)).astype(np.int64)
    del packed
    columns = [column[rows] for column in (key, *more)]
    order = np.lexsort(columns[::-1])  # stable: rows of a group stay in order
    rows = rows[order]
    differ: NDArray[np.bool_] = np.zeros(max(len(rows) - 1, 0), dtype=np.bool_)
    for column in columns:
        differ |= column[order[1:]] != column[order[:-1]]
    grouped = _in_groups(differ)[: len(rows)]
    first = np.concatenate([_TRUE, differ])[: len(rows)]
    return rows[grouped], first[grouped]


_TRUE = np.ones(1, dtype=np.bool_)


def _in_groups(differ: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which sorted rows equal the one before or after.

    Args:
        differ: whether the second row, third row and so on differs from the one before.
    """
    bounds = np.concatenate([_TRUE, differ, _TRUE])
    grouped: NDArray[np.bool_] = ~(bounds[1:] & bounds[:-1])
    return grouped
