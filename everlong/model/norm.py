"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from everlong.model.native.normalization import computes, normalized


class RMSNorm(nn.Module):
    """``x / rms(x) * weight`` over the last axis, computed in float32.

    Args:
        size: length of the last axis.
        eps: added to the mean square.

    Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., size], any float type; the result has the same shape, in float32."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight.float()

    def read(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """What products read of ``x``: normalised and scaled, as precise as they are.

        Args:
            x: [..., size] float32.
            scale: of the result.
        """
        if computes(x):
            weight = self.weight.float()
            return normalized(x, weight if scale == 1 else scale * weight, self.eps)
        found: Tensor = self(x)
        return found if scale == 1 else scale * found
