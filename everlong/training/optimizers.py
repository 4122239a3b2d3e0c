"""Optimizers, and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from everlong.errors import ConfigError
from everlong.model.config import ModelConfig
from everlong.model.growth import renamed_layers
from everlong.training.parallel import divided_like, whole


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become changes."""

    kind: Literal["adamw", "muon"] = "adamw"
    """``adamw``: Loshchilov and Hutter, 2019. ``muon``: orthogonalised momentum for the matrices
    inside the layers (Jordan et al., 2024), scaled so that AdamW's rates fit (Liu et al.,
    "Moonlight", 2025, section 2.2), and AdamW for the rest."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.95
    """``muon``."""
    weight_decay: float = 0.1
    """Of matrices; norms and biases have none."""
    clip: float = 1.0
    """Largest norm of all gradients together; larger ones are scaled down to it."""

    def __post_init__(self) -> None:
        for name, value in (("momentum", self.momentum), *(("betas", one) for one in self.betas)):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} is from 0 to below 1, not {value}")
        for name in ("eps", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is above 0, not {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay is 0 or more, not {self.weight_decay}")


class Optimizers:
    """The optimizers of one model's parameters, as one.

    Args:
        parameters: by name; those that have no gradients are left out.
        config: how.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig):
        trained = {name: one for name, one in parameters if one.requires_grad}
        matrices = {name: one for name, one in trained.items() if one.ndim >= 2}
        inner = {name: one for name, one in matrices.items() if name.startswith("layers.")}
        muon = inner if config.kind == "muon" else {}
        self._clip = config.clip
        self._names = {one: name for name, one in trained.items()}
        self._optimizers: list[Optimizer] = []
        groups = [
            {
                "params": [one for name, one in matrices.items() if name not in muon],
                "weight_decay": config.weight_decay,
            },
            {
                "params": [one for name, one in trained.items() if name not in matrices],
                "weight_decay": 0.0,
            },
        ]
        if groups := [group for group in groups if group["params"]]:
            self._optimizers.append(
                AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)
            )
        if muon:
            self._optimizers.append(
                Muon(
                    [*muon.values()],
                    lr=0.0,
                    momentum=config.momentum,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )

    def step(self, learning_rate: float) -> float:
        """Clip, change the parameters, and drop the gradients.

        Args:
            learning_rate: of this step.

        Returns:
            The norm of the gradients before clipping. Where it is no finite number nothing is
            changed.
        """
        norm = float(whole(nn.utils.clip_grad_norm_(self._names, self._clip, foreach=True)))
        if math.isfinite(norm):
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                optimizer.step()
        self.zero_grad()
        return norm

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """What the optimizers remember, by ``NAME.KIND``; nothing before the first step."""
        return {
            f"{self._names[parameter]}.{kind}": value
            for optimizer in self._optimizers
            for parameter, kept in optimizer.state.items()
            if isinstance(parameter, nn.Parameter)
            for kind, value in kept.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what :meth:`tensors` gave; parameters that it has nothing of begin anew."""
        by_parameter: dict[str, dict[str, Any]] = {}
        for name, value in tensors.items():
            parameter, kind = name.rsplit(".", 1)
            by_parameter.setdefault(parameter, {})[kind] = value
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    kept = by_parameter.get(self._names[parameter])
                    if kept is not None:
                        optimizer.state[parameter] = {
                            kind: divided_like(value.to(parameter.device, copy=True), parameter)
                            for kind, value in kept.items()
                        }


@torch.no_grad()
def average(into: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    """Move an exponential moving average towards weights (Polyak and Juditsky, 1992).

    Args:
        into: the average, by name; changed.
        weights: of the model.
        decay: so much of the average stays.
    """
    torch._foreach_lerp_([*into.values()], [weights[name] for name in into], 1 - decay)


def grown_state(
    kept: Mapping[str, Tensor],
    before: ModelConfig,
    after: ModelConfig,
    weights: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """What optimizers remember of parameters that stay where a model grows, by their new names.

    Parameters that are new, or of another shape, begin anew.

    Args:
        kept: as :meth:`Optimizers.tensors` gives it.
        before, after: shapes of the model.
        weights: of the grown one, by name.
    """
    parameters = {name.rsplit(".", 1)[0] for name in kept}
    names = renamed_layers(sorted(parameters), before.num_layers, after.num_layers)
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in kept.items():
        parameter, kind = name.rsplit(".", 1)
        found.setdefault(names[parameter], {})[kind] = value
    return {
        f"{name}.{kind}": value
        for name, kinds in found.items()
        if all(value.ndim == 0 or value.shape == weights[name].shape for value in kinds.values())
        for kind, value in kinds.items()
    }
