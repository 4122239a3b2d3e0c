"""Grouped-query attention, over whole sequences or over blocks.

Letters: B sequences, T tokens, M rows (tokens of a step), H query heads, K kv heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from everlong.model.cache import BLOCK, Batch, Sight, Span, moved
from everlong.model.config import ModelConfig
from everlong.model.norm import RMSNorm
from everlong.model.rope import Rope, rotate, turned


class Attend(Protocol):
    """How queries meet keys and values; the layers do not know which way."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """Attend in ``layer``.

        Args:
            q: rotated queries [..., H, D]; k, v: rotated keys and values [..., K, D].
            window: how many tokens back a token sees, itself included; None: all.

        Returns:
            [..., H, D].
        """


def sees(
    length: int, sight: Sight, window: int | None, device: torch.device | None = None
) -> Tensor:
    """Which token (row) of one sequence sees which (column): bool [length, length]."""
    at = torch.arange(length, device=device)
    seen = at[:, None] >= at
    if sight == "bidirectional":
        seen = torch.ones_like(seen)
    elif sight != "causal":
        seen = seen | (at < sight)
    if window is not None:
        seen = seen & (at > at[:, None] - window)
    return seen


class SequenceAttention:
    """Attention of whole sequences to themselves; nothing is kept.

    Args:
        sight: what a token may see.
        lengths: tokens of each sequence of a padded batch, int [B]; None: all T.
    """

    def __init__(self, sight: Sight = "causal", lengths: Tensor | None = None) -> None:
        self._sight = sight
        self._lengths = lengths
        self._masks: dict[int | None, Tensor | None] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        if window not in self._masks:
            self._masks[window] = self._mask(q, window)
        mask = self._masks[window]
        # With neither window nor padding the kernel makes the causal mask itself.
        causal = mask is None and self._sight == "causal"
        out = scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=causal,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return out.transpose(1, 2)

    def _mask(self, q: Tensor, window: int | None) -> Tensor | None:
        length = q.shape[1]
        if window is not None and window >= length:
            window = None
        if self._lengths is None and window is None and isinstance(self._sight, str):
            return None
        seen = sees(length, self._sight, window, q.device)
        if self._lengths is None:
            return seen
        at = torch.arange(length, device=q.device)
        # A padding row sees itself, so that its softmax is not empty.
        inside = (at < self._lengths[:, None])[:, None, :] | torch.eye(
            length, dtype=torch.bool, device=q.device
        )
        return (seen & inside)[:, None]


class BlockAttention:
    """Attention of a step's rows to the blocks of their sequences, which it also fills.

    The plain twin of ``native/attention.h``.

    Args:
        batch: rows and block tables.
        rope: turns queries for blocks that are moved.
    """

    def __init__(self, batch: Batch, rope: Rope) -> None:
        self._batch = batch
        self._rope = rope

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        out = torch.empty_like(q)
        for i, span in enumerate(self._batch.spans):
            rows = self._batch.rows_of(i)
            self.store(span, layer, k[rows], v[rows])
            self.attend(i, layer, q, rows, window, out)
        return out

    def store(self, span: Span, layer: int, k: Tensor, v: Tensor) -> None:
        """Put keys and values [rows, K, D] into the span's blocks."""
        kv = torch.stack((k, v), dim=2)
        for rows, at in pieces(span.start, len(kv)):
            block = span.table.blocks[at.start // BLOCK][layer]
            block[:, :, at.start % BLOCK :][:, :, : len(at)] = kv[rows].permute(1, 2, 0, 3)

    def attend(
        self, i: int, layer: int, q: Tensor, rows: slice, window: int | None, out: Tensor
    ) -> None:
        """Attend ``rows`` of span ``i``; their results go into ``out``."""
        table, batch = self._batch.spans[i].table, self._batch
        index, visible = batch.index[rows], batch.visible[rows]
        own = int(index[-1]) // BLOCK
        if own > batch.reach and int(index[0]) // BLOCK != own:  # each block is moved by its own
            for part, _ in pieces(int(index[0]), len(index)):
                here = slice(rows.start + part.start, rows.start + part.stop)
                self.attend(i, layer, q, here, window, out)
            return
        end = int(visible.max())
        used = -(-end // BLOCK)
        stored = torch.stack([block[layer] for block in table.blocks[:used]], dim=2)
        keys, values = stored.flatten(2, 3)[:, :, :end].to(q.dtype).unbind(1)  # [K, end, D]
        at = torch.arange(end)
        seen = at < visible[:, None]
        if window is not None:
            seen &= at > index[:, None] - window
        if own <= batch.reach:
            mask = None if len(index) == 1 and bool(seen.all()) else seen
            out[rows] = scaled_dot_product_attention(
                q[rows].transpose(0, 1)[None],
                keys[None],
                values[None],
                attn_mask=mask,
                enable_gqa=q.shape[1] != keys.shape[0],
            )[0].transpose(0, 1)
            return
        turns = [moved(own, number, batch.reach) for number in range(used)]
        scores = moved_scores(q[rows], keys, turns, self._rope) * float(q.shape[-1] ** -0.5)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)  # [H, rows, end]
        group = q.shape[1] // keys.shape[0]
        out[rows] = (weights @ values.repeat_interleave(group, 0)).transpose(0, 1)


def pieces(start: int, count: int, size: int = BLOCK) -> list[tuple[slice, range]]:
    """``count`` tokens from place ``start`` on, cut at the multiples of ``size``.

    Returns:
        For each piece the tokens' rows, counted from the first, and their places.
    """
    found = []
    at = start
    while at < start + count:
        end = min((at // size + 1) * size, start + count)
        found.append((slice(at - start, end - start), range(at, end)))
        at = end
    return found


def moved_scores(
    q: Tensor, keys: Tensor, turns: Sequence[int], rope: Rope, size: int = BLOCK
) -> Tensor:
    """Scores, without their scale, of keys that are moved.

    Args:
        q: rotated queries [n, H, D].
        keys: rotated keys [K, T, D], parts of ``size`` tokens; the last may have fewer.
        turns: for each part, by how many blocks it is moved towards the queries.
        rope: of the model.

    Returns:
        [H, n, T].
    """
    group = q.shape[1] // keys.shape[0]
    scores = q.new_empty(q.shape[1], q.shape[0], keys.shape[1])
    for b, turn in enumerate(turns):
        turned = turn_back(q, rope, turn) if turn else q
        part = slice(b * size, (b + 1) * size)
        k = keys[:, part].repeat_interleave(group, 0)  # [H, <=64, D]
        scores[:, :, part] = turned.transpose(0, 1) @ k.transpose(1, 2)
    return scores


def turn_back(q: Tensor, rope: Rope, turn: int) -> Tensor:
    """Queries [..., H, D] as a block sees them that is moved by ``turn`` blocks.

    ``q(p) . k(t + move) = q(p - move) . k(t)``: only differences of positions matter.
    """
    cosine, sine = rope.turns(turn + 1)[turn].chunk(2)
    return rotate(q, torch.cat((cosine, -sine)).to(q.dtype))


class Attention(nn.Module):
    """Projections, positions and the output of one layer's attention (Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        c = config
        self.layer = layer
        self.window = c.window(layer)
        self.head_dim = c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, c.query_size, bias=c.qkv_bias)
        self.k_proj = nn.Linear(c.hidden_size, c.kv_size, bias=c.qkv_bias)
        self.v_proj = nn.Linear(c.hidden_size, c.kv_size, bias=c.qkv_bias)
        self.o_proj = nn.Linear(c.query_size, c.hidden_size, bias=c.output_bias)
        self.q_norm = RMSNorm(c.head_dim, c.norm_eps) if c.qk_norm else None
        self.k_norm = RMSNorm(c.head_dim, c.norm_eps) if c.qk_norm else None

    def forward(self, x: Tensor, rope: Tensor, attend: Attend) -> Tensor:
        """``x``: [..., hidden]; ``rope``: [..., D], of each token; returns [..., hidden]."""
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))
        k = self.k_proj(x).unflatten(-1, (-1, self.head_dim))
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        rope = rope.to(x.device)
        q, k = turned(q, rope, v.dtype), turned(k, rope, v.dtype)
        out: Tensor = self.o_proj(attend(self.layer, q, k, v, self.window).flatten(-2))
        return out
