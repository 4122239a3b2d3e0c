"""From an opened checkpoint to a model that runs."""

from __future__ import annotations

from torch import Tensor

from everlong.checkpoint.checkpoint import Checkpoint
from everlong.model.assemble import WeightsOption, assemble
from everlong.model.quantization import IntegerGroups
from everlong.model.transformer import Transformer


def load_model(checkpoint: Checkpoint, weights: WeightsOption = "auto") -> Transformer:
    """Read the weights of a checkpoint into a model for inference.

    Args:
        checkpoint: opened, its tensors checked.
        weights: see :func:`everlong.model.assemble.assemble`.

    Raises:
        ConfigError: ``weights`` is not allowed, or not for this model's sizes.
        CheckpointError: the file changed since it was opened.
    """

    def source(name: str) -> Tensor | IntegerGroups:
        full = name if name.startswith("lm_head.") else f"model.{name}"
        stored = checkpoint.tensors[full]
        groups = stored.groups() if weights in ("auto", "int8", "int4") else None
        return groups or stored.dense()

    return assemble(checkpoint.config, source, weights)
