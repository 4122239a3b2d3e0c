"""From an opened checkpoint to a model that runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.checkpoint import Checkpoint
from everlong.checkpoint.fingerprint import fingerprint
from everlong.model.assemble import WeightsOption, assemble
from everlong.model.quantization import IntegerGroups
from everlong.model.transformer import Transformer
from everlong.tokenizer import Tokenizer


@dataclass(frozen=True)
class OpenedModel:
    """A model as it runs, and what it came from."""

    path: Path
    checkpoint: Checkpoint
    """Its tensors are released."""
    tokenizer: Tokenizer
    model: Transformer
    fingerprint: bytes
    """Of the model as it is used."""


def open_model(name: str, weights: WeightsOption = "auto") -> OpenedModel:
    """Open a model by its name.

    Args:
        name: of the catalog, a Hugging Face folder, or a GGUF file.
        weights: see :func:`everlong.model.assemble.assemble`.

    Raises:
        CheckpointError: the model cannot be found or read.
        ConfigError: ``weights`` is not allowed, or not for this model's sizes.
    """
    path = resolve(name)
    checkpoint = open_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    kv_dtype = "float32" if weights == "float32" else "bfloat16"
    identity = fingerprint(checkpoint, tokenizer, weights=weights, kv_dtype=kv_dtype)
    model = load_model(checkpoint, weights)
    checkpoint.release()
    return OpenedModel(path, checkpoint, tokenizer, model, identity)


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
