"""Attention routing: which keys and values a query reads, chosen by what is in them.

Attention is concentrated: nearly all of it falls on a few places. To know which without reading
the keys, queries estimate their scores of all tokens from an index (``routing_index.py``), and so
how much of their attention falls on each *piece* of 4 tokens. Read are the first blocks, the last
ones, and of the others the best pieces: a share of all, as estimates err most where attention
seems to be in few places, and what stands out. What is not read is taken to have the mean value
(Ribar et al., "SparQ", 2023, section 4).

Neighbouring tokens of a block that are computed together read the same pieces, for all heads of a
kv head, chosen by some of their queries: the best of them in the mean; so what is read is read once
for all of them. A token that is computed alone chooses alone, by the largest share in any head. Of
a prompt's last tokens, which say what is asked for, all choose. Long sequences are searched in two
levels (``outline.py``).

Keys are rotated at their position. What lies farther back than a model was trained for is asked as
if it lay within reach (queries are turned, keys stay); and as the directions are found on positions
within reach, codes are those of the key at its place in a *frame* of that length.

Here is what is chosen; who reads it are whole sequences (``routed_sequence.py``) and the rows of a
step (``routed_blocks.py``), in PyTorch, and ``native/routing.h`` in the kernels, which choose in
``native/choosing.h``. Pieces, and queries that choose for others: ours, as measured in
``docs/experiments.md``.

Letters: T tokens, N blocks, P pieces, H query heads, K kv heads, G = H / K, D head size, R
directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from everlong.errors import ConfigError
from everlong.model.cache import BLOCK, PIECE, PIECES
from everlong.model.routing_index import Projection

FOUR_TOKENS = 1.8
"""Attention to the four tokens of a piece by the largest of their scores alone: times this, as
measured (``docs/experiments.md``, section 23)."""
UNREAD = 0.4
"""What is not read are many small estimates, of which errors of scores make too much: so much of it
counts, as measured (``docs/experiments.md``, section 24)."""
KNOWN = 4
"""Of so many of those that choose together, at most, it is known how much they do not read."""
_MOST_CHOSEN = 1 << 16
_MOST_FIXED = 64


Choosers = Literal["alone", "together", "asked"]
"""Who chooses: a token that is computed alone, some of a prompt's, or some of its last ones."""


@dataclass(frozen=True)
class Budget:
    """How much a query reads."""

    least: int = 256
    """Pieces of 4 tokens that a token which is computed alone, as in decoding, chooses at least,
    besides the first and the last blocks: a sixteenth of all, from so many"""
    least_of_long: int = 512
    """to so many. Estimates err, so a head that seems to need few reads as many as others."""
    share: float = 0.002
    """Besides, it chooses whatever has such a share of the estimated attention of a head."""
    most: int = 1024
    """And so many pieces at most."""
    prompt: int = 1536
    """Pieces that tokens choose which are computed together, as those of a prompt."""
    asked: int = 4096
    """Pieces that a prompt's last tokens choose, which say what is asked for."""
    first: int = 1
    """Blocks at the beginning that are always read: much attention rests there (Xiao et al., 2023,
    section 3.1)."""
    last: int = 2
    """Blocks at the end, with that of the queries, that are always read."""
    rows: int = 64
    """So many neighbouring tokens of a block read the same pieces, where they are computed
    together; divides 64."""
    queries: int = 16
    """Of them, so many choose for all."""
    dense: int = 64
    """So many blocks, 4,096 tokens, are read without choosing: choosing would cost more."""
    flat: int = 2048
    """Up to so many blocks, 131,072 tokens, all are searched token by token. Of more, some are; see
    ``model/outline.py``."""
    searched: int = 512
    """So many."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"share is from 0 to 1, not {self.share}")
        if not 0 <= self.least <= self.least_of_long <= self.most:
            raise ConfigError(
                f"least is from 0 to least_of_long, and that to most, not {self.least} to "
                f"{self.least_of_long} to {self.most}"
            )
        for name, low in (
            ("prompt", 0),
            ("asked", 0),
            ("first", 0),
            ("last", 1),
            ("queries", 1),
            ("dense", 0),
            ("flat", 0),
            ("searched", 1),
        ):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is at least {low}, not {getattr(self, name)}")
        if not 1 <= self.rows <= BLOCK or BLOCK % self.rows:
            raise ConfigError(f"rows divides {BLOCK}, and {self.rows} does not")
        mosts = (self.most, self.prompt, self.asked)
        if max(mosts) > _MOST_CHOSEN:
            raise ConfigError(f"most is at most {_MOST_CHOSEN}, not {max(mosts)}")
        if self.first + self.last > _MOST_FIXED:
            raise ConfigError(
                f"first and last are at most {_MOST_FIXED} together, not {self.first + self.last}"
            )

    def least_of(self, blocks: int) -> int:
        """Pieces that a token alone chooses at least, with so many blocks, its own included."""
        return min(max(blocks * PIECES // 16, self.least), self.least_of_long)

    def reads_all(self, blocks: int, who: Choosers) -> bool:
        """Whether those who have so many blocks, their own included, read them all unchosen."""
        others = (blocks - self.first - self.last) * PIECES
        chosen = {"alone": 0, "together": self.prompt, "asked": self.asked}[who]
        return blocks <= self.dense or others <= chosen


@dataclass(frozen=True)
class Routing:
    """How a model chooses what it reads."""

    projection: Projection
    budget: Budget


def choose(worth: Tensor, blocks: int, budget: Budget, who: Choosers) -> Tensor:
    """Which pieces are read, by their estimated share of the attention.

    Args:
        worth: of each piece, [K, P], see :func:`worth_of`.
        blocks: those before that of the queries, and it.
        budget: how much.
        who: chooses.

    Returns:
        bool [K, P].
    """
    chosen = torch.zeros_like(worth, dtype=torch.bool)
    first, last = min(budget.first, blocks) * PIECES, max(blocks - budget.last, 0) * PIECES
    chosen[:, :first] = True
    chosen[:, last:] = True
    if last <= first:
        return chosen
    best, place = worth[:, first:last].sort(dim=1, descending=True, stable=True)
    needed = budget.asked if who == "asked" else budget.prompt
    count = torch.full((len(best), 1), needed, device=worth.device)
    if who == "alone":
        count = (best >= budget.share).sum(1, keepdim=True)
        count = count.clamp(budget.least_of(blocks), budget.most)
    taken = torch.arange(last - first, device=worth.device).expand_as(place) < count
    chosen[:, first:last].scatter_(1, place, taken)
    return chosen


def worth_of(shares: Tensor, who: Choosers) -> Tensor:
    """What pieces are worth to those who choose: [K, P] of shares [K, G, n, P]."""
    return shares.amax((1, 2)) if who == "alone" else shares.mean((1, 2))


def unread(shares: Tensor, chosen: Tensor, rows: int) -> Tensor:
    """The share of their attention that queries do not read: [rows, H].

    Args:
        shares: of each piece, of the queries that choose, [K, G, n, P].
        chosen: bool [K, P].
        rows: of the group of queries; each is taken to be as the next one of which it is known.
    """
    known = sampled(shares.shape[2], KNOWN)
    left = (shares[:, :, known] * ~chosen[:, None, None]).sum(-1)
    found = UNREAD * left / (1 - left + UNREAD * left)  # [K, G, known]
    at = sampled(rows, shares.shape[2])[known]
    return found[..., torch.searchsorted(at, torch.arange(rows))].flatten(0, 1).T


def shares_by_piece(
    scores: Tensor,
    at: Tensor,
    budget: Budget,
    exactly: Callable[[slice], Tensor],
    searched: Tensor | None = None,
) -> Tensor:
    """Shares of the attention of some queries of one block to each piece, estimated: [K, G, n, P].

    Args:
        scores: estimated scores of the queries that choose, [K, G, n, T].
        at: their places, int [n]; T ends with the last of them, or in its block.
        budget: how much is read.
        exactly: exact scores of a slice of the tokens.
        searched: which blocks are searched, bool [K, N]; None: all.
    """
    block = int(at[-1]) // BLOCK
    # Of what is read anyway the exact ones: keys at the beginning are like no others, and codes
    # have no step for them.
    first, last = budget.first * BLOCK, (block + 1 - budget.last) * BLOCK
    for part in (slice(first), slice(last, None)):
        scores[..., part] = exactly(part)
    seen = torch.arange(scores.shape[-1], device=scores.device) <= at.to(scores.device)[:, None]
    scores = scores.masked_fill(~seen, float("-inf"))
    weights = by_piece((scores - scores.amax(-1, keepdim=True)).exp(), block + 1)
    mass = weights.sum(-1)  # [K, G, n, P]
    others = slice(first // PIECE, last // PIECE)
    mass[..., others] = FOUR_TOKENS * weights.amax(-1)[..., others]
    if searched is not None:
        left_out = ~searched.repeat_interleave(PIECES, 1)[:, None, None, others]
        mass[..., others] = mass[..., others].masked_fill(left_out, 0)
    return mass / mass.sum(-1, keepdim=True)


def sampled(count: int, most: int) -> Tensor:
    """Places of at most ``most`` of ``count`` queries, evenly spread, the last one among them."""
    step = -(-count // most)
    return torch.arange(count - 1, -1, -step).flip(0)


def by_piece(weights: Tensor, blocks: int) -> Tensor:
    """[..., T] by pieces: [..., P, 4]; what is missing of the last block is 0."""
    whole = pad(weights, (0, blocks * BLOCK - weights.shape[-1]))
    return whole.view(*whole.shape[:-1], -1, PIECE)
