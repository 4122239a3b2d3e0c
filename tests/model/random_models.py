"""Small random models for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from everlong.model.config import ModelConfig
from everlong.model.transformer import Transformer


def random_weights(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights of every parameter, large enough that attention and MLP both matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Transformer(config)
    weights = {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            weights[name] = 1 + 0.2 * noise
        elif parameter.ndim == 2 and "embed" not in name and "lm_head" not in name:
            weights[name] = noise * 1.5 / parameter.shape[1] ** 0.5
        else:
            weights[name] = noise * 0.3
    return weights
