"""From packed sequences to tensors: tokens, and what each of them predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from everlong.data.streams import Packed, Source

NOT_LEARNED = -100
"""A target that has no loss, as PyTorch's cross-entropy has it."""


@dataclass(frozen=True)
class TokenBatch:
    """Sequences one after the other."""

    tokens: Tensor
    """int64 [N]."""
    targets: Tensor
    """The next token of each, or ``NOT_LEARNED``; int64 [N]."""
    lengths: tuple[int, ...]
    """Of the sequences; they sum to N."""

    @property
    def learned(self) -> int:
        """Tokens that have a loss."""
        return int((self.targets != NOT_LEARNED).sum())

    @property
    def positions(self) -> Tensor:
        """Of the tokens in their sequences, int64 [N]."""
        return torch.cat([torch.arange(length) for length in self.lengths])


def read(packed: Sequence[Packed], sources: Sequence[Source]) -> TokenBatch:
    """Read the tokens of sequences.

    Pieces become sequences of their own, the longest first, so that those of equal length, which
    are computed together, lie side by side; a batch is a set.

    Raises:
        DataError: the shards are damaged.
    """
    pieces = [piece for one in packed for piece in one.pieces]
    pieces.sort(key=lambda piece: -len(piece))
    tokens, targets = [], []
    for piece in pieces:
        shards = sources[piece.source].shards
        # One more than is read: each token predicts the one behind it.
        found = shards.read(piece.document, piece.start, piece.end + 1)
        learned = shards.learned(piece.document, piece.start + 1, piece.end + 1)
        tokens.append(found[:-1])
        targets.append(np.where(learned, found[1:], NOT_LEARNED))
    return TokenBatch(
        torch.from_numpy(np.concatenate(tokens)),
        torch.from_numpy(np.concatenate(targets)),
        tuple(map(len, pieces)),
    )
