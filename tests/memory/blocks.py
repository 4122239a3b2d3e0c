"""Blocks whose every byte follows from their number, so that whoever reads them knows it."""

from __future__ import annotations

import random

from everlong.memory.record import NO_PARENT, PAGE, BlockHead, Record

SLICES, SLICE_BYTES = 4, 1024
RECORD = 2 * PAGE
"""Bytes of each on disk: a page of head, a page of slices."""


def name(n: int) -> bytes:
    """Id of a block."""
    return n.to_bytes(32, "big")


def block(n: int) -> Record:
    """A block."""
    head = BlockHead(
        id=name(n),
        parent=name(n - 1) if n else NO_PARENT,
        namespace=b"n" * 16,
        fingerprint=b"f" * 32,
        token_ids=tuple(range(n, n + 64)),
        slices=SLICES,
        slice_bytes=SLICE_BYTES,
    )
    return Record.of(head, random.Random(n).randbytes(SLICES * SLICE_BYTES))
