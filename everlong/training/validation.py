"""Losses of texts that a run does not learn from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from everlong.data.batches import TokenBatch, read
from everlong.data.objectives import Shaping
from everlong.data.streams import Packed, Piece, Source
from everlong.errors import DataError

_TOGETHER = 16
"""Sequences that are computed at a time."""


class HeldOut:
    """The beginnings of some corpora, in sequences.

    Args:
        sources: the corpora.
        tokens: of each, about: the sequence that reaches them is read whole.
        length: tokens of a sequence at most.

    Raises:
        DataError: there is nothing in one of them that a loss could be of.
    """

    def __init__(self, sources: Sequence[Source], tokens: int, length: int) -> None:
        self._read = [(source, _beginning(source, tokens, length)) for source in sources]
        self._shaping: Shaping | None = None
        self._batches: dict[str, list[TokenBatch]] = {}

    def __bool__(self) -> bool:
        return bool(self._read)

    @property
    def first(self) -> str:
        """Name of the corpus by whose loss a run is judged."""
        return self._read[0][0].name

    def losses(
        self, loss: Callable[[TokenBatch], Tensor], shaping: Shaping | None = None
    ) -> dict[str, float]:
        """The mean loss of a learned token, or of a pair, of each corpus, in nats.

        Args:
            loss: the sum over the learned tokens or pairs of a batch.
            shaping: what is to be done with the texts; None: the next token is predicted.
        """
        if not self._batches or shaping != self._shaping:
            self._shaping = shaping
            self._batches = {
                source.name: [
                    read([Packed(0, some)], [source], shaping) for some in _batches(pieces)
                ]
                for source, pieces in self._read
            }
        found = {}
        for name, batches in self._batches.items():
            with torch.no_grad():
                total = sum(float(loss(batch)) for batch in batches)
            found[name] = total / sum(batch.learned for batch in batches)
        return found


def _batches(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, ...]]:
    """None of many has a single piece, which a contrastive loss could not compare."""
    cuts = [*range(0, max(1, len(pieces) - 1), _TOGETHER), len(pieces)]
    for start, end in itertools.pairwise(cuts):
        yield tuple(pieces[start:end])


def _beginning(source: Source, tokens: int, length: int) -> list[Piece]:
    pieces: list[Piece] = []
    left = tokens
    for document in range(source.shards.documents):
        if left <= 0:
            break
        end = source.shards.length(document) - 1
        for start in range(0, end, length):
            if left <= 0:
                break
            piece = Piece(0, document, start, min(end, start + length))
            pieces.append(piece)
            left -= len(piece)
    learned = (
        source.shards.learned(piece.document, piece.start + 1, piece.end + 1).any()
        for piece in pieces
    )
    if not any(learned):
        raise DataError(f"{source.shards.folder} has nothing that is learned in its beginning")
    return pieces
