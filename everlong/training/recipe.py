"""Recipes: what a run trains, on what, and how; a YAML file, read into these classes.

What cannot be is refused when a recipe is read, or before its first step where it depends on the
model or the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from everlong.data.corpora import Corpus, Reading
from everlong.data.objectives import OBJECTIVES, Objective
from everlong.errors import ConfigError
from everlong.model.adapters import LoraConfig
from everlong.model.config import ModelConfig
from everlong.training.optimizers import OptimizerConfig
from everlong.training.schedules import Schedule, ScheduleConfig

_KINDS: Mapping[Objective, Reading] = {"contrastive": "pairs", "preference": "preferences"}
"""Objectives whose corpora are of a kind of their own."""


@dataclass(frozen=True)
class ModelSource:
    """The model that is trained: one that exists, or a new one of some shape."""

    checkpoint: str | None = None
    """Name of the catalog, folder in the Hugging Face layout, GGUF file, or folder of another
    run, whose last checkpoint it is."""
    shape: ModelConfig | None = None
    """Of a new one, whose weights are drawn by the seed."""
    tokenizer: str | None = None
    """Of a new one: a folder with a ``tokenizer.json``, or a model whose it is; None: one of
    ``shape.vocab_size`` tokens is trained on the recipe's corpora."""

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.shape is None):
            raise ConfigError("a model has either a checkpoint or a shape")
        if self.shape is None and self.tokenizer is not None:
            raise ConfigError("a tokenizer is named with a shape; a checkpoint has its own")


@dataclass(frozen=True)
class Phase:
    """Consecutive steps of a run that are alike."""

    steps: int
    learning_rate: float
    """The highest."""
    sequence_length: int
    """Tokens of a sequence at most."""
    sequences: int
    """Of a step, over all processes."""
    weights: Mapping[str, float]
    """Share of the tokens that each corpus gives, by its name; taken to sum to 1."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    layers: int | None = None
    """To which the model grows before the phase; None: as many as it has."""
    heads: int | None = None
    """Query heads, likewise."""
    cut: bool = True
    """Whether documents are cut so that every sequence is full."""
    objective: Objective = "next"
    """What is learned of them; see ``data/objectives.py``."""
    masked: float = 0.2
    """Share of the tokens that ``denoise`` masks."""

    def __post_init__(self) -> None:
        for name in ("steps", "sequence_length", "sequences"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is 1 or more, not {getattr(self, name)}")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"learning_rate is above 0 and at most 1, not {self.learning_rate}")
        for name in ("layers", "heads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} is 1 or more, not {value}")
        Schedule(self.schedule, self.steps)  # refuses a warm-up that is longer than the phase
        if self.objective not in OBJECTIVES:
            raise ConfigError(
                f"objective {self.objective!r} is unknown; allowed: {', '.join(OBJECTIVES)}"
            )
        if self.objective in _KINDS and self.cut:
            raise ConfigError(f"{self.objective} phases read whole pairs; say cut: false")
        if not 0 < self.masked < 1:
            raise ConfigError(f"masked is between 0 and 1, not {self.masked}")
        wrong = [f"{n}: {w}" for n, w in self.weights.items() if not 0 <= w < math.inf]
        if wrong or not 0 < sum(self.weights.values()) < math.inf:
            raise ConfigError(
                f"weights are 0 or more, and one is above 0, not {', '.join(wrong) or 'none'}; all "
                "together are a finite number"
            )
        if self.objective == "contrastive" and self.sequences < 2:
            raise ConfigError(
                "contrastive steps compare pairs with one another; give sequences: 2 or more"
            )


@dataclass(frozen=True)
class Validation:
    """When a run looks at texts that it does not learn from."""

    corpora: tuple[Corpus, ...] = ()
    """Each has a loss of its own; the first one's is that by which the best checkpoint, a plateau
    and an early stop are told."""
    every: int = 100
    """Steps; and after the last."""
    tokens: int = 65536
    """Of each corpus, its beginning; about, as sequences are read whole."""
    patience: int | None = None
    """So many validations in a row that bring nothing end the run; None: never."""

    def __post_init__(self) -> None:
        for name in ("every", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is 1 or more, not {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience is 1 or more, not {self.patience}")


@dataclass(frozen=True)
class Recipe:
    """A run."""

    run: Path
    """Folder of what it writes: checkpoints, metrics, the ledger, the report."""
    model: ModelSource
    corpora: tuple[Corpus, ...]
    phases: tuple[Phase, ...]
    validation: Validation = field(default_factory=Validation)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: Literal["bf16", "float32"] = "bf16"
    """Of products; weights and sums are float32 in any case."""
    micro_sequences: int | None = None
    """Sequences of a step that a process computes at a time; None: all of its own. Fewer take less
    memory."""
    recompute: bool = False
    """Whether layers are computed again for the backward pass instead of keeping what they
    computed (Chen et al., 2016)."""
    sharding: Literal["replicated", "divided"] = "replicated"
    """What the processes of torchrun have of the weights, their gradients and what the optimizer
    remembers: each all, or each its part."""
    adapter: LoraConfig | None = None
    """Trains a low-rank adapter beside the model's weights instead of the weights."""
    average: float | None = None
    """Decay of an exponential moving average of the weights, which is what is validated and
    exported; None: there is none."""
    seed: int = 0
    checkpoint_every: int = 200
    """Steps; and after the last, and when the run is stopped."""
    keep: int = 2
    """Checkpoints that stay, besides the best one."""
    tensorboard: bool = False
    """Whether event files for tensorboard are written, too."""

    def __post_init__(self) -> None:
        names = [corpus.name for corpus in (*self.corpora, *self.validation.corpora)]
        if len(set(names)) < len(names):
            raise ConfigError(f"corpora have different names, not {', '.join(sorted(names))}")
        if not self.corpora or not self.phases:
            raise ConfigError("a run has corpora and phases, one each at least")
        known = {corpus.name for corpus in self.corpora}
        for number, phase in enumerate(self.phases):
            if unknown := sorted(set(phase.weights) - known):
                raise ConfigError(
                    f"phases[{number}].weights names {', '.join(unknown)}; there are "
                    f"{', '.join(sorted(known))}"
                )
            kinds = {one.name: one.kind for one in self.corpora}
            read: list[Reading] = [kinds[name] for name, share in phase.weights.items() if share]
            read += [one.kind for one in self.validation.corpora]
            fits = _KINDS.get(phase.objective)
            unfit = {kind for kind in read if kind != fits and (fits or kind in _KINDS.values())}
            if unfit:
                raise ConfigError(
                    f"phases[{number}]: corpora of kind pairs are for the objective contrastive, "
                    "those of kind preferences for preference, and the other way round; this is "
                    f"{phase.objective} on {', '.join(sorted(unfit))}"
                )
            if self.micro_sequences and phase.sequences % self.micro_sequences:
                raise ConfigError(
                    f"phases[{number}].sequences ({phase.sequences}) must be a multiple of "
                    f"micro_sequences ({self.micro_sequences})"
                )
        grows = any(phase.layers is not None or phase.heads is not None for phase in self.phases)
        if self.adapter is not None and (grows or self.model.checkpoint is None):
            raise ConfigError("an adapter needs a model.checkpoint that does not grow")
        if self.sharding == "divided":
            wrong = [
                name
                for name, used in (
                    ("optimizer.kind: muon", self.optimizer.kind == "muon"),
                    ("average", self.average is not None),
                    ("adapter", self.adapter is not None),
                )
                if used
            ]
            if wrong:
                raise ConfigError(
                    f"sharding: divided goes with adamw and all weights, not with "
                    f"{', '.join(wrong)}; leave that out, or say sharding: replicated"
                )
        if not self.validation.corpora:
            if self.validation.patience is not None:
                raise ConfigError("validation.patience needs validation.corpora, which are none")
            if any(phase.schedule.kind == "plateau" for phase in self.phases):
                raise ConfigError(
                    "schedule.kind: plateau lowers the rate by the loss of validation.corpora, "
                    "which are none"
                )
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed is from 0 to {(1 << 63) - 1}, not {self.seed}")
        for name in ("checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is 1 or more, not {getattr(self, name)}")
        if self.micro_sequences is not None and self.micro_sequences < 1:
            raise ConfigError(f"micro_sequences is 1 or more, not {self.micro_sequences}")
        if self.average is not None and not 0 < self.average < 1:
            raise ConfigError(f"average is between 0 and 1, not {self.average}")

    @property
    def operations(self) -> float:
        """Of a step, as a share of those of one that trains all weights.

        With an adapter the other weights have no gradients, a third of them; an answer that is
        preferred is read by the model before, too.
        """
        return (1.0 if self.adapter is None else 2 / 3) + self.compares / 3

    @property
    def compares(self) -> bool:
        """Whether the model before the run is needed beside the one that learns."""
        return any(phase.objective == "preference" for phase in self.phases)

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def place(self, step: int) -> tuple[int, int]:
        """Number of the phase of a step, and the step's own number in it."""
        for number, phase in enumerate(self.phases):
            if step < phase.steps:
                return number, step
            step -= phase.steps
        raise AssertionError("the run has no such step")
