"""Models to go on from: checkpoints in any format, and runs at any of their own checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash
from torch import Tensor

from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.adapter import write_adapter
from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.export import export_trained
from everlong.config import from_plain
from everlong.errors import CheckpointError
from everlong.model.adapters import LoraConfig, LowRank, merged, trained_changes
from everlong.model.config import ModelConfig
from everlong.model.residual import folded
from everlong.tokenizer import Tokenizer, load_tokenizer
from everlong.training.checkpoints import (
    best,
    latest,
    path_of,
    read_state,
    read_tensors,
    steps_in,
    verify,
)
from everlong.training.run_files import CHECKPOINTS, RECIPE, TOKENIZER, inputs_of, outcome_of


@dataclass(frozen=True)
class DenseModel:
    """A model's weights as numbers that can be trained."""

    config: ModelConfig
    weights: dict[str, Tensor]
    """Float32, by the names of :class:`everlong.model.transformer.Transformer`; without a head
    that is the embedding."""
    tokenizer: Tokenizer


@dataclass(frozen=True)
class TrainedModel:
    """What a checkpoint of a run holds."""

    step: int
    model: DenseModel
    """With the moving average of the weights, where the run has one, and its adapter's changes
    in them."""
    adapter: TrainedAdapter | None


@dataclass(frozen=True)
class TrainedAdapter:
    """What a run with an adapter has learned."""

    config: LoraConfig
    changes: dict[str, LowRank]
    base: str
    """The model that it belongs to, as the recipe names it."""


def open_dense(name: str, say: Callable[[str], None] = lambda text: None) -> DenseModel:
    """Open a model by its name.

    Args:
        name: of the catalog, a folder in the Hugging Face layout, a GGUF file, or the folder of a
            run; see :func:`open_run`.
        say: told which checkpoints of a run are passed over.

    Raises:
        CheckpointError: it cannot be found or read.
    """
    if is_run(Path(name)):
        return open_run(Path(name), say=say).model
    checkpoint = open_checkpoint(resolve(name))
    weights = {
        key.removeprefix("model."): stored.dense().clone()
        for key, stored in checkpoint.tensors.items()
        if not (checkpoint.config.tied_head and key.startswith("lm_head."))
    }
    return DenseModel(checkpoint.config, weights, checkpoint.tokenizer())


def tokenizer_of(name: str) -> Tokenizer:
    """Of a folder that needs to have nothing else, or of a model."""
    folder = Path(name)
    if is_run(folder):
        folder = folder / TOKENIZER
    if folder.is_dir():
        return load_tokenizer(folder)
    return open_checkpoint(resolve(name)).tokenizer()


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / RECIPE).is_file() and (folder / TOKENIZER).is_dir()


def open_run(
    folder: Path, step: int | None = None, say: Callable[[str], None] = lambda text: None
) -> TrainedModel:
    """Read a run's model.

    Args:
        folder: of the run.
        step: after which; None: the last whole checkpoint, and of a run that ended as validation
            brought nothing more, the best one.
        say: told which checkpoints are damaged and passed over.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    checkpoints, outcome = folder / CHECKPOINTS, outcome_of(folder)
    if step is None and outcome is not None and outcome["why"] == "no better":
        step = best(checkpoints)
    found = latest(checkpoints, say) if step is None else step
    if found is None or found not in steps_in(checkpoints):
        there = ", ".join(map(str, steps_in(checkpoints))) or "none"
        raise CheckpointError(
            f"{folder} has no {'whole checkpoint' if step is None else f'checkpoint {step}'}; "
            f"there are: {there}"
        )
    path = path_of(checkpoints, found)
    if step is not None:
        verify(path)
    state, tensors = read_state(path), read_tensors(path)
    part = "average." if any(name.startswith("average.") for name in tensors) else "model."
    weights = {
        name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)
    }
    config = from_plain(ModelConfig, state["model"])
    adapter = None
    if state["adapter"] is not None:
        lora = from_plain(LoraConfig, state["adapter"])
        adapter = TrainedAdapter(lora, trained_changes(lora, weights), state["base"])
        base = open_dense(adapter.base).weights
        if digest_of_weights(base) != inputs_of(folder).get(f"model {adapter.base}"):
            raise CheckpointError(
                f"the adapter in {folder} was trained on {adapter.base}, whose weights are others "
                "now; bring them back, or train it again"
            )
        weights = merged(base, adapter.changes)
    config, weights = folded(config, weights)
    model = DenseModel(config, weights, load_tokenizer(folder / TOKENIZER))
    return TrainedModel(found, model, adapter)


def digest_of_weights(weights: Mapping[str, Tensor]) -> str:
    """A checksum of a model's numbers, in hexadecimal."""
    found = xxhash.xxh3_128()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(weights[name].contiguous().numpy().data)
    return found.hexdigest()


def export_run(
    folder: Path,
    into: Path,
    *,
    step: int | None = None,
    dtype: str,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Write a run's model in the Hugging Face layout, or its adapter in PEFT's.

    Returns:
        After which step it is.

    Args:
        folder: of the run.
        into: a new folder.
        step: see :func:`open_run`.
        dtype: number format of the weights; an adapter is float32.
        say: see :func:`open_run`.

    Raises:
        CheckpointError: there is no such checkpoint, or the folder cannot be written.
        ConfigError: the folder is in use, or ``dtype`` unknown.
    """
    trained = open_run(folder, step, say)
    if (adapter := trained.adapter) is not None:
        write_adapter(into, adapter.config, adapter.changes, adapter.base)
    else:
        model = trained.model
        export_trained(model.config, model.weights, model.tokenizer, into, dtype=dtype)
    return trained.step
