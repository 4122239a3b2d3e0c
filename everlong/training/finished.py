"""The model of a run, at any of its checkpoints: to go on from, or to be exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from everlong.checkpoint.export import export_trained
from everlong.config import from_plain
from everlong.errors import CheckpointError
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer, load_tokenizer
from everlong.training.checkpoints import latest, path_of, read_state, read_tensors, steps_in
from everlong.training.run_files import CHECKPOINTS, RECIPE, TOKENIZER


@dataclass(frozen=True)
class TrainedModel:
    """What a checkpoint holds of a model."""

    step: int
    config: ModelConfig
    weights: dict[str, Tensor]
    """Float32, by the names of :class:`everlong.model.transformer.Transformer`: their moving
    average, where the run has one."""
    tokenizer: Tokenizer


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / RECIPE).is_file()


def open_run(folder: Path, step: int | None = None) -> TrainedModel:
    """Read a run's model.

    Args:
        folder: of the run.
        step: after which; None: the last whole checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
    """
    checkpoints = folder / CHECKPOINTS
    found = latest(checkpoints) if step is None else step
    if found is None or found not in steps_in(checkpoints):
        there = ", ".join(map(str, steps_in(checkpoints))) or "none"
        raise CheckpointError(
            f"{folder} has no {'whole checkpoint' if step is None else f'checkpoint {step}'}; "
            f"there are: {there}"
        )
    path = path_of(checkpoints, found)
    state, tensors = read_state(path), read_tensors(path)
    part = "average." if any(name.startswith("average.") for name in tensors) else "model."
    weights = {
        name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)
    }
    config = from_plain(ModelConfig, state["model"])
    return TrainedModel(found, config, weights, load_tokenizer(folder / TOKENIZER))


def export_run(folder: Path, into: Path, *, step: int | None = None, dtype: str) -> int:
    """Write a run's model in the Hugging Face layout; returns its step.

    Args:
        folder: of the run.
        into: a new folder.
        step: see :func:`open_run`.
        dtype: number format of the weights.

    Raises:
        CheckpointError: there is no such checkpoint, or the folder cannot be written.
        ConfigError: the folder is in use, or ``dtype`` unknown.
    """
    model = open_run(folder, step)
    export_trained(model.config, model.weights, model.tokenizer, into, dtype=dtype)
    return model.step
