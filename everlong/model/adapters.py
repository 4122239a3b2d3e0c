"""Low-rank adapters beside weights that stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import linear

from everlong.errors import CheckpointError
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
    """Low-rank changes of a model's linear layers (LoRA, Hu et al. 2021)."""

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
