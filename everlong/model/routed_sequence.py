"""Routed attention of whole sequences to themselves: for training, and for showing what is read.

The plain code, through which gradients flow: to queries, keys and values as in dense attention
over what was chosen. The choice itself has no gradient; what chooses, the index, learns from a loss
of its own: how far its estimate is from the attention that it estimates, as in DeepSeek-V3.2 (2025,
section 2.1), whose sparse training stage it follows. Keys and queries learn nothing from that loss.

Letters: B sequences; see ``model/routing.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from everlong.model.attention import pieces
from everlong.model.cache import BLOCK, PIECE, PIECES, sampled_blocks
from everlong.model.routing import (
    Budget,
    Choosers,
    choose,
    sampled,
    shares_by_piece,
    unread,
    worth_of,
)
from everlong.model.routing_index import Projection


class RoutedAttention:
    """Attention of whole sequences to themselves, a few tokens to the pieces they choose.

    The index of a sequence is made anew in every call.

    Args:
        projection: of the model; its tensors may be parameters.
        budget: how much is read.
        observe: told, for each layer, sequence and tokens that choose together, in order, which
            pieces they read: ``observe(layer, places, chosen)`` with bool [K, P].
        teach: whether to collect what the index has to learn, see :meth:`take_loss`.
    """

    def __init__(
        self,
        projection: Projection,
        budget: Budget,
        observe: Callable[[int, range, Tensor], None] = lambda layer, places, chosen: None,
        teach: bool = False,
    ) -> None:
        self._projection, self._budget, self._observe = projection, budget, observe
        self._teach = teach
        self._losses: list[Tensor] = []

    def take_loss(self) -> Tensor:
        """The loss of the index since the last call, a mean over layers and queries; for
        ``backward``."""
        assert self._losses, "taught, and sequences long enough that something was chosen"
        loss = torch.stack(self._losses).mean()
        self._losses = []
        return loss

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """As :class:`everlong.model.attention.Attend`, with q [B, T, H, D]."""
        assert window is None, "layers that see a window only are not routed"
        return torch.stack([self._sequence(layer, *one) for one in zip(q, k, v, strict=True)])

    def _sequence(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            codes = self._projection.codes(layer, k)
        scale = q.shape[-1] ** -0.5
        out = []
        sample, mean = range(0), v  # other ones only when the text has doubled
        for rows, places in pieces(0, len(q), self._budget.rows):
            block, end = places.start // BLOCK, rows.stop
            left = None
            who: Choosers = "alone" if len(places) == 1 else "together"
            if self._budget.reads_all(block + 1, who):
                chosen = k.new_ones(k.shape[1], (block + 1) * PIECES, dtype=torch.bool)
            else:
                at = rows.start + sampled(len(places), self._budget.queries)
                with torch.no_grad():
                    asking = q[at] * scale
                    exactly = partial(exact, asking, k[:end])
                    scores = self._projection.scores(layer, asking, codes[:end])
                    shares = shares_by_piece(scores, at, self._budget, exactly)
                    chosen = choose(worth_of(shares, who), block + 1, self._budget, who)
                    left = unread(shares, chosen, len(places))
                if (now := sampled_blocks(block)) != sample:
                    sample = now
                    mean = torch.stack([v[n * BLOCK :][:BLOCK] for n in sample]).mean((0, 1))
                if self._teach:
                    first = self._budget.first * BLOCK
                    self._losses.append(
                        index_loss(self._projection, layer, q[at] * scale, k[:end], at, first)
                    )
            self._observe(layer, places, chosen)
            found = attend_chosen(q[rows], k[:end], v[:end], chosen)
            if left is not None and sample:
                of_heads = mean.repeat_interleave(q.shape[1] // len(mean), 0).to(found)
                found = torch.lerp(found, of_heads.expand_as(found), left[..., None].to(found))
            out.append(found)
        return torch.cat(out)


def index_loss(
    projection: Projection, layer: int, q: Tensor, k: Tensor, at: Tensor, first: int
) -> Tensor:
    """How far the estimated attention is from the attention: a loss for the projection.

    The Kullback-Leibler divergence of what the index estimates from what dense attention is,
    over the tokens that are not read anyway; queries and keys are taken as they are.

    Args:
        projection: whose tensors learn.
        layer: which.
        q: rotated queries that choose, times the scale of scores, [n, H, D].
        k: rotated keys [T, K, D].
        at: places of the queries, int [n].
        first: so many tokens at the beginning are read anyway.

    Returns:
        The mean over queries and heads, in nats.
    """
    q, k = q.detach(), k.detach()
    place = torch.arange(first, len(k), device=k.device)
    unseen = place > at.to(k.device)[:, None]
    wanted = exact(q, k, slice(first, None)).masked_fill(unseen, float("-inf")).log_softmax(-1)
    estimated = projection.scores(layer, q, projection.rounded(layer, k[first:]))
    estimated = estimated.masked_fill(unseen, float("-inf")).log_softmax(-1)
    apart = wanted.exp() * (wanted - estimated).masked_fill(unseen, 0)
    return apart.sum(-1).mean()


def exact(q: Tensor, k: Tensor, part: slice) -> Tensor:
    """Scores [K, G, n, T] of queries [n, H, D] and a part of keys [T, K, D]."""
    grouped = q.float().reshape(len(q), k.shape[1], -1, q.shape[-1])
    return torch.einsum("nkgd,tkd->kgnt", grouped, k[part].float())


def attend_chosen(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor) -> Tensor:
    """Causal attention of the last queries of a sequence to chosen pieces of it.

    Args:
        q: [n, H, D], of the last n tokens.
        k, v: [T, K, D].
        chosen: bool [K, P]; the last ones are among them.

    Returns:
        [n, H, D].
    """
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    at = torch.arange(len(k) - len(q), len(k), device=k.device)
    for head, read in enumerate(chosen):
        tokens = torch.nonzero(read.repeat_interleave(PIECE)[: len(k)])[:, 0]
        heads = slice(head * group, (head + 1) * group)
        scores = torch.einsum("ngd,td->gnt", q[:, heads].float(), k[tokens, head].float())
        scores = scores * q.shape[-1] ** -0.5
        weights = scores.masked_fill(tokens > at[:, None], float("-inf")).softmax(-1)
        out[:, heads] = torch.einsum("gnt,td->ngd", weights.to(v.dtype), v[tokens, head])
    return out
