"""A process that writes blocks until it is killed, and says which are durable."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from everlong.memory.block_store import BlockStore
from everlong.memory.record import PAGE
from tests.memory.blocks import block

CAPACITY = 256 * PAGE
"""Small, so that segments are made and cleaned all the time."""


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
