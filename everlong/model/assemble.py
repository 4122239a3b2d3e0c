"""A model ready to run, from named weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from everlong.errors import ConfigError
from everlong.model.config import ModelConfig
from everlong.model.norm import RMSNorm
from everlong.model.quantization import (
    GROUP,
    IntegerGroups,
    PackedEmbedding,
    PackedLinear,
    Precision,
    quantize,
)
from everlong.model.transformer import Transformer, projections

WeightsOption = Precision | Literal["auto"]
"""``auto`` keeps the checkpoint's own integers and puts everything else in bfloat16."""

WEIGHTS_OPTIONS: tuple[WeightsOption, ...] = ("auto", "float32", "bf16", "int8", "int4")

Source = Callable[[str], Tensor | IntegerGroups]
"""The weight of a name: a dense tensor of any float type, or the checkpoint's integer groups."""


def assemble(config: ModelConfig, source: Source, weights: WeightsOption = "auto") -> Transformer:
    """Build a model for inference.

    Args:
        config: architecture.
        source: gives each weight by its Hugging Face name without the leading ``model.``; asked
            once for each, in order, so that it can read lazily and forget.
        weights: ``auto`` never rounds the checkpoint's values further than to bfloat16; the
            others are explicit. Integers of at most the width asked for stay as they are. With
            ``int4`` only the MLPs between the first and the last layer have 4 bits; those two,
            attention, embedding and output projection, where 4 bits cost most and save little,
            have 8 (``docs/experiments.md``, section 5).

    Raises:
        ConfigError: ``weights`` is unknown, or integers are asked for and a width is no multiple
            of 32.
    """
    if weights not in WEIGHTS_OPTIONS:
        raise ConfigError(f"weights={weights!r} is unknown; allowed: {', '.join(WEIGHTS_OPTIONS)}")
    with torch.device("meta"), _NoInitialValues():
        model = Transformer(config)
    names = {module: name for name, module in model.named_modules()}

    def dense(name: str) -> Tensor:
        value = source(name)
        return value.dense() if isinstance(value, IntegerGroups) else value

    def packed(module: nn.Module, bits: Literal[4, 8]) -> PackedLinear:
        name = names[module]
        bias = dense(name + ".bias") if getattr(module, "bias", None) is not None else None
        value = source(name + ".weight")
        kept = isinstance(value, IntegerGroups) and value.bits <= bits and weights != "bf16"
        if weights == "auto" or kept:
            return PackedLinear(value, bias)
        value = value.dense() if isinstance(value, IntegerGroups) else value
        if weights == "bf16":
            return PackedLinear(value, bias)
        if value.shape[1] % GROUP:
            raise ConfigError(
                f"weights={weights!r} needs widths that are multiples of {GROUP}, and {name} has "
                f"{value.shape[1]} inputs; use auto, bf16 or float32"
            )
        return PackedLinear(quantize(value, bits), bias)

    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.weight = _fixed(dense(names[module] + ".weight"))
    if weights == "float32":
        for owner, attribute in [*projections(model), (model, "embed_tokens")]:
            module = getattr(owner, attribute)
            for part in ("weight", "bias"):
                if getattr(module, part, None) is not None:
                    setattr(module, part, _fixed(dense(f"{names[module]}.{part}")))
        tied = config.tied_head
        head = model.embed_tokens.weight if tied else _fixed(dense("lm_head.weight"))
        model.lm_head.weight = head
    else:
        inner = [model.block(layer).mlp for layer in range(1, config.num_layers - 1)]
        narrow = inner if weights == "int4" else []
        for owner, attribute in projections(model):
            bits: Literal[4, 8] = 4 if owner in narrow else 8
            setattr(owner, attribute, packed(getattr(owner, attribute), bits))
        table = packed(model.embed_tokens, 8)
        head_layer = table if config.tied_head else packed(model.lm_head, 8)
        model.embed_tokens = PackedEmbedding(table)
        model.lm_head = head_layer
    return model.eval()


class _NoInitialValues(TorchFunctionMode):
    """Skips random initial values, which even without memory cost seconds of imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _fixed(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().float().contiguous(), requires_grad=False)
