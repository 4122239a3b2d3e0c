"""How what a layer computes joins the sum along the layers.

=============  ==================================================  =============================
``pre``        x + part(norm(x))                                   every published checkpoint here
``scaled``     x + part(norm(x) / sqrt(layer))                     Sun et al., "The Curse of Depth",
                                                                   2025, section 4; layers count
                                                                   from 1
``deepnorm``   norm(a x + part(x)), a = (2 L)^(1/4)                Wang et al., "DeepNet", 2022,
                                                                   section 4
``keel``       norm(a x + part(norm(x))), a = 2 L                  Chen and Wei, "Post-LayerNorm Is
                                                                   Back", 2026
=============  ==================================================  =============================

L is the number of layers, each of two parts. A ``scaled`` model is a ``pre`` one whose norms have
smaller weights: it is trained as the first, and used and written as the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from everlong.model.config import ModelConfig
from everlong.model.norm import RMSNorm

NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
"""Of what a layer's parts read."""


@dataclass(frozen=True)
class Residual:
    """How one layer's parts are added."""

    before: bool
    """Whether a part reads a normalised x."""
    after: bool
    """Whether the sum is normalised."""
    scale: float
    """Of what a part reads."""
    keep: float
    """How many times x the sum has."""


def residual_of(config: ModelConfig, layer: int) -> Residual:
    """Of a layer, which are counted from 0."""
    match config.residual:
        case "pre":
            return Residual(True, False, 1.0, 1.0)
        case "scaled":
            return Residual(True, False, (layer + 1) ** -0.5, 1.0)
        case "deepnorm":
            return Residual(False, True, 1.0, (2 * config.num_layers) ** 0.25)
        case "keel":
            return Residual(True, True, 1.0, 2.0 * config.num_layers)


class Joined(nn.Module):
    """Adds one part of a layer to what was there.

    Args:
        config: of the model.
        layer: number of the layer, from 0.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.how = residual_of(config, layer)
        twice = self.how.before and self.how.after
        self.norm = RMSNorm(config.hidden_size, config.norm_eps) if twice else None

    def forward(self, x: Tensor, norm: RMSNorm, part: Callable[[Tensor], Tensor]) -> Tensor:
        """``x``: [..., hidden] float32; ``norm``: the part's own; same shape and type back."""
        how = self.how
        added = part(norm.read(x, how.scale) if how.before else x).float()
        found = (x if how.keep == 1 else how.keep * x) + added
        if how.after:
            found = (self.norm or norm)(found)
        return found


def folded(
    config: ModelConfig, weights: Mapping[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The same model without what only training needs: ``scaled`` becomes ``pre``."""
    if config.residual != "scaled":
        return config, dict(weights)
    found = {}
    for name, value in weights.items():
        if name.startswith("layers.") and name.endswith(NORMS):
            value = value * residual_of(config, int(name.split(".")[1])).scale
        found[name] = value
    return replace(config, residual="pre"), found
