"""What training promises besides speed: runs that go on, models that grow, plans that hold."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.report import Measured
from benchmarks.training_depth import python_corpus
from everlong.data.corpora import Corpus
from everlong.device import peak_flops
from everlong.model.config import ModelConfig
from everlong.model.growth import grow, grown_config, logits_change
from everlong.training.kills import kill_and_compare
from everlong.training.models import open_dense
from everlong.training.optimizers import OptimizerConfig
from everlong.training.plan import Device, plan
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation
from everlong.training.run_files import CHECKPOINTS
from everlong.training.schedules import ScheduleConfig
from everlong.training.start import configs_of
from everlong.training.trainer import Step, Trainer

Say = Callable[[str], None]
Found = tuple[dict[str, Measured], dict[str, Any]]

_SHAPE = ModelConfig(
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=256,
    num_layers=6,
    num_heads=8,
    num_kv_heads=4,
    head_dim=16,
    max_position=512,
    tied_head=True,
)
_DEPTHS = (60, 128, 256)


def resume(kills: int, steps: int, seed: int, say: Say) -> Found:
    """A run that is killed at random moments beside one that is not."""
    with tempfile.TemporaryDirectory() as folder:
        texts = python_corpus(Path(folder) / "corpus")
        recipe = Recipe(
            run=Path(folder),
            model=ModelSource(shape=_SHAPE),
            corpora=(Corpus("manual", (texts["manual"],)), Corpus("code", (texts["code"],))),
            phases=(
                Phase(steps // 2, 3e-3, 128, 8, {"manual": 1.0}),
                Phase(steps - steps // 2, 1e-3, 256, 4, {"manual": 0.5, "code": 0.5}, layers=9),
            ),
            validation=Validation((Corpus("held out", (texts["manual-held-out"],)),), 10, 4096),
            optimizer=OptimizerConfig("muon"),
            average=0.9,
            checkpoint_every=6,
        )
        found = kill_and_compare(recipe, Path(folder) / "runs", kills, seed, say)
    wrong = found.different_bits + (not found.same_ledger) + (not found.same_losses)
    return {
        "resume_bit_differences": Measured(
            wrong,
            f"killed {found.kills} times at random moments of {found.steps} steps, over two phases "
            f"and growth; {found.numbers:,} numbers of weights, optimizers and the moving average, "
            "the losses of all steps and the ledger",
        )
    }, {"kills": found.kills, "steps": found.steps, "numbers": found.numbers}


def growth(model: str, steps: int, say: Say) -> Found:
    """A published model that grows, and then learns."""
    opened = open_dense(model)
    changes = {}
    config, weights = opened.config, opened.weights
    text = Path(__file__).read_text(encoding="utf-8")
    tokens = opened.tokenizer.encode(text)[:256]
    for layers in _DEPTHS:
        larger = grown_config(config, layers, None)
        config, weights = larger, grow(config, weights, larger)
        changes[layers] = logits_change(opened.config, opened.weights, config, weights, tokens)
        say(f"{layers} layers: logits differ by {changes[layers]:.1e} at most")
    del weights
    with tempfile.TemporaryDirectory() as folder:
        texts = python_corpus(Path(folder) / "corpus")
        recipe = Recipe(
            run=Path(folder) / "run",
            model=ModelSource(checkpoint=model),
            corpora=(Corpus("manual", (texts["manual"],)),),
            phases=(
                Phase(
                    *(steps, 5e-5, 256, 1, {"manual": 1.0}),
                    schedule=ScheduleConfig("wsd", warmup=min(20, steps)),
                    layers=128,
                ),
            ),
            validation=Validation((Corpus("held out", (texts["manual-held-out"],)),), steps, 8192),
            checkpoint_every=steps,
        )
        outcome = Trainer(recipe, say).run(
            tell=lambda step: say(f"step {step.number + 1}: {step.loss:.3f}")
        )
    before, after = outcome.before["held out"], outcome.validation["held out"]
    return {
        "growth_logit_difference": Measured(
            max(changes.values()),
            f"{model} grown from {opened.config.num_layers} to "
            + ", ".join(f"{layers} layers {change:.1e}" for layers, change in changes.items())
            + f"; {steps} steps at 128 layers take the held-out loss from {before:.3f} to "
            f"{after:.3f} nats",
        )
    }, {"logit_changes": changes, "loss_before": before, "loss_after": after}


def planned(say: Say) -> Found:
    """A plan from a short run, held against a longer one of another length and depth."""
    with tempfile.TemporaryDirectory() as folder:
        texts = python_corpus(Path(folder) / "corpus")
        shape = replace(_SHAPE, hidden_size=384, intermediate_size=1024, head_dim=48)
        short = Recipe(
            run=Path(folder) / "short",
            model=ModelSource(shape=shape),
            corpora=(Corpus("code", (texts["code"],)),),
            phases=(Phase(12, 1e-3, 256, 16, {"code": 1.0}),),
        )
        longer = replace(
            short,
            run=Path(folder) / "longer",
            model=ModelSource(shape=replace(shape, num_layers=10)),
            phases=(Phase(24, 1e-3, 512, 16, {"code": 1.0}),),
        )
        peak = peak_flops("bf16")
        resident = _resident()
        steps = _run(longer)  # first, as memory that was freed is kept
        used = _peak() - resident
        learned = _run(short)
        share = sum(s.flops for s in learned) / sum(s.seconds for s in learned) / peak
        assert longer.model.shape is not None
        work = plan(
            longer,
            configs_of(longer, longer.model.shape),
            Device("here", peak, 0.0, 0.0),
            1,
            share=share,
        )
        took = {
            "time": (work.seconds, sum(one.seconds for one in steps) * 24 / len(steps)),
            "checkpoint": (work.checkpoint_bytes, _tensor_bytes(longer.run)),
            "memory": (work.memory("replicated") + work.host_memory, used),
        }
    errors = {name: 100 * abs(expected / found - 1) for name, (expected, found) in took.items()}
    for name, (expected, found) in took.items():
        say(f"{name}: planned {expected:.3g}, found {found:.3g} ({errors[name]:.1f} %)")
    return {
        "plan_error": Measured(
            max(errors.values()),
            f"the share of the peak from 12 steps ({share:.0%}), a run of another depth and "
            "length: "
            + ", ".join(
                f"{name} {expected:.3g} planned, {found:.3g} found"
                for name, (expected, found) in took.items()
            ),
        )
    }, {"planned and found": took, "share": share}


def _run(recipe: Recipe) -> list[Step]:
    """Steps behind the first two."""
    steps: list[Step] = []
    Trainer(recipe).run(tell=steps.append)
    return steps[2:]


def _tensor_bytes(run: Path) -> float:
    return float(sum(one.stat().st_size for one in (run / CHECKPOINTS).rglob("*.safetensors")))


def _resident() -> float:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def _peak() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
