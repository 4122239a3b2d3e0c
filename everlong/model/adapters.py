"""Low-rank adapters beside weights that stay as they are (LoRA, Hu et al. 2021)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from everlong.errors import CheckpointError, ConfigError
from everlong.model.config import ModelConfig
from everlong.model.transformer import Transformer, projections


@dataclass(frozen=True)
class LowRank:
    """Change of one linear layer: ``scale * up @ down``."""

    down: Tensor
    """[rank, K], float32."""
    up: Tensor
    """[N, rank], float32."""
    scale: float


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes of a model's linear layers."""

    changes: Mapping[str, LowRank]
    """By the name of the layer, e.g. ``layers.0.self_attn.q_proj``."""
    fingerprint: bytes
    """Hash of everything above."""


class AdaptedLinear(nn.Module):
    """A linear layer with a low-rank change added to its output."""

    def __init__(self, base: nn.Module, change: LowRank) -> None:
        super().__init__()
        self.base = base
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., K]; returns float32 [..., N]."""
        low = linear(x.float(), self.change.down)
        y: Tensor = self.base(x)
        return y.float() + self.change.scale * linear(low, self.change.up)


def adapted(model: Transformer, adapter: Adapter) -> Transformer:
    """The model with an adapter; all weights are shared with ``model``.

    Raises:
        CheckpointError: the adapter changes layers that the model does not have, or with other
            sizes.
    """
    result = _share(model)
    names = {module: name for name, module in result.named_modules()}
    sizes = {}
    for owner, attribute in projections(result):
        layer = getattr(owner, attribute)
        name = f"{names[owner]}.{attribute}"
        sizes[name] = (layer.out_features, layer.in_features)
        change = adapter.changes.get(name)
        if change is None:
            continue
        fits = (len(change.up), change.down.shape[1]) == sizes[name]
        if not fits or change.up.shape[1] != len(change.down):
            raise CheckpointError(
                f"the adapter's change of {name} is {list(change.up.shape)} times "
                f"{list(change.down.shape)}, and the layer is {list(sizes[name])}; "
                "it was made for another model"
            )
        setattr(owner, attribute, AdaptedLinear(layer, change))
    if unknown := sorted(set(adapter.changes) - set(sizes)):
        raise CheckpointError(
            f"the adapter changes {len(unknown)} layers that the model does not have, "
            f"e.g. {unknown[0]}; it was made for another model"
        )
    return result


def _share(module: Transformer) -> Transformer:
    """A copy of the tree of modules down to the linear layers, which are the same objects."""

    def copy_tree(original: nn.Module) -> nn.Module:
        if not any(original.children()) or isinstance(original, AdaptedLinear):
            return original
        duplicate = copy.copy(original)
        duplicate._modules = {
            name: None if child is None else copy_tree(child)
            for name, child in original._modules.items()
        }
        return duplicate

    shared = copy_tree(module)
    assert isinstance(shared, Transformer)
    return shared


Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""A linear layer, in each of a model's blocks."""


@dataclass(frozen=True)
class LoraConfig:
    """An adapter that is trained."""

    rank: int = 16
    alpha: float = 32.0
    """Changes are multiplied by ``alpha / rank``."""
    layers: tuple[Projection, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Which ones change."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank is 1 or more, not {self.rank}")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha is above 0, not {self.alpha}")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"layers are one or more, each once, not {list(self.layers)}")


def adapter_parameters(config: ModelConfig, adapter: LoraConfig) -> int:
    """How many numbers an adapter has that is trained on a model of this shape."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    both: dict[Projection, int] = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    return config.num_layers * adapter.rank * sum(both[name] for name in adapter.layers)


class TrainedLinear(nn.Module):
    """A frozen linear layer with a low-rank change that learns.

    It changes nothing at first: one factor is drawn uniformly, the other one is zero, as in PEFT.

    Args:
        base: the layer.
        config: of the adapter.
        generator: draws the first factor.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = config.alpha / config.rank
        self.down = nn.Parameter(torch.empty(config.rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, config.rank))
        nn.init.uniform_(
            self.down, -(base.in_features**-0.5), base.in_features**-0.5, generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., K]; returns [..., N]."""
        y: Tensor = self.base(x)
        return y + self.scale * linear(linear(x, self.down), self.up)


def attach(model: Transformer, config: LoraConfig, seed: int) -> None:
    """Freeze a model, and put an adapter that learns beside its layers."""
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for owner, attribute in projections(model):
        if attribute in config.layers:
            layer = getattr(owner, attribute)
            assert isinstance(layer, nn.Linear), "weights are dense"
            setattr(owner, attribute, TrainedLinear(layer, config, generator))


def trained_changes(config: LoraConfig, weights: Mapping[str, Tensor]) -> dict[str, LowRank]:
    """The changes of an adapter by the names of their layers.

    Args:
        config: of the adapter.
        weights: what was trained, by the names that parameters have after :func:`attach`.
    """
    layers = {name.removesuffix(".up") for name in weights if name.endswith(".up")}
    scale = config.alpha / config.rank
    return {
        name: LowRank(weights[f"{name}.down"], weights[f"{name}.up"], scale)
        for name in sorted(layers)
    }


def merged(weights: Mapping[str, Tensor], changes: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """A model's weights with an adapter's changes in them."""
    found = dict(weights)
    for name, change in changes.items():
        key = f"{name}.weight"
        found[key] = torch.addmm(found[key], change.up, change.down, alpha=change.scale)
    return found
