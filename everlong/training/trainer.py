"""The training loop; there is no other.

A step takes the next sequences of the 32 streams, computes the mean loss of their learned tokens
in one or more parts, and changes the weights once. Everything that decides a step is in the
checkpoint before it: a run that is stopped, however, goes on bit for bit.

Products are computed in bfloat16 where the recipe wants it; weights, gradients, what optimizers
remember and the sums along the layers are float32 (Micikevicius et al., 2018, section 3.1).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from everlong.config import to_plain
from everlong.data.batches import read
from everlong.data.objectives import Shaping
from everlong.data.streams import Packed, Streams, deal
from everlong.device import keep_freed_memory
from everlong.errors import CheckpointError, ConfigError, EverlongError
from everlong.files import FileLock, atomic_write
from everlong.model.adapters import attach
from everlong.model.config import ModelConfig
from everlong.model.cost import training_flops
from everlong.model.growth import grow
from everlong.model.transformer import Transformer, compile_rows
from everlong.training.checkpoints import (
    Checkpoints,
    latest,
    path_of,
    read_state,
    read_tensors,
    set_aside,
    steps_in,
)
from everlong.training.journal import Journal
from everlong.training.objectives import Losses
from everlong.training.optimizers import Optimizers, average, grown_state
from everlong.training.parallel import Ranks, device_of_process, divide, whole
from everlong.training.recipe import Phase, Recipe
from everlong.training.run_files import CHECKPOINTS, OUTCOME, RECIPE
from everlong.training.same_run import begin, check
from everlong.training.schedules import Schedule
from everlong.training.start import built, check_pairs, open_start, parameters_of
from everlong.training.validation import HeldOut

_MOST_SKIPPED = 50
"""Steps in a row whose gradients are not finite: then there is nothing to wait for."""


@dataclass(frozen=True)
class Step:
    """What is told of a step."""

    number: int
    """Counted from 0."""
    phase: int
    loss: float
    """Mean over the learned tokens, in nats."""
    learning_rate: float
    gradient_norm: float
    """Before clipping; where it is no finite number, the step changed nothing."""
    tokens: int
    """That were read."""
    seconds: float
    flops: int
    """Operations of the model for these tokens, forward and backward."""
    imbalance: float
    """By how much the process with most work has more than the mean, as estimated: 0.1 is a
    tenth."""
    validation: Mapping[str, float] | None = None
    """Losses of the held-out corpora after the step, in nats."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    """That are done."""
    why: str
    """``finished``, ``stopped`` (by Ctrl-C; it goes on with ``resume``) or ``no better`` (an
    early stop)."""
    before: Mapping[str, float]
    """Losses of the held-out corpora before the first step of the last objective, in nats."""
    validation: Mapping[str, float]
    """The last ones."""
    skipped: int
    """Steps whose gradients were not finite."""

    @property
    def stopped(self) -> bool:
        """Whether there is more to do."""
        return self.why == "stopped"


class Trainer:
    """One run of a recipe.

    Args:
        recipe: what to do.
        say: told what happens besides steps, in the first process.
        ranks: the processes that share the work.

    Raises:
        ConfigError: what the recipe asks for cannot be.
        CheckpointError, DataError: the model or the data cannot be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        say: Callable[[str], None] = lambda text: None,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        say = say if self._ranks.first else lambda text: None
        for number, phase in enumerate(recipe.phases):
            own, rest = divmod(phase.sequences, self._ranks.size)
            together = recipe.micro_sequences or own
            if rest or own % together:
                raise ConfigError(
                    f"phases[{number}].sequences ({phase.sequences}) must be a multiple of "
                    f"{self._ranks.size} processes times {recipe.micro_sequences or 1} "
                    "micro_sequences"
                )
            if phase.objective == "contrastive" and together < 2:
                raise ConfigError(
                    f"phases[{number}]: contrastive steps compare pairs with one another, and each "
                    "process has one sequence at a time; raise sequences or micro_sequences"
                )
        self._recipe, self._say = recipe, say
        self._device = device_of_process()
        self._divided = recipe.sharding == "divided" and self._ranks.size > 1
        self._start = open_start(recipe, say)
        denoises = any(phase.objective == "denoise" for phase in recipe.phases)
        self._mask = self._start.mask_token if denoises else 0
        self._streams = Streams(self._start.sources, recipe.seed)
        self._held_out = HeldOut(
            self._start.held_out, recipe.validation.tokens, recipe.phases[-1].sequence_length
        )
        self._loss = Losses(
            torch.bfloat16 if recipe.precision == "bf16" else torch.float32,
            recipe.recompute,
            lambda: built(self._start.config, self._start.weights).to(self._device),
        )
        check_pairs(recipe, self._start)
        self._step = self._skipped = self._in_a_row = self._phase = 0
        self._validation: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._average: dict[str, Tensor] | None = None
        self._best, self._waited = math.inf, 0
        self._validated_at = -1
        self._stop = False

    @property
    def _is_best(self) -> bool:
        """Whether the step is one that an early stop goes back to."""
        judged = self._recipe.validation.patience is not None
        return judged and self._validated_at == self._step and self._waited == 0

    @property
    def _tired(self) -> bool:
        """Whether validation has brought nothing for long enough to stop."""
        patience = self._recipe.validation.patience
        return patience is not None and self._waited >= patience

    def run(
        self, resume: bool = False, tell: Callable[[Step], None] = lambda step: None
    ) -> Outcome:
        """Train until the recipe's end, an early stop, or Ctrl-C.

        Args:
            resume: go on from the last whole checkpoint.
            tell: told of every step.

        Raises:
            ConfigError: there is a run in the folder, and ``resume`` was not said; or there is
                none, and it was; or its recipe, texts or start are others now.
            CheckpointError: a checkpoint could not be written, or all are damaged.
            EverlongError: the gradients of many steps in a row are not finite.
        """
        keep_freed_memory()
        folder = self._recipe.run
        if resume and not (folder / RECIPE).exists():
            raise ConfigError(f"there is no run in {folder} to go on with; begin without --resume")
        if not self._ranks.first:
            self._ranks.wait()  # for the first one to have begun
            self._open(resume)
            with self._interruptible():
                return self._loop(None, tell)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0), ExitStack() as opened:
            (check if resume else begin)(self._recipe, self._start)
            self._ranks.wait()
            self._open(resume)
            checkpoints = Checkpoints(folder / CHECKPOINTS, self._recipe.keep, self._say)
            opened.callback(checkpoints.close)
            journal = opened.enter_context(
                Journal(folder, self._step, self._start.sources, self._recipe.tensorboard)
            )
            opened.enter_context(self._interruptible())
            outcome = self._loop((checkpoints, journal), tell)
            atomic_write(folder / OUTCOME, json.dumps(asdict(outcome), indent=1).encode())
            return outcome

    def _loop(
        self, kept: tuple[Checkpoints, Journal] | None, tell: Callable[[Step], None]
    ) -> Outcome:
        """Steps until the end.

        Args:
            kept: what the first process writes.
            tell: told of every step.
        """
        recipe, why = self._recipe, "no better" if self._tired else "finished"
        if self._step == 0 and self._held_out:
            self._before = self._losses()
        while self._step < recipe.steps and why == "finished":
            number, place = recipe.place(self._step)
            if place == 0:
                self._enter(number)
            packed, step = self._one_step(recipe.phases[number], place)
            last = self._step == recipe.steps
            if self._held_out and (last or self._step % recipe.validation.every == 0):
                step = self._validated(step)
            if kept is not None:
                kept[1].write(step.number, packed, _figures(step))
            tell(step)
            stopped, failed = self._ranks.sum(self._stop, kept is not None and kept[0].failed)
            if not last and (self._tired or stopped):
                why = "no better" if self._tired else "stopped"
            due = self._step % recipe.checkpoint_every == 0 or self._is_best
            if last or why != "finished" or due or failed:
                self._save(kept)
        if kept is not None:
            kept[0].wait()
        self._ranks.wait()
        return Outcome(self._step, why, self._before, self._validation, self._skipped)

    def _save(self, kept: tuple[Checkpoints, Journal] | None) -> None:
        if kept is not None:
            kept[1].sync()
            kept[0].save(self._step, self._tensors(), self._state())
        elif self._divided:
            for _ in self._tensors():  # the first process needs the parts of all
                pass

    def _one_step(self, phase: Phase, place: int) -> tuple[list[Packed], Step]:
        began = time.perf_counter()
        total = sum(phase.weights.values())
        weights = [phase.weights.get(source.name, 0.0) / total for source in self._start.sources]
        packed = self._streams.take(phase.sequences, phase.sequence_length, weights, phase.cut)
        config = self._model.config
        lengths = {len(piece) for one in packed for piece in one.pieces}
        flops = {length: training_flops(config, length) for length in lengths}
        costs = [float(sum(flops[len(piece)] for piece in one.pieces)) for one in packed]
        dealt = deal(costs, self._ranks.size)
        loads = [sum(costs[i] for i in numbers) for numbers in dealt]
        own = [packed[i] for i in dealt[self._ranks.rank]]
        size = self._recipe.micro_sequences or len(own)
        shaping = self._shaping(self._step)
        batches = [
            read(own[at : at + size], self._start.sources, shaping)
            for at in range(0, len(own), size)
        ]
        (learned,) = self._ranks.sum(sum(batch.learned for batch in batches))
        loss = 0.0
        for batch in batches:
            part = self._loss(self._model, batch.to(self._device)) / max(1, learned)
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        if not self._divided:
            self._ranks.add_gradients(self._model.parameters())
        rate = phase.learning_rate * self._schedule.factor(place)
        norm = self._optimizers.step(rate)
        if not math.isfinite(norm):
            self._skipped += 1
            self._in_a_row += 1
            self._say(f"step {self._step}: gradients are not finite; it changed nothing")
            if self._in_a_row == _MOST_SKIPPED:
                raise EverlongError(
                    f"the gradients of {_MOST_SKIPPED} steps in a row are not finite; the last "
                    "checkpoint is whole; lower the learning rate, or look at the texts that the "
                    "ledger names for these steps"
                )
        else:
            self._in_a_row = 0
            if self._average is not None:
                assert self._recipe.average is not None
                average(self._average, parameters_of(self._model), self._recipe.average)
        (loss,) = self._ranks.sum(loss)
        step = Step(
            self._step,
            self._phase,
            loss,
            rate,
            norm,
            sum(one.tokens for one in packed),
            time.perf_counter() - began,
            int(self._recipe.operations * sum(costs)),
            max(loads) * len(loads) / sum(loads) - 1,
        )
        self._step += 1
        return packed, step

    def _shaping(self, step: int) -> Shaping:
        phase = self._recipe.phases[self._phase]
        return Shaping(phase.objective, self._recipe.seed, step, self._mask, phase.masked)

    def _losses(self) -> dict[str, float]:
        """Of the held-out corpora, by the weights that are exported."""
        model = self._model
        if self._average is not None:
            model = self._built(model.config, self._average)
        # What is drawn for them is the same every time, so that losses can be compared.
        shaping = self._shaping(0)
        return self._held_out.losses(
            lambda batch: self._loss(model, batch.to(self._device)), shaping
        )

    def _validated(self, step: Step) -> Step:
        self._validation, self._validated_at = self._losses(), self._step
        # What the first process finds, as processors may differ in the last bits.
        (first,) = self._ranks.sum(
            self._validation[self._held_out.first] if self._ranks.first else 0.0
        )
        self._schedule.validated(first)
        if first < self._best:
            self._best, self._waited = first, 0
        else:
            self._waited += 1
        return replace(step, validation=dict(self._validation))

    def _enter(self, number: int) -> None:
        """Begin a phase: grow, and balance the sources anew.

        Losses of another objective cannot be compared: the best one is looked for anew.
        """
        config, before = self._start.configs[number], self._model.config
        if config != before:
            kept, weights = (
                {name: whole(one).cpu() for name, one in some.items()}
                for some in (self._optimizers.tensors(), parameters_of(self._model))
            )
            self._build(config, grow(before, weights, config), {})
            self._optimizers.load(grown_state(kept, before, config, parameters_of(self._model)))
            if self._average is not None:
                self._average = grow(before, self._average, config)
            self._say(f"the model has {config.num_layers} layers of {config.num_heads} heads now")
        self._phase = number
        self._schedule = Schedule(
            self._recipe.phases[number].schedule, self._recipe.phases[number].steps
        )
        self._streams.restart()
        phases = self._recipe.phases
        if number and phases[number].objective != phases[number - 1].objective:
            self._best, self._waited = math.inf, 0
            if self._held_out:
                self._before = self._losses()

    def _open(self, resume: bool) -> None:
        """The state after the last whole checkpoint, or before the first step."""
        folder = self._recipe.run
        step = latest(folder / CHECKPOINTS, self._say) if resume else None
        if step is None:
            if resume and (damaged := steps_in(folder / CHECKPOINTS)):
                raise CheckpointError(
                    f"all {len(damaged)} checkpoints of {folder} are damaged; bring one back, or "
                    "begin anew in another folder by --run"
                )
            if resume:
                self._say("there is no checkpoint yet; the run begins anew")
            adapted = self._recipe.adapter is not None
            self._build(self._start.config, {} if adapted else self._start.weights, {})
            if self._recipe.average is not None:
                self._average = {
                    name: one.clone() for name, one in parameters_of(self._model).items()
                }
        else:
            saved = path_of(folder / CHECKPOINTS, step)
            self._load(read_state(saved), read_tensors(saved))
            if self._ranks.first:
                set_aside(folder / CHECKPOINTS, step)
            self._say(f"goes on after step {step}")
        if self._recipe.adapter is None and not self._recipe.compares:
            self._start.weights.clear()  # as large as the model, and of no more use

    def _build(
        self, config: ModelConfig, weights: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> None:
        self._model = self._built(config, weights)
        if self._divided:
            divide(self._model, self._ranks)
        self._optimizers = Optimizers(self._model.named_parameters(), self._recipe.optimizer)
        self._optimizers.load(kept)

    def _built(self, config: ModelConfig, weights: Mapping[str, Tensor]) -> Transformer:
        """A model with these weights; with an adapter, its own beside those of the start."""
        if (adapter := self._recipe.adapter) is None:
            model = built(config, weights)
        else:
            model = built(config, self._start.weights)
            attach(model, adapter, self._recipe.seed)
            model.load_state_dict(weights, strict=False)
        if self._device.type == "cuda":
            compile_rows(model)
        return model.to(self._device)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that a checkpoint has, whole, one at a time; every process has to ask."""
        parts: tuple[tuple[str, Mapping[str, Tensor]], ...] = (
            ("model", parameters_of(self._model)),
            ("optimizer", self._optimizers.tensors()),
            ("average", self._average or {}),
        )
        for part, tensors in parts:
            for name, one in tensors.items():
                yield f"{part}.{name}", whole(one)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "model": to_plain(self._model.config),
            "adapter": to_plain(self._recipe.adapter),
            "base": self._recipe.model.checkpoint,
            "phase": self._phase,
            "skipped": self._skipped,
            "streams": self._streams.state(),
            "schedule": self._schedule.state(),
            "before": self._before,
            "validation": self._validation,
            "validation_loss": next(iter(self._validation.values()), None)
            if self._validated_at == self._step
            else None,
            "judged_by": self._recipe.phases[self._phase].objective,
            "best": self._best,
            "waited": self._waited,
        }

    def _load(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
        for name, value in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = value
        self._step, self._phase = state["step"], state["phase"]
        self._skipped = state["skipped"]
        self._build(self._start.configs[self._phase], parts["model"], parts["optimizer"])
        kept = {name: one.to(self._device) for name, one in parts["average"].items()}
        self._average = kept or None
        phase = self._recipe.phases[self._phase]
        self._schedule = Schedule(phase.schedule, phase.steps)
        self._schedule.load(state["schedule"])
        self._streams.load(state["streams"])
        self._before = dict(state["before"])
        self._validation = dict(state["validation"])
        self._best, self._waited = state["best"], state["waited"]

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C ends the run after its step, the second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True
            self._say("stopping after this step; once more stops at once")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _figures(step: Step) -> dict[str, Any]:
    found = asdict(step)
    del found["number"]
    return {name: value for name, value in found.items() if value is not None}
