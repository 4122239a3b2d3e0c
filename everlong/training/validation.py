"""Losses of texts that a run does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from everlong.data.batches import TokenBatch, read
from everlong.data.streams import Packed, Piece, Source
from everlong.errors import DataError

_TOGETHER = 16
"""Sequences that are computed at a time."""


class HeldOut:
    """The beginnings of some corpora, in sequences.

    Args:
        sources: the corpora.
        tokens: of each, at most.
        length: tokens of a sequence at most.

    Raises:
        DataError: there is nothing in one of them that a loss could be of.
    """

    def __init__(self, sources: Sequence[Source], tokens: int, length: int) -> None:
        self._batches = {source.name: _beginning(source, tokens, length) for source in sources}

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def first(self) -> str:
        """Name of the corpus by whose loss a run is judged."""
        return next(iter(self._batches))

    def losses(self, loss: Callable[[TokenBatch], Tensor]) -> dict[str, float]:
        """The mean loss of a learned token of each corpus, in nats.

        Args:
            loss: the sum over the learned tokens of a batch.
        """
        found = {}
        for name, batches in self._batches.items():
            with torch.no_grad():
                total = sum(float(loss(batch)) for batch in batches)
            found[name] = total / sum(batch.learned for batch in batches)
        return found


def _beginning(source: Source, tokens: int, length: int) -> list[TokenBatch]:
    pieces: list[Piece] = []
    left = tokens
    for document in range(source.shards.documents):
        end = source.shards.length(document) - 1
        for start in range(0, end, length):
            if left <= 0:
                break
            piece = Piece(0, document, start, min(end, start + length))
            pieces.append(piece)
            left -= len(piece)
    batches = [
        read([Packed(0, tuple(pieces[at : at + _TOGETHER]))], [source])
        for at in range(0, len(pieces), _TOGETHER)
    ]
    if not any(batch.learned for batch in batches):
        raise DataError(f"{source.shards.folder} has nothing that is learned in its beginning")
    return batches
