"""A run that takes a second: a tiny model that learns to count."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from everlong.data.corpora import Corpus
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer, train_tokenizer
from everlong.training.checkpoints import path_of, read_tensors
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation

SHAPE = ModelConfig(
    vocab_size=280,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position=64,
    tied_head=True,
)


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer([text(0)], SHAPE.vocab_size)


def text(first: int) -> str:
    return " ".join(str(number % 97) for number in range(first, first + 400))


def recipe(folder: Path, **changes: Any) -> Recipe:
    """Of a run in ``folder / "run"``; files that it reads are written beside it."""
    (folder / "texts").mkdir(exist_ok=True)
    for i in range(6):
        (folder / "texts" / f"{i}.txt").write_text(text(61 * i))
    (folder / "held_out.txt").write_text(text(5000))
    tokenizer().save(folder)
    phase = Phase(
        steps=12,
        learning_rate=3e-3,
        sequence_length=32,
        sequences=8,
        weights={"numbers": 1.0},
    )
    given: dict[str, Any] = {
        "run": folder / "run",
        "model": ModelSource(shape=SHAPE, tokenizer=str(folder)),
        "corpora": (Corpus("numbers", (folder / "texts",)),),
        "phases": (phase,),
        "validation": Validation(
            corpora=(Corpus("held out", (folder / "held_out.txt",)),), every=5, tokens=200
        ),
        "checkpoint_every": 4,
    }
    return Recipe(**(given | changes))


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    return read_tensors(path_of(run / "checkpoints", step))
