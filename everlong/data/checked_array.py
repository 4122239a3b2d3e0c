"""Arrays in files that are mapped, and compared with checksums block by block as they are read.

A disk or a copy may change bits long after a file was written, and a model learns from whatever is
there. To read a whole corpus before the first step would take as long as an epoch; a block is read
anyway, and its checksum costs a few microseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from everlong.errors import DataError

BLOCK_BYTES = 1 << 18


def blocks_in(size: int) -> int:
    """Blocks of a file of so many bytes; the last one may be shorter."""
    return -(-size // BLOCK_BYTES)


def block_checksums(path: Path) -> NDArray[np.uint64]:
    """Of each block of a file, xxh3, uint64 [blocks]."""
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
        found = [xxhash.xxh3_64_intdigest(block) for block in blocks]
    return np.array(found, dtype="<u8")


class CheckedArray:
    """A mapped array.

    Args:
        path: of the file.
        dtype: of the items.
        checksums: of its blocks, as :func:`block_checksums` gives them.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], checksums: NDArray[np.uint64]) -> None:
        self._path, self._checksums = path, checksums
        self._items: NDArray[Any] = (
            np.memmap(path, dtype=dtype, mode="r") if len(checksums) else np.empty(0, dtype)
        )
        self._bytes = self._items.view(np.uint8)
        self._checked = np.zeros(len(checksums), dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, end: int) -> NDArray[Any]:
        """Items ``start`` to ``end``, mapped.

        Raises:
            DataError: a block with some of them is not what was written.
        """
        size = self._items.itemsize
        for block in range(start * size // BLOCK_BYTES, blocks_in(end * size)):
            if not self._checked[block]:
                self._check(block)
        return self._items[start:end]

    def _check(self, block: int) -> None:
        first = block * BLOCK_BYTES
        content = self._bytes[first : first + BLOCK_BYTES]
        if xxhash.xxh3_64_intdigest(content.data) != self._checksums[block]:
            raise DataError(
                f"{self._path} is damaged: bytes {first:,} to {first + len(content):,} are not "
                "what was written; remove its folder and have the shards made anew"
            )
        self._checked[block] = True
