"""The first level of the search in long sequences: which blocks are worth searching token by token.

The routing index costs a few bytes a token, and at a million tokens reading all of it takes longer
than the rest of a step. Far back only some blocks are searched, chosen by their *outline*: of each
half of a block the mean of its tokens' codes and how much they spread. A query's score of the mean,
and of as much more as the spread makes likely for the best of the tokens, tells what a half
promises. Outlines miss what stands out by one token alone; so the end of a prompt, which says what
is asked for, searches everything, and every token also searches the blocks that had attention
lately, and those after them, in which what is being read goes on.

This is the plain twin of ``native/outline.h``. Tang et al., "Quest" (2024), choose pages by bounds
of their keys; means and spreads, and what had attention lately: ours.

Letters: N blocks, K kv heads, G query heads of a kv head, n tokens, R directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.model.cache import BLOCK, Outline

BEST_ABOVE = 3
"""The best of 32 tokens lies so many standard deviations above their mean, as measured
(``docs/experiments.md``, section 23)."""
FADING = 0.95
"""Of the attention that a block had, so much is left a token later."""
THOROUGH = 2 * BLOCK
"""Of a prompt, so many tokens at its end search everything."""
QUERIES = 32
"""Of the queries that choose together, so many ask outlines at most."""


def outlined(codes: Tensor, worth: Tensor) -> tuple[Tensor, Tensor]:
    """Outlines of blocks.

    Args:
        codes: of their tokens, [N, 64, K, R].
        worth: of a code's step in a score, [K, R].

    Returns:
        Mean codes of the halves, int8 [N, 2, K, R], and their spreads, float32 [N, 2, K].
    """
    halves = codes.float().view(len(codes), 2, BLOCK // 2, *codes.shape[2:])
    mean = halves.mean(2)
    variance = halves.square().mean(2) - mean.square()
    spread = (variance * worth.square()).sum(-1).clamp_min(0).sqrt()
    return (mean + 0.5).floor().to(torch.int8), BEST_ABOVE * spread


def promises(scores: Tensor, fixed: Tensor) -> Tensor:
    """What each block promises, [K, N].

    Args:
        scores: of the best tokens of the halves, as estimated, [K, G, n, N, 2].
        fixed: logarithm of the attention to what is read anyway, [K, G, n].
    """
    total = torch.logaddexp(scores.flatten(3).logsumexp(-1), fixed)
    return (scores - total[..., None, None]).exp().sum((1, 2, 4))


def searched(promise: Tensor, lately: Tensor | None, first: int, count: int) -> Tensor:
    """Which of the blocks with an outline are searched, bool [K, N].

    Args:
        promise: of each, [K, N].
        lately: numbers of the blocks that had attention lately, the most first, int [K, *]; behind
            them -1.
        first: so many at the beginning are read anyway.
        count: so many are searched.
    """
    chosen = torch.zeros_like(promise, dtype=torch.bool)
    for head, of in enumerate(promise):
        for number in [] if lately is None else lately[head].tolist():
            for near in range(number, min(number + 2, len(of))) if number >= 0 else ():
                if near >= first and int(chosen[head].sum()) < count // 2:
                    chosen[head, near] = True
        rest = of.masked_fill(chosen[head], -1)
        rest[:first] = -1
        left = min(count - int(chosen[head].sum()), int((rest >= 0).sum()))
        chosen[head, rest.topk(left).indices] = True
    return chosen


def remember(outline: Outline, layer: int, mass: Tensor, tokens: int) -> None:
    """Keep which blocks had attention.

    Args:
        outline: of the sequence.
        layer: which.
        mass: share of the attention of each block that was searched, [K, N]; of others 0.
        tokens: so many chose together.
    """
    lately, shares = outline.lately[layer], outline.shares[layer]
    best = mass.clone()
    old = (lately >= 0) & (lately < mass.shape[1])
    for head in range(len(mass)):
        numbers = lately[head][old[head]].long()
        faded = FADING**tokens * shares[head][old[head]]
        best[head, numbers] = torch.maximum(best[head, numbers], faded)
    count = min(lately.shape[1], best.shape[1])
    share, number = best.topk(count, dim=1)
    lately.fill_(-1)
    lately[:, :count] = torch.where(share > 0, number, -1).to(lately.dtype)
    shares[:, :count] = share
