"""What a run costs before it is begun: operations, time, memory, bytes, money. Arithmetic only.

Operations are those of ``model/cost.py``, attention included, for the sequence lengths of the
recipe's phases. Time is operations by what devices do of their peak, an assumption that a short
run measures. Memory counts what training keeps: master weights, gradients and what the optimizer
remembers in float32, weights in bfloat16 where they are used, activations as the fused kernels of
training keep them, and the logits of a chunk.

Sharding follows Rajbhandari et al., "ZeRO", 2020, section 5: optimizer states, then gradients, then
weights are divided among the devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from everlong.errors import ConfigError
from everlong.model.adapters import adapter_parameters
from everlong.model.config import ModelConfig
from everlong.model.cost import parameters, training_activation_bytes, training_flops
from everlong.training.losses import CHUNK_LOGITS
from everlong.training.recipe import Recipe

Scheme = Literal["replicated", "optimizer sharded", "gradients sharded", "weights sharded"]
SCHEMES: tuple[Scheme, ...] = (
    "replicated",
    "optimizer sharded",
    "gradients sharded",
    "weights sharded",
)


@dataclass(frozen=True)
class Device:
    """What a plan assumes of a kind of device."""

    name: str
    flops: float
    """Operations a second in bfloat16, dense, as its maker says or as measured."""
    memory: float
    """Bytes."""
    price: float
    """Dollars an hour."""


DEVICES = {
    one.name: one
    for one in (
        Device("A100", 312e12, 80e9, 1.5),
        Device("H100", 989e12, 80e9, 2.5),
        Device("H200", 989e12, 141e9, 3.5),
        Device("B200", 2250e12, 192e9, 5.0),
    )
}
"""Makers' data sheets; prices are those of rented machines in 2026, to be replaced by yours."""


@dataclass(frozen=True)
class Stage:
    """A phase of a plan."""

    config: ModelConfig
    tokens: float
    sequence_length: int
    flops: float
    """Of all its tokens, forward and backward."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a model while it trains."""

    trained: int
    """Parameters that learn."""
    frozen: int
    """Parameters beside them: those that an adapter changes, and the model before of answers that
    are preferred."""
    beside: int
    """Numbers that a checkpoint has of them besides: their moments, their average."""

    @property
    def checkpoint_bytes(self) -> int:
        """Float32."""
        return 4 * (self.trained + self.beside)

    @property
    def least_bytes(self) -> int:
        """Of the memory, gradients included, where nothing is divided and nothing computed."""
        return self.checkpoint_bytes + 4 * self.trained + 4 * self.frozen


@dataclass(frozen=True)
class Plan:
    """What a run takes."""

    stages: tuple[Stage, ...]
    device: Device
    devices: int
    share: float
    """Of the peak that is reached."""
    recompute: bool
    micro_tokens: int
    """That a device computes at a time."""
    kept: Kept
    """Of the last stage's model."""

    @property
    def tokens(self) -> float:
        """Of all stages."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def flops(self) -> float:
        """Of all stages; recomputed layers are not counted, as they teach nothing."""
        return sum(stage.flops for stage in self.stages)

    @property
    def seconds(self) -> float:
        """From the first step to the last."""
        # Recomputing costs a third more: another forward pass beside the two backward ones.
        work = self.flops * (4 / 3 if self.recompute else 1)
        return work / (self.device.flops * self.devices * self.share)

    @property
    def dollars(self) -> float:
        """For all devices all the time."""
        return self.seconds / 3600 * self.devices * self.device.price

    @property
    def checkpoint_bytes(self) -> int:
        """Of the last stage's model, float32."""
        return self.kept.checkpoint_bytes

    @property
    def data_bytes(self) -> float:
        """Of the token shards, each token read once."""
        return self.tokens * (2 if self.stages[-1].config.vocab_size <= 1 << 16 else 4)

    @property
    def host_memory(self) -> float:
        """Bytes beside a device, where a checkpoint is copied to while it is written."""
        return float(self.checkpoint_bytes)

    def memory(self, scheme: Scheme) -> float:
        """Bytes of a device under a sharding scheme, of the last stage's model."""
        config = self.stages[-1].config
        place = SCHEMES.index(scheme)
        divided = [self.devices if place > level else 1 for level in range(3)]
        kept = self.checkpoint_bytes / divided[0]
        kept += self.kept.trained * (4 / divided[1] + 2 / divided[2]) + 4 * self.kept.frozen
        activations = training_activation_bytes(config, self.micro_tokens)
        one_layer = activations // config.num_layers
        if self.recompute:
            # The input of each layer, and all of one layer at a time.
            activations = 4 * self.micro_tokens * config.num_layers * config.hidden_size + one_layer
        activations += one_layer  # gradients of what a layer keeps
        logits = 2 * min(CHUNK_LOGITS, self.micro_tokens * config.vocab_size)
        return kept + activations + logits


def plan(
    recipe: Recipe,
    configs: tuple[ModelConfig, ...],
    device: Device,
    devices: int,
    *,
    tokens: float | None = None,
    share: float = 0.4,
) -> Plan:
    """Work out a recipe.

    Args:
        recipe: what is run.
        configs: the model's shape in each phase.
        device: what it runs on.
        devices: how many.
        tokens: of the whole run, in the phases' proportions; None: the recipe's own.
        share: of the devices' peak that is reached.

    Raises:
        ConfigError: a number cannot be.
    """
    if devices < 1 or not 0.001 <= share <= 1 or (tokens is not None and not tokens > 0):
        raise ConfigError(
            "a plan has 1 device or more, a share of the peak from 0.001 to 1, and tokens above "
            f"0, not {devices}, {share}, {tokens}"
        )
    if not 0 <= device.price < math.inf:
        raise ConfigError(f"a device costs 0 dollars an hour or more, not {device.price}")
    own = [phase.steps * phase.sequences * phase.sequence_length for phase in recipe.phases]
    scale = 1.0 if tokens is None else tokens / sum(own)
    stages = tuple(
        Stage(
            config,
            count * scale,
            phase.sequence_length,
            recipe.operations
            * training_flops(config, phase.sequence_length)
            * (count * scale / phase.sequence_length),
        )
        for phase, config, count in zip(recipe.phases, configs, own, strict=True)
    )
    last = recipe.phases[-1]
    sequences = recipe.micro_sequences or max(1, last.sequences // devices)
    return Plan(
        stages,
        device,
        devices,
        share,
        recipe.recompute,
        sequences * last.sequence_length,
        kept_of(recipe, configs[-1]),
    )


def kept_of(recipe: Recipe, config: ModelConfig) -> Kept:
    """What training keeps of a model by a recipe."""
    of = parameters(config)
    if recipe.adapter is None:
        trained, inner = of.total, of.layers
    else:
        trained = inner = adapter_parameters(config, recipe.adapter)
    # Muon remembers one number of each in the layers' matrices; AdamW has the rest, with two.
    moments = 2 * trained - (inner if recipe.optimizer.kind == "muon" else 0)
    return Kept(
        trained,
        ((recipe.adapter is not None) + recipe.compares) * of.total,
        moments + (trained if recipe.average is not None else 0),
    )
