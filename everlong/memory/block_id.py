"""What a block is called: a name that only its owner can make, and only for what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from everlong.memory.record import NO_PARENT

BLOCK_TOKENS = 64
"""Tokens of a block."""

BlockId = bytes
"""Keyed hash of a block's tokens and of everything they were computed under; 32 bytes."""


def block_id(secret: bytes, fingerprint: bytes, parent: BlockId, tokens: Sequence[int]) -> BlockId:
    """Identity of the block that holds ``tokens`` after the block ``parent``.

    Equal ids mean equal keys and values: the hash covers the whole prefix (through ``parent``),
    the weights with their packing, tokenizer and positions (``fingerprint``, which an adapter
    extends), and is keyed, so that a namespace can neither find nor forge another's blocks.

    Args:
        secret: of the namespace, 16 to 64 bytes.
        fingerprint: of the model as used.
        tokens: the block's token ids.
    """
    digest = hashlib.blake2b(key=secret, digest_size=32)
    digest.update(len(fingerprint).to_bytes(4, "little") + fingerprint + parent)
    digest.update(np.asarray(tokens, dtype="<i4").tobytes())
    return digest.digest()


def chain(secret: bytes, fingerprint: bytes, tokens: Sequence[int]) -> Iterator[BlockId]:
    """Ids of the full blocks of a sequence, in order; see :func:`block_id`."""
    parent = NO_PARENT
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        parent = block_id(secret, fingerprint, parent, tokens[start : start + BLOCK_TOKENS])
        yield parent
