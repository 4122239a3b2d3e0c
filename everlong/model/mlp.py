"""Gated feed-forward part."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from everlong.model.config import ModelConfig
from everlong.model.native.gate import computes, gated


class MLP(nn.Module):
    """``down(silu(gate(x)) * up(x))`` (Shazeer 2020, "GLU Variants Improve Transformer")."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        wide, narrow, bias = config.intermediate_size, config.hidden_size, config.mlp_bias
        self.gate_proj = nn.Linear(narrow, wide, bias=bias)
        self.up_proj = nn.Linear(narrow, wide, bias=bias)
        self.down_proj = nn.Linear(wide, narrow, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., hidden]; same shape back."""
        gate, up = self.gate_proj(x), self.up_proj(x)
        out: Tensor = self.down_proj(gated(gate, up) if computes(gate) else silu(gate) * up)
        return out
