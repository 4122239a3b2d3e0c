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

    Matrices are normal with a standard deviation of 0.02, those that write into the sum along the
    layers (Radford et al., "GPT-2", 2019, section 2.3) smaller by the square root of twice the
    number of layers; biases are 0 and norms 1.

    Args:
        config: shape of the model.
        seed: the same seed gives the same weights, whatever was drawn before.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    outputs = {
        module
        for block in map(model.block, range(config.num_layers))
        for module in (block.self_attn.o_proj, block.mlp.down_proj)
    }
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            small = (2 * config.num_layers) ** -0.5 if module in outputs else 1.0
            nn.init.normal_(module.weight, std=_STD * small, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)
    return model
