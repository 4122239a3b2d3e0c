"""Attention of many sequences that lie one after the other, none of which sees another.

This is how training computes a batch: no token is padding, and packed documents do not meet.
Narrow heads have kernels of their own, as products of 4 to 16 numbers are no work for a matrix
product: 128 heads of 8 took nine tenths of a deep model's time.

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
from everlong.model.native.attention import computes, packed_attention


class PackedAttention:
    """Attention of the rows [N, H, D] of packed sequences, each to its own.

    Sequences of one length that lie beside one another are computed together.

    Args:
        lengths: of the sequences, in their order; they sum to N.
        sight: what tokens see of their own sequence: of all, or a tuple of one for each.
    """

    def __init__(self, lengths: Sequence[int], sight: Sight | tuple[Sight, ...] = "causal") -> None:
        sights = sight if isinstance(sight, tuple) else (sight,) * len(lengths)
        self._sequences = tuple(zip(lengths, sights, strict=True))
        self._lengths = lengths
        self._runs = [(one, len([*run])) for one, run in itertools.groupby(self._sequences)]
        self._seen: dict[int | None, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """As :class:`everlong.model.attention.Attend`."""
        assert len(q) == sum(self._lengths), f"{len(q)} rows of sequences {self._lengths}"
        if computes(q):
            if window not in self._seen:
                self._seen[window] = _seen(self._sequences, window)
            return packed_attention(q, k, v, self._lengths, *self._seen[window])
        out, at = [], 0
        for (length, sight), count in self._runs:
            rows = slice(at, at + length * count)
            at = rows.stop
            own_q, own_k, own_v = (
                x[rows].view(count, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
            )
            out.append(_attend(own_q, own_k, own_v, sight, window).transpose(1, 2).flatten(0, 1))
        return torch.cat(out)


def _attend(q: Tensor, k: Tensor, v: Tensor, sight: Sight, window: int | None) -> Tensor:
    """[B, H, T, D] of sequences of one length."""
    length = q.shape[2]
    limited = window is not None and window < length
    plain = sight == "causal" and not limited
    whole = sight == "bidirectional" and not limited
    mask = None if plain or whole else sees(length, sight, window if limited else None, q.device)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=plain, enable_gqa=q.shape[1] != k.shape[1]
    )


def _seen(sequences: Sequence[tuple[int, Sight]], window: int | None) -> tuple[Tensor, Tensor]:
    """The range of the rows that each row sees, as int32 [N] each; twin of :func:`sees`."""
    firsts, lasts, start = [], [], 0
    for length, sight in sequences:
        at = torch.arange(length)
        first = torch.zeros_like(at) if window is None else (at + 1 - window).clamp(min=0)
        if sight == "causal":
            last = at + 1
        elif sight == "bidirectional":
            last = torch.full_like(at, length)
        else:
            last = (at + 1).clamp(min=min(sight, length))
        firsts.append(first + start)
        lasts.append(last + start)
        start += length
    return torch.cat(firsts).int(), torch.cat(lasts).int()
