"""Losses of one backbone: predicting the next token, telling pairs apart.

Letters: N tokens, V vocabulary, h width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import cross_entropy, logsigmoid, normalize
from torch.utils.checkpoint import checkpoint

from everlong.data.objectives import NOT_LEARNED
from everlong.errors import DataError
from everlong.model.native.cross_entropy import cross_entropy_

CHUNK_LOGITS = 1 << 26
"""Logits that are in memory at a time, 128 MB in bfloat16."""
_ROWS = 64
"""Rows of a chunk are a multiple; products with 1,364 rows take 1.4 times as long as with 1,366."""


class _LinearCrossEntropy(Function):
    """Sum of the cross-entropies of ``states @ weight.T``, whose logits are never all there.

    Gradients of a chunk are computed along with its loss, so nothing is computed twice (Hsu et
    al., "Liger Kernel", 2024, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, precision: torch.dtype
    ) -> Tensor:
        w, h = weight.to(precision), states.to(precision)
        total = states.new_zeros((), dtype=torch.float32)
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        rows = _rows(len(h), len(w))
        for at in range(0, len(h), rows):
            here = h[at : at + rows]
            loss, gradient = cross_entropy_(here @ w.T, targets[at : at + rows])
            total += loss
            if of_states is not None:
                of_states[at : at + rows] = gradient @ w
            if of_weight is not None:
                of_weight += gradient.T @ here
        ctx.gradients = of_states, of_weight
        return total

    @staticmethod
    def backward(ctx: Any, of_loss: Tensor) -> Any:
        of_states, of_weight = ctx.gradients
        del ctx.gradients  # they are given away, and as large as the head
        return (
            None if of_states is None else of_states.mul_(of_loss),
            None if of_weight is None else of_weight.mul_(of_loss),
            None,
            None,
        )


def _rows(count: int, vocabulary: int) -> int:
    """How many of so many rows have their logits in memory at a time."""
    chunks = max(1, math.ceil(count * vocabulary / CHUNK_LOGITS))
    return max(1, math.ceil(count / chunks / _ROWS)) * _ROWS


def next_token_loss(
    states: Tensor, weight: Tensor, targets: Tensor, precision: torch.dtype = torch.float32
) -> Tensor:
    """Sum of the cross-entropies of the tokens that are learned, in nats.

    Equals ``cross_entropy(states @ weight.T, targets, reduction="sum")`` within rounding, in memory
    that does not grow with N.

    Args:
        states: last hidden states [N, h].
        weight: of the output projection [V, h].
        targets: int64 [N]; ``NOT_LEARNED`` where there is no loss.
        precision: of the products.
    """
    learned = targets != NOT_LEARNED
    if not bool(learned.all()):
        states, targets = states[learned], targets[learned]
    if not torch.is_grad_enabled():
        weight = weight.detach()  # else gradients of it are computed, for nobody
    found: Tensor = _LinearCrossEntropy.apply(states, weight, targets, precision)  # type: ignore[no-untyped-call]
    return found


def mean_states(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """The mean state of each of some sequences, [n, h].

    Args:
        states: of the tokens of all sequences, one after the other, [N, h].
        lengths: of the sequences.
    """
    each = torch.split(states.float(), [*lengths])
    return torch.stack([one.mean(0) for one in each])


def contrastive_loss(
    one: Tensor, other: Tensor, alike: Tensor | None = None, temperature: float = 0.05
) -> Tensor:
    """How well each of ``one`` finds its own of ``other`` among all, and the other way round.

    The symmetric InfoNCE (van den Oord et al. 2018; Radford et al., "CLIP", 2021, figure 3), in
    nats, the mean over pairs.

    Args:
        one, other: embeddings [n, h]; rows of the same number belong together.
        alike: whether two pairs share a text, bool [n, n]; they are not told apart. None: no two.
        temperature: by which cosines are divided.

    Raises:
        DataError: there is one pair alone, of which nothing can be learned.
    """
    if len(one) < 2:
        raise DataError(
            "contrastive losses compare pairs with one another, and there is a single one; give "
            "more, or validation.tokens for more of the held-out ones"
        )
    cosines = normalize(one.float(), dim=-1) @ normalize(other.float(), dim=-1).T / temperature
    own = torch.arange(len(one), device=one.device)
    if alike is not None:
        others = alike & ~torch.eye(len(one), dtype=torch.bool)
        cosines = cosines.masked_fill(others.to(cosines.device), -math.inf)
    return (cross_entropy(cosines, own) + cross_entropy(cosines.T, own)) / 2


def sequence_log_probabilities(
    states: Tensor,
    weight: Tensor,
    targets: Tensor,
    lengths: Sequence[int],
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Of the learned tokens of each sequence together, in nats, [n].

    Logits are computed a chunk at a time, and again for the gradients.

    Args:
        states: last hidden states of all sequences, one after the other, [N, h].
        weight: of the output projection [V, h].
        targets: int64 [N]; ``NOT_LEARNED`` where there is none.
        lengths: of the sequences.
        precision: of the products.
    """
    learned = targets != NOT_LEARNED
    states, targets, head = states[learned], targets[learned], weight.to(precision)
    rows = _rows(len(states), len(weight))
    parts = [
        checkpoint(
            _told, states[at : at + rows], head, targets[at : at + rows], use_reentrant=False
        )
        for at in range(0, len(states), rows)
    ]
    told = torch.cat(parts) if parts else states.new_zeros(0)
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    owner = owner.to(told.device)[learned]
    return told.new_zeros(len(lengths)).index_add(0, owner, told)


def _told(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of tokens, [rows]."""
    logits = (states.to(weight.dtype) @ weight.T).float()
    return -cross_entropy(logits, targets, reduction="none")


def preference_loss(
    better: Tensor, worse: Tensor, better_before: Tensor, worse_before: Tensor, beta: float = 0.1
) -> Tensor:
    """How surprising it is that the better answers are preferred; the sum over pairs, in nats.

    Rafailov et al., "Direct Preference Optimization", 2023, equation 7.

    Args:
        better, worse: log-probabilities of answers [n].
        better_before, worse_before: of the same answers by the model before.
        beta: how much a change of the odds counts.
    """
    gained = (better - better_before) - (worse - worse_before)
    return -logsigmoid(beta * gained).sum()
