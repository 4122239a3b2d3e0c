"""Growing a model in depth and heads without changing what it computes.

A new layer is a copy of the one before it whose two output projections are zero: it adds nothing
to the sum along the layers, and learns from the first step on, as the projections' gradients are
not zero (Gong et al., "StackBERT", 2019, for copies; Chen et al., "Net2Net", 2016, section 2.3,
for functions that stay; Wu et al., "LLaMA Pro", 2024, section 3, for zeroed projections). New
query heads are copies of the last one of their group whose columns of the output projection are
zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.assemble import assemble
from everlong.model.config import MOST_LAYERS, ModelConfig
from everlong.model.residual import NORMS, residual_of

_LAYERS = "layers."
_OUTPUTS = (
    "self_attn.o_proj.weight",
    "self_attn.o_proj.bias",
    "mlp.down_proj.weight",
    "mlp.down_proj.bias",
)


@dataclass(frozen=True)
class GrownLayer:
    """Where a layer of a grown model comes from."""

    source: int
    """Number of the layer whose weights it has."""
    new: bool
    """Whether it is a copy that adds nothing yet."""


def grown_layers(before: int, after: int) -> tuple[GrownLayer, ...]:
    """Spread new layers evenly among those that are there, behind each as many as behind others.

    Args:
        before, after: numbers of layers, at least 1 and not fewer than before.
    """
    if not 1 <= before <= after <= MOST_LAYERS:
        raise ConfigError(
            f"a model of {before:,} layers cannot grow to {after:,}; layers are added, up to "
            f"{MOST_LAYERS:,}"
        )
    starts = [number * after // before for number in range(before)]
    layers: list[GrownLayer] = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], after], strict=True)):
        layers += [GrownLayer(number, place > start) for place in range(start, end)]
    return tuple(layers)


def grown_config(config: ModelConfig, layers: int | None, heads: int | None) -> ModelConfig:
    """The shape of a grown model.

    Args:
        layers: of it; None: as many as before.
        heads: query heads; a multiple of the kv heads, whose number stays.

    Raises:
        ConfigError: it cannot grow to that.
    """
    plan = grown_layers(config.num_layers, config.num_layers if layers is None else layers)
    if len(plan) > config.num_layers and config.residual in ("deepnorm", "keel"):
        raise ConfigError(
            f"layers joined as {config.residual!r} normalise what passes them, so new ones cannot "
            "add nothing; a model grows in depth with residual: pre or scaled"
        )
    heads = config.num_heads if heads is None else heads
    if heads < config.num_heads or heads % config.num_kv_heads:
        raise ConfigError(
            f"a model of {config.num_heads} query heads grows to a multiple of its "
            f"{config.num_kv_heads} key/value heads that is not less, not to {heads}"
        )
    windows = tuple(config.windows[one.source] for one in plan) if config.windows else ()
    return replace(config, num_layers=len(plan), num_heads=heads, windows=windows)


def grow(
    config: ModelConfig, weights: Mapping[str, Tensor], grown: ModelConfig
) -> dict[str, Tensor]:
    """The weights of a grown model; tensors that stay are shared, not copied.

    Args:
        config: of the model as it is.
        weights: its parameters by name.
        grown: see :func:`grown_config`.
    """
    found = {name: value for name, value in weights.items() if not name.startswith(_LAYERS)}
    per_layer: list[dict[str, Tensor]] = [{} for _ in range(config.num_layers)]
    for name, value in weights.items():
        if name.startswith(_LAYERS):
            number, rest = name.removeprefix(_LAYERS).split(".", 1)
            per_layer[int(number)][rest] = _with_heads(rest, value, config, grown)
    for place, layer in enumerate(grown_layers(config.num_layers, grown.num_layers)):
        for rest, value in per_layer[layer.source].items():
            if layer.new:
                value = torch.zeros_like(value) if rest in _OUTPUTS else value.clone()
            elif rest in NORMS and layer.source != place:
                # What a layer reads is scaled by its place, which has changed.
                before, after = residual_of(config, layer.source), residual_of(grown, place)
                value = value * (before.scale / after.scale)
            found[f"{_LAYERS}{place}.{rest}"] = value
    return found


def logits_change(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    grown: ModelConfig,
    grown_weights: Mapping[str, Tensor],
    tokens: Sequence[int],
) -> float:
    """By how much the logits of a text differ at most after growing.

    Args:
        config, weights: of the model as it was.
        grown, grown_weights: of the grown one.
        tokens: of a text.
    """
    given = torch.tensor([tokens])
    with torch.no_grad():
        before, after = (
            assemble(shape, values.__getitem__, "float32")(given)
            for shape, values in ((config, weights), (grown, grown_weights))
        )
    return float((before - after).abs().max())


def renamed_layers(names: Sequence[str], before: int, after: int) -> dict[str, str]:
    """What parameters that stay are called in a model of more layers."""
    places = {
        layer.source: number
        for number, layer in enumerate(grown_layers(before, after))
        if not layer.new
    }

    def renamed(name: str) -> str:
        if not name.startswith(_LAYERS):
            return name
        number, rest = name.removeprefix(_LAYERS).split(".", 1)
        return f"{_LAYERS}{places[int(number)]}.{rest}"

    return {name: renamed(name) for name in names}


def _with_heads(name: str, value: Tensor, config: ModelConfig, grown: ModelConfig) -> Tensor:
    """A tensor of a layer with new query heads, where it has any."""
    more = (grown.num_heads - config.num_heads) // config.num_kv_heads  # of each group
    if not more or not name.startswith(("self_attn.q_proj.", "self_attn.o_proj.weight")):
        return value
    group, size = config.num_heads // config.num_kv_heads, config.head_dim
    if name.startswith("self_attn.q_proj."):
        heads = value.view(config.num_kv_heads, group, size, *value.shape[1:])
        new = heads[:, -1:].expand(-1, more, *heads.shape[2:])
        return torch.cat((heads, new), 1).flatten(0, 2)
    columns = value.view(len(value), config.num_kv_heads, group, size)
    none = columns.new_zeros(len(value), config.num_kv_heads, more, size)
    return torch.cat((columns, none), 2).flatten(1)
