"""Finds what the routing index keeps of a model's keys: what tells most about scores.

Not the directions in which keys differ most: queries ask along some directions much more than along
others. Of all ways of keeping R numbers of a key, the one here loses least of the scores of the
queries that were seen: the principal components of keys that are weighted by them.

Letters: T tokens, H query heads, K kv heads, D head size, R directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.cache import BLOCK
from everlong.model.rope import rotate
from everlong.model.routing_index import DIRECTIONS, STEPS, Projection
from everlong.model.transformer import Transformer

_SELDOM = 0.999
_LEAST_TOKENS = 1024
_LEAST_WEIGHT = 1e-3
"""Of a direction along which the text's queries do not ask, beside the mean."""


def calibrate(
    model: Transformer, tokens: Sequence[int], directions: int = DIRECTIONS
) -> Projection:
    """Find what the index keeps of each head's keys, on a text.

    Args:
        model: reads the text.
        tokens: of the text, of any kind but what it will be tested on.
        directions: R, at most D.

    Raises:
        ConfigError: the text is too short, or there are not so many directions.
    """
    if len(tokens) < _LEAST_TOKENS:
        raise ConfigError(f"{len(tokens)} tokens are too few to calibrate on; give {_LEAST_TOKENS}")
    if not 1 <= directions <= model.config.head_dim:
        raise ConfigError(f"there are 1 to {model.config.head_dim} directions, not {directions}")
    attend = _Observed()
    with torch.inference_mode():
        model.states(torch.tensor([list(tokens)]), attend=attend)
    # Positions of the text are those at its beginning; keys must be told apart, and queries met,
    # anywhere in the window, so every block of them is moved to some place in it.
    blocks = -(-len(tokens) // BLOCK)
    generator = torch.Generator().manual_seed(0)
    furthest = max(1, model.config.max_position // BLOCK - blocks)

    def turns() -> Tensor:
        moves = torch.randint(furthest, (blocks,), generator=generator).repeat_interleave(BLOCK)
        return model.rope.turns(furthest)[moves[: len(tokens)]]

    key_turns, query_turns = turns(), turns()
    found = [
        _principal(rotate(keys, key_turns), rotate(queries, query_turns), directions)
        for queries, keys in attend.seen
    ]
    return Projection(*(torch.stack(parts) for parts in zip(*found, strict=True)))


class _Observed(SequenceAttention):
    """Dense attention that keeps the queries and keys of every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        self.seen.append((q[0].float(), k[0].float()))
        return super().__call__(layer, q, k, v, window)


def _principal(keys: Tensor, queries: Tensor, directions: int) -> tuple[Tensor, ...]:
    """Of one layer's keys [T, K, D] and queries [T, H, D] what a :class:`Projection` has."""
    tokens, kv_heads, size = keys.shape
    centre = keys.mean(0)
    rest = (keys - centre).transpose(0, 1)  # [K, T, D]
    # [K, T G, D]
    asked = queries.reshape(tokens, kv_heads, -1, size).transpose(0, 1).flatten(1, 2)
    # Weighted by the square root of the queries' second moments, differences of keys are what
    # they are in the scores.
    values, vectors = torch.linalg.eigh(asked.transpose(1, 2) @ asked / asked.shape[1])
    values = torch.maximum(values, _LEAST_WEIGHT * values.mean(-1, keepdim=True).clamp_min(1e-20))
    root = vectors @ (values.sqrt()[..., None] * vectors.transpose(1, 2))
    unroot = vectors @ (values.rsqrt()[..., None] * vectors.transpose(1, 2))
    weighted = rest @ root
    _, vectors = torch.linalg.eigh(weighted.transpose(1, 2) @ weighted)  # ascending
    found = vectors[..., -directions:].flip(-1)
    step = (weighted @ found).abs().quantile(_SELDOM, dim=1).clamp_min(1e-6) / STEPS
    return centre, root @ found / step[:, None], unroot @ found * step[:, None], step
