"""What a model has to do with a text: one backbone, several objectives.

``next``: predict the next token, seeing those before (causal).
``denoise``: predict tokens that were masked, seeing all others (bidirectional); each is predicted
    by the token before it, as the head does it anyway (BehnamGhader et al., "LLM2Vec", 2024,
    section 2.2).
``prefix``: predict what follows a prefix, inside which all tokens see one another (Raffel et al.,
    "T5", 2020, section 3.2.3).
``contrastive``: find the passage that belongs to a query among those of the other queries.

``preference``: give a better answer more of its probability than a worse one, beside the model
    before the run (Rafailov et al., "Direct Preference Optimization", 2023, section 4).

What is drawn for a piece of a text depends on the seed, the step and the piece alone, so it is the
same however pieces are shared among processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everlong.data.streams import Piece
from everlong.errors import DataError
from everlong.model.cache import Sight

Objective = Literal["next", "denoise", "prefix", "contrastive", "preference"]
OBJECTIVES: tuple[Objective, ...] = ("next", "denoise", "prefix", "contrastive", "preference")

NOT_LEARNED = -100
"""A target that has no loss, as PyTorch's cross-entropy has it."""


@dataclass(frozen=True)
class Shaped:
    """A sequence as it is computed."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    """The next token of each, or ``NOT_LEARNED``."""
    sight: Sight = "causal"


@dataclass(frozen=True)
class Shaping:
    """How the pieces of one step become sequences.

    Args:
        objective: what is learned.
        seed: of the run.
        step: number of the step.
        mask: id of the token that stands for masked ones.
        masked: share of the tokens that ``denoise`` masks.
    """

    objective: Objective = "next"
    seed: int = 0
    step: int = 0
    mask: int = 0
    masked: float = 0.2

    def __call__(
        self, piece: Piece, tokens: NDArray[np.int64], learned: NDArray[np.bool_]
    ) -> tuple[Shaped, ...]:
        """The sequences that a piece becomes: one, or the two of a pair.

        Args:
            piece: which it is.
            tokens: of the piece and the one behind it, [n + 1].
            learned: whether each but the first has a loss, [n].
        """
        targets: NDArray[np.int64] = np.where(learned, tokens[1:], NOT_LEARNED)
        match self.objective:
            case "next":
                return (Shaped(tokens[:-1], targets),)
            case "denoise":
                hidden = self._draw(piece).random(len(tokens)) < self.masked
                hidden[0] = False  # nothing is before it that would predict it
                if not (hidden[1:] & learned).any():
                    hidden[1 + int(np.argmax(learned))] = True
                seen = np.where(hidden, self.mask, tokens)[:-1]
                return (Shaped(seen, np.where(hidden[1:], targets, NOT_LEARNED), "bidirectional"),)
            case "prefix":
                # At least one token follows whose loss is learned, where there is one at all.
                last = int(np.flatnonzero(learned).max(initial=0))
                prefix = int(self._draw(piece).integers(1, max(2, last + 1)))
                hidden_targets = targets.copy()
                hidden_targets[: prefix - 1] = NOT_LEARNED
                return (Shaped(tokens[:-1], hidden_targets, prefix),)
            case "contrastive":
                query = 1 + int(np.argmax(learned)) if learned.any() else 0
                if piece.start or not query or query == len(tokens):
                    raise DataError(
                        "contrastive steps read whole pairs: name corpora of kind pairs, and "
                        "sequences as long as the longest pair"
                    )
                nothing = np.full(len(tokens), NOT_LEARNED)
                parts = (slice(query), slice(query, None))
                return tuple(Shaped(tokens[part], nothing[part], "bidirectional") for part in parts)
            case "preference":
                # Context, better answer, context, worse answer; answers are what is learned.
                ends = 1 + np.flatnonzero(learned[:-1] & ~learned[1:])
                if piece.start or len(ends) != 1:
                    raise DataError(
                        "preference steps read whole pairs of answers: name corpora of kind "
                        "preferences, and sequences as long as both conversations together"
                    )
                cut = 1 + int(ends[0])
                return (
                    Shaped(tokens[: cut - 1], targets[: cut - 1]),
                    Shaped(tokens[cut:-1], targets[cut:]),
                )

    def _draw(self, piece: Piece) -> np.random.Generator:
        where = [piece.source, piece.document, piece.start, 0]
        return np.random.Generator(np.random.Philox(key=[self.seed, self.step], counter=where))
