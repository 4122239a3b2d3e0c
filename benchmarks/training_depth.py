"""Deep models: runs that take hours, one after the other, kept in a folder and gone on with.

Each is ``everlong train`` in a process of its own on Python's manual and source, with a tokenizer
that is trained on them, so nothing is needed that is not here. They may be spread over days and
machines: what an earlier result of this benchmark holds need not run again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.own_runs import train
from benchmarks.report import Measured
from everlong.config import format_config, load_config
from everlong.data.corpora import Corpus, digest_of
from everlong.data.python_texts import write_python_texts
from everlong.evaluation.provenance import ROOT
from everlong.model.config import ModelConfig, ResidualKind
from everlong.model.cost import parameters
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation
from everlong.training.run_files import METRICS, read_lines
from everlong.training.schedules import ScheduleConfig

Say = Callable[[str], None]
Found = tuple[dict[str, Measured], dict[str, Any]]

KINDS: tuple[ResidualKind, ...] = ("pre", "scaled", "deepnorm", "keel")
NARROW = ModelConfig(
    vocab_size=4096,
    hidden_size=64,
    intermediate_size=128,
    num_layers=128,
    num_heads=16,
    num_kv_heads=4,
    head_dim=4,
    max_position=512,
    tied_head=True,
)
"""128 layers that take minutes."""
FLAT = {
    "spec-128": ModelConfig(
        vocab_size=4096,
        hidden_size=896,
        intermediate_size=3136,
        num_layers=12,
        num_heads=14,
        num_kv_heads=2,
        head_dim=64,
        max_position=512,
        tied_head=True,
    ),
    "spec-256": ModelConfig(
        vocab_size=4096,
        hidden_size=1280,
        intermediate_size=4416,
        num_layers=12,
        num_heads=20,
        num_kv_heads=2,
        head_dim=64,
        max_position=512,
        tied_head=True,
    ),
}
"""12 layers of about as many parameters as each of the deep ones."""

_JUMP = 0.5
"""Nats above the median of the 20 steps before: a spike."""
_BACK = 0.1
"""Within so many nats of it the median of steps has recovered:"""
_TOGETHER = 10
"""so many steps one after the other,"""
_WITHIN = 50
"""of so many at most."""
_SEEDS = 3
"""That a claim needs."""


def python_corpus(folder: Path) -> dict[str, Path]:
    """Python's own texts, by the names of their files."""
    return {name: folder / f"{name}.jsonl" for name in write_python_texts(folder)}


@dataclass(frozen=True)
class DeepRuns:
    """Where runs are, and which need not run again."""

    folder: Path
    """Each run has a folder in it and goes on where it was."""
    earlier: Sequence[Path] = ()
    """Results of this benchmark; their runs of the same recipe count."""
    say: Say = print

    def run(self, part: str, recipes: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
        """What came out of each recipe's run.

        Args:
            part: of the benchmark.
            recipes: by the names that results have.
        """
        before = self._before(part)
        found = {}
        for name, recipe in recipes.items():
            known = before.get(name)
            if known is None or any(known.get(key) != of for key, of in _identity(recipe).items()):
                known = self._run(name, recipe)
            found[name] = known
            self.say(
                f"{name}: {known['held_out']:.3f} nats, {known['tokens_per_second']:,.0f} tokens/s"
            )
        return found

    def _before(self, part: str) -> dict[str, Any]:
        runs: dict[str, Any] = {}
        for path in self.earlier:
            runs |= json.loads(path.read_text(encoding="utf-8"))["samples"].get(part, {})
        return runs

    def _run(self, name: str, recipe: Recipe) -> dict[str, Any]:
        identity = _identity(recipe)
        folder = name.replace(", ", "-").replace(" ", "-")
        run = self.folder / f"{folder}-{identity['recipe']}"
        done, began = train(recipe, run)
        lines = [*read_lines(run / METRICS)]
        return {
            **identity,
            **began,
            "held_out": next(iter(done["validation"].values())),
            "validations": [
                next(iter(line["validation"].values())) for line in lines if "validation" in line
            ],
            "skipped": done["skipped"],
            "losses": [None if (one := line["loss"]) is None else round(one, 4) for line in lines],
            "tokens_per_second": median(line["tokens"] / line["seconds"] for line in lines),
        }


def norms(runs: DeepRuns, seeds: Sequence[int], rates: Sequence[float]) -> Found:
    """How layers are joined, at equal compute: 128 narrow layers, 300 steps of 512 tokens."""
    texts = python_corpus(runs.folder / "corpus")
    found = runs.run(
        "norms",
        {
            f"{kind}, {rate:g}, seed {seed}": _recipe(
                texts, replace(NARROW, residual=kind), steps=300, rate=rate, seed=seed
            )
            for rate in rates
            for seed in seeds
            for kind in KINDS
        },
    )
    for kind in KINDS:
        for rate in rates:
            of = [found[f"{kind}, {rate:g}, seed {seed}"] for seed in seeds]
            ends = [one["held_out"] for one in of]
            spikes = sum(unrecovered(one["losses"], one["validations"]) for one in of)
            spread = stdev(ends) if len(ends) > 1 else 0.0
            runs.say(f"{kind} at {rate:g}: {mean(ends):.3f} (spread {spread:.3f}), {spikes} spikes")
    return {}, found


def spec(runs: DeepRuns, seeds: Sequence[int]) -> Found:
    """The recipes of the specification's depth, each beside two models of 12 layers: of as many
    parameters, and as wide, which tells what depth alone does."""
    texts = python_corpus(runs.folder / "corpus")
    measured: dict[str, Measured] = {}
    samples: dict[str, Any] = {}
    for name, flat in FLAT.items():
        recipe = spec_recipe(name, texts)
        shape, phase = recipe.model.shape, recipe.phases[0]
        assert shape is not None
        of = {
            name: recipe,
            f"12 layers as {name}": replace(recipe, model=ModelSource(shape=flat)),
            f"12 layers as wide as {name}": replace(
                recipe, model=ModelSource(shape=replace(shape, num_layers=12))
            ),
        }
        found = [
            runs.run("spec", {f"{one}, seed {seed}": replace(given, seed=seed) for seed in seeds})
            for one, given in of.items()
        ]
        deep, beside, shallow = (
            ", ".join(f"{one['held_out']:.3f}" for one in some.values()) for some in found
        )
        for some in found:
            samples |= some
        spikes = sum(unrecovered(one["losses"], one["validations"]) for one in found[0].values())
        measured[f"{name.replace('-', '')}_unrecovered_spikes"] = Measured(
            spikes if len(seeds) >= _SEEDS else None,
            f"{recipe.steps} steps of {phase.sequences * phase.sequence_length} tokens at a rate "
            f"of {phase.learning_rate:g}, {len(seeds)} seeds, "
            f"{parameters(shape).total / 1e6:.0f} M parameters; held-out loss {deep} "
            f"(12 layers of as many parameters: {beside}; 12 of these layers: {shallow})",
        )
    return measured, samples


def spec_recipe(name: str, texts: Mapping[str, Path]) -> Recipe:
    """A recipe of the product on these texts.

    The held-out loss is told half-way and at the end, not every 50 steps: it steers nothing there
    and takes a fifth of the time.
    """
    given = load_config(Recipe, ROOT / "recipes" / f"{name}.yaml")
    return replace(
        given,
        corpora=(Corpus("texts", (texts["manual"],)),),
        validation=replace(
            given.validation,
            corpora=(Corpus("held out", (texts["manual-held-out"],)),),
            every=given.steps // 2,
        ),
    )


def unrecovered(losses: Sequence[float | None], validations: Sequence[float]) -> int:
    """Spikes of a run from which its loss does not come back.

    One is a step above those before it; texts differ, so it is those behind it that tell, ten at
    a time. In the last steps nothing follows that would: there it has recovered if the held-out
    loss at the end is above none before by a tenth.

    Args:
        losses: of the steps; None is no finite loss.
        validations: held-out losses, in order; the last one is that of the end.
    """
    losses = [math.inf if one is None else one for one in losses]
    count, step = 0, 20
    while step < len(losses):
        before = median(losses[step - 20 : step])
        if not losses[step] > before + _JUMP:
            step += 1
            continue
        after = losses[step + 1 : step + 1 + _WITHIN]
        back = next(
            (
                at
                for at in range(len(after) - _TOGETHER + 1)
                if median(after[at : at + _TOGETHER]) <= before + _BACK
            ),
            None,
        )
        if back is not None:
            step += back + 1 + _TOGETHER
            continue
        ended_well = (
            len(after) < _WITHIN
            and len(validations) > 1
            and validations[-1] <= min(validations[:-1]) + _BACK
        )
        count += not ended_well
        step += _WITHIN
    return count


def _recipe(
    texts: Mapping[str, Path], shape: ModelConfig, *, steps: int, rate: float, seed: int
) -> Recipe:
    return Recipe(
        run=Path(),
        model=ModelSource(shape=shape),
        corpora=(Corpus("texts", (texts["manual"],)),),
        phases=(Phase(steps, rate, 128, 4, {"texts": 1.0}, ScheduleConfig("wsd", warmup=30)),),
        validation=Validation((Corpus("held out", (texts["manual-held-out"],)),), 100, 16384),
        seed=seed,
        checkpoint_every=100,
        keep=1,
    )


def _identity(recipe: Recipe) -> dict[str, str]:
    """Checksums of what a run does, wherever its folder is, and of what it reads."""
    texts = digest_of([*recipe.corpora, *recipe.validation.corpora], "")
    nowhere = Path()
    bare = replace(
        recipe,
        run=nowhere,
        corpora=tuple(replace(one, paths=(nowhere,)) for one in recipe.corpora),
        validation=replace(
            recipe.validation,
            corpora=tuple(replace(one, paths=(nowhere,)) for one in recipe.validation.corpora),
        ),
    )
    digest = hashlib.sha256(format_config(bare).encode())
    return {"recipe": digest.hexdigest()[:16], "texts": texts}
