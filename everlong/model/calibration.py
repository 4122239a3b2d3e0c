"""Finds what the routing index keeps of a model's keys: the directions in which they differ most.

Letters: T tokens, K kv heads, D head size, R directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.cache import BLOCK
from everlong.model.rope import rotate
from everlong.model.routing import DIRECTIONS, STEPS, Projection
from everlong.model.transformer import Transformer

_SELDOM = 0.999
_LEAST_TOKENS = 1024


def calibrate(
    model: Transformer, tokens: Sequence[int], directions: int = DIRECTIONS
) -> Projection:
    """Find the directions in which the keys of each head differ most on a text.

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
    # Positions of the text are those at its beginning; keys must be told apart anywhere in the
    # window, so every block of them is moved to some place in it.
    blocks = -(-len(tokens) // BLOCK)
    generator = torch.Generator().manual_seed(0)
    furthest = max(1, model.config.max_position // BLOCK - blocks)
    moves = torch.randint(furthest, (blocks,), generator=generator).repeat_interleave(BLOCK)
    turns = model.rope.turns(furthest)[moves[: len(tokens)]]
    found = [_principal(rotate(keys, turns), directions) for keys in attend.keys]
    return Projection(*(torch.stack(parts) for parts in zip(*found, strict=True)))


class _Observed(SequenceAttention):
    """Dense attention that keeps the keys of every layer."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        self.keys.append(k[0].float())
        return super().__call__(layer, q, k, v, window)


def _principal(keys: Tensor, directions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of one layer's keys [T, K, D]: centre [K, D], directions [K, D, R] and steps [K, R]."""
    centre = keys.mean(0)
    rest = (keys - centre).transpose(0, 1)  # [K, T, D]
    _, vectors = torch.linalg.eigh(rest.transpose(1, 2) @ rest)  # ascending
    found = vectors[..., -directions:].flip(-1)
    reach = (rest @ found).abs().quantile(_SELDOM, dim=1)
    return centre, found, reach.clamp_min(1e-6) / STEPS
