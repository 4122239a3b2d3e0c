"""A process that writes blocks until it is killed, and says which are durable.

Blocks are made from their numbers, so that whoever reads them knows every byte.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from everlong.memory.block_store import BlockStore
from everlong.memory.record import NO_PARENT, PAGE, BlockHead, Record

CAPACITY = 256 * PAGE
"""Small, so that segments are made and cleaned all the time."""
_SLICES, _SLICE_BYTES = 3, 1000


def name(n: int) -> bytes:
    """Id of a block."""
    return n.to_bytes(32, "big")


def block(n: int) -> Record:
    """A block whose every byte follows from its number."""
    head = BlockHead(
        id=name(n),
        parent=name(n - 1) if n % 50 else NO_PARENT,
        namespace=b"n" * 16,
        fingerprint=b"f" * 32,
        token_ids=tuple(range(n, n + 64)),
        episodes=(),
        slices=_SLICES,
        slice_bytes=_SLICE_BYTES,
    )
    return Record.of(head, random.Random(n).randbytes(head.payload_bytes))


def open_store(folder: Path) -> BlockStore:
    """The store that is written."""
    return BlockStore(folder, CAPACITY)


def main(folder: Path, first: int) -> None:
    """Write blocks from ``first`` on; after each batch print the number that comes next."""
    store = open_store(folder)
    draw = random.Random(first)
    while True:
        last = first + draw.randrange(1, 6)
        for n in range(first, last):
            store.put(block(n), n % 50, patience=10)
        store.flush()
        assert not store.stats().trouble, store.stats().trouble
        print(last, flush=True)
        first = last


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
