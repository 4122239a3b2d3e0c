"""Attention of many sequences that lie one after the other, none of which sees another.

This is how training computes a batch: no token is padding, and packed documents do not meet.

Letters: N tokens of all sequences together; others as in ``model/attention.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from everlong.model.attention import sees
from everlong.model.cache import Sight


class PackedAttention:
    """Attention of the rows [N, H, D] of packed sequences, each to its own.

    Sequences of one length that lie beside one another are computed together.

    Args:
        lengths: of the sequences, in their order; they sum to N.
        sight: what tokens see of their own sequence.
    """

    def __init__(self, lengths: Sequence[int], sight: Sight = "causal") -> None:
        self._runs = [(length, len([*run])) for length, run in itertools.groupby(lengths)]
        self._sight = sight

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """As :class:`everlong.model.attention.Attend`."""
        out, at = [], 0
        for length, count in self._runs:
            rows = slice(at, at + length * count)
            at = rows.stop
            own_q, own_k, own_v = (
                x[rows].view(count, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
            )
            out.append(self._attend(own_q, own_k, own_v, window).transpose(1, 2).flatten(0, 1))
        assert at == len(q), f"sequences of {at} tokens, and {len(q)} rows"
        return torch.cat(out)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """[B, H, T, D] of sequences of one length."""
        length = q.shape[2]
        limited = window is not None and window < length
        plain = self._sight == "causal" and not limited
        mask = None if plain else sees(length, self._sight, window if limited else None, q.device)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=plain, enable_gqa=q.shape[1] != k.shape[1]
        )
