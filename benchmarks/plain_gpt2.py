"""A GPT-2 as short as nanoGPT's: layer norms, learned positions, GELU, biases everywhere."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Block(nn.Module):
    """Attention and an MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [B, T, width]."""
        b, t, width = x.shape
        parts = self.qkv(self.norm(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, width))
        added: Tensor = x + self.narrow(gelu(self.wide(self.mlp_norm(x))))
        return added


class GPT2(nn.Module):
    """Next-token logits; the output projection is the embedding."""

    def __init__(self, vocab_size: int, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, one in self.named_parameters():
            if one.ndim > 1:
                small = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(one, std=0.02 * (2 * layers) ** -0.5 if small else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(one)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        x = self.embed(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.norm(x) @ self.embed.weight.T
        return logits
