"""From packed sequences to tensors: tokens, and what each of them predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from everlong.data.objectives import NOT_LEARNED, Shaped, Shaping
from everlong.data.streams import Packed, Source
from everlong.model.cache import Sight


@dataclass(frozen=True)
class TokenBatch:
    """Sequences one after the other."""

    tokens: Tensor
    """int64 [N]."""
    targets: Tensor
    """The next token of each, or ``NOT_LEARNED``; int64 [N]."""
    lengths: tuple[int, ...]
    """Of the sequences; they sum to N."""
    sights: tuple[Sight, ...]
    """What the tokens of each sequence see."""
    pairs: Literal["contrastive", "preference"] | None = None
    """Whether sequences are pairs: a query and its passage, or a better answer and a worse one."""

    def to(self, device: torch.device) -> TokenBatch:
        """The same there."""
        if device == self.tokens.device:
            return self
        return replace(self, tokens=self.tokens.to(device), targets=self.targets.to(device))

    @property
    def alike(self) -> Tensor:
        """Which pairs have the same text as one of their two, bool [pairs, pairs].

        A small corpus comes round within a step, and a passage may answer several queries.
        """
        texts = [tuple(one.tolist()) for one in torch.split(self.tokens, [*self.lengths])]
        known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        numbers = torch.tensor([known[text] for text in texts]).view(-1, 2)
        return (numbers[:, None] == numbers[None]).any(-1)

    @property
    def learned(self) -> int:
        """Tokens that have a loss, or pairs."""
        return len(self.lengths) // 2 if self.pairs else int((self.targets != NOT_LEARNED).sum())

    @property
    def positions(self) -> Tensor:
        """Of the tokens in their sequences, int64 [N]."""
        return torch.cat([torch.arange(length) for length in self.lengths])


def read(
    packed: Sequence[Packed], sources: Sequence[Source], shaping: Shaping | None = None
) -> TokenBatch:
    """Read the tokens of sequences.

    Pieces become sequences of their own, the longest first, so that those of equal length, which
    are computed together, lie side by side; a batch is a set.

    Args:
        packed: what is read.
        sources: of which they are pieces.
        shaping: what is to be done with them; None: the next token is predicted.

    Raises:
        DataError: the shards are damaged, or are no pairs where pairs are learned.
    """
    shaping = shaping or Shaping()
    pieces = [piece for one in packed for piece in one.pieces]
    pieces.sort(key=lambda piece: -len(piece))
    shaped: list[Shaped] = []
    for piece in pieces:
        shards = sources[piece.source].shards
        # One more than is read: each token predicts the one behind it.
        tokens = shards.read(piece.document, piece.start, piece.end + 1)
        learned = shards.learned(piece.document, piece.start + 1, piece.end + 1)
        shaped += shaping(piece, tokens, learned)
    return TokenBatch(
        torch.from_numpy(np.concatenate([one.tokens for one in shaped])),
        torch.from_numpy(np.concatenate([one.targets for one in shaped])),
        tuple(len(one.tokens) for one in shaped),
        tuple(one.sight for one in shaped),
        shaping.objective if shaping.objective in ("contrastive", "preference") else None,
    )
