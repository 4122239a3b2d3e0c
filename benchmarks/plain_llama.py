"""A Llama as short as nanoGPT's model: what a person would write in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu


class Block(nn.Module):
    """Attention and a gated MLP; the three input projections of attention are one product."""

    def __init__(
        self, width: int, inner: int, heads: int, kv_heads: int, size: int, scale: float
    ) -> None:
        super().__init__()
        self.scale = scale
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        self.norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * size, bias=False)
        self.out = nn.Linear(heads * size, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """``x``: [B, T, width]."""
        b, t, _ = x.shape
        heads = self.qkv(self._read(self.norm, x)).view(b, t, -1, self.size).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        q, k = (_rotated(one, cosine, sine).to(v.dtype) for one in (q, k))
        y = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gate_up(self._read(self.mlp_norm, x)).chunk(2, dim=-1)
        added: Tensor = x + self.down(silu(gate) * up)
        return added

    def _read(self, norm: nn.Module, x: Tensor) -> Tensor:
        normed: Tensor = norm(x)
        return normed if self.scale == 1 else normed * self.scale


class Llama(nn.Module):
    """Arguments: those of ``everlong.model.config.ModelConfig``."""

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        intermediate_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        max_position: int,
        tied_head: bool,
        residual: str = "pre",
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size)
        sizes = (hidden_size, intermediate_size, num_heads, num_kv_heads, head_dim)
        # As everlong.model.residual has it: what a layer reads, by the square root of its number.
        scales = [(1 + i) ** -0.5 if residual == "scaled" else 1.0 for i in range(num_layers)]
        self.blocks = nn.ModuleList(Block(*sizes, scale) for scale in scales)
        self.norm = nn.RMSNorm(hidden_size)
        self.head = nn.Linear(hidden_size, vocab_size, bias=False)
        if tied_head:
            self.head.weight = self.embed.weight
        for one in self.parameters():
            if one.ndim > 1:
                nn.init.normal_(one, std=0.02)
        frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.arange(max_position)[:, None] * frequencies
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        x = self.embed(tokens)
        length = tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cosine[:length], self.sine[:length])
        logits: Tensor = self.head(self.norm(x))
        return logits


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)
