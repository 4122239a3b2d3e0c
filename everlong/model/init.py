"""Weights of a model that has learned nothing yet."""

from __future__ import annotations

import torch
from torch import nn

from everlong.model.config import ModelConfig
from everlong.model.norm import RMSNorm
from everlong.model.transformer import Transformer

_STD = 0.02


def initialized(config: ModelConfig, seed: int) -> Transformer:
    """A model with random weights, float32.

    Matrices are normal with a standard deviation of 0.02; biases are 0 and norms 1. Where nothing
    else keeps the sum along the layers from growing, matrices that write into it are smaller by
    the square root of twice the number of layers (Radford et al., "GPT-2", 2019, section 2.3).
    With ``deepnorm`` matrices of layers are as its authors have them (Wang et al., 2022, figure 2).

    Args:
        config: shape of the model.
        seed: the same seed gives the same weights, whatever was drawn before.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    deviations: dict[nn.Module, float] = {}
    for block in map(model.block, range(config.num_layers)):
        attention, mlp = block.self_attn, block.mlp
        if config.residual == "pre":
            for output in (attention.o_proj, mlp.down_proj):
                deviations[output] = _STD * (2 * config.num_layers) ** -0.5
        elif config.residual == "deepnorm":
            gain = (8 * config.num_layers) ** -0.25
            for matrix in (attention.q_proj, attention.k_proj):
                deviations[matrix] = _xavier(matrix)
            for matrix in (attention.v_proj, attention.o_proj):
                deviations[matrix] = gain * _xavier(matrix)
            for matrix in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
                deviations[matrix] = gain * _xavier(matrix)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            deviation = deviations.get(module, _STD)
            nn.init.normal_(module.weight, std=deviation, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
    return model


def _xavier(matrix: nn.Linear) -> float:
    """Standard deviation that keeps variances alike forward and backward (Glorot, Bengio 2010)."""
    return float((2 / (matrix.in_features + matrix.out_features)) ** 0.5)
