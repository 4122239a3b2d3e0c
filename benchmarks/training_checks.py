"""What training promises besides speed: runs that go on, models that grow, plans that hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.report import Measured
from benchmarks.training_depth import python_corpus
from everlong.config import format_config
from everlong.data.corpora import Corpus
from everlong.device import peak_flops
from everlong.model.config import ModelConfig
from everlong.model.growth import grow, grown_config, logits_change
from everlong.training.kills import kill_and_compare
from everlong.training.models import open_dense
from everlong.training.optimizers import OptimizerConfig
from everlong.training.plan import Device, plan
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation
from everlong.training.run_files import CHECKPOINTS, METRICS, read_lines
from everlong.training.schedules import ScheduleConfig
from everlong.training.start import configs_of
from everlong.training.trainer import Trainer

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
_KILLS = 20
"""That the claim needs."""


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
            wrong if kills >= _KILLS else None,
            f"{wrong} differences; killed {found.kills} times at random moments of "
            f"{found.steps} steps, over two phases and growth; {found.numbers:,} numbers of "
            "weights, optimizers and the moving average, the losses of all steps and the ledger",
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
    """Plans from a short run, held against longer ones of other lengths, depths and widths."""
    told: dict[str, Any] = {}
    worst = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        texts = python_corpus(Path(folder) / "corpus")
        short = Recipe(
            run=Path(folder) / "short",
            model=ModelSource(shape=_PLANNED),
            corpora=(Corpus("code", (texts["code"],)),),
            phases=(Phase(12, 1e-3, 256, 16, {"code": 1.0}),),
        )
        peak = peak_flops("bf16")
        learned, _ = _alone(short)
        share = sum(s["flops"] for s in learned) / sum(s["seconds"] for s in learned) / peak
        for name, (shape, phase) in _LONGER.items():
            longer = replace(
                short, run=Path(folder) / name, model=ModelSource(shape=shape), phases=(phase,)
            )
            steps, used = _alone(longer)
            device = Device("here", peak, 0.0, 0.0)
            work = plan(longer, configs_of(longer, shape), device, 1, share=share)
            each = sum(one["seconds"] for one in steps) / len(steps)
            took = {
                "time": (work.seconds, each * phase.steps),
                "checkpoint": (work.checkpoint_bytes, _tensor_bytes(longer.run)),
                "memory": (work.memory("replicated") + work.host_memory, used),
            }
            told[name] = {what: {"planned": p, "found": f} for what, (p, f) in took.items()}
            for what, (expected, found) in took.items():
                error = 100 * abs(expected / found - 1)
                line = f"{name}, {what}: {expected:.3g} planned, {found:.3g} found"
                say(f"{line} ({error:.1f} %)")
                worst = max(worst, (error, line))
    return {
        "plan_error": Measured(
            worst[0],
            f"{worst[1]}; the worst of time, memory and checkpoint of {len(told)} runs of other "
            "lengths, depths and widths, planned by the share of the peak in 12 steps "
            f"({share:.0%})",
        )
    }, {"runs": told, "share": share}


_PLANNED = replace(_SHAPE, hidden_size=384, intermediate_size=1024, head_dim=48)
_LONGER = {
    "deeper": (replace(_PLANNED, num_layers=10), Phase(24, 1e-3, 512, 16, {"code": 1.0})),
    "wider": (
        replace(_PLANNED, hidden_size=512, intermediate_size=1408, head_dim=64, num_layers=8),
        Phase(24, 1e-3, 256, 24, {"code": 1.0}),
    ),
    "longer, fewer heads": (
        replace(_PLANNED, num_heads=6, num_kv_heads=2, head_dim=64, max_position=1024),
        Phase(24, 1e-3, 1024, 6, {"code": 1.0}),
    ),
}
"""What is planned from 12 steps of the first."""


def _alone(recipe: Recipe) -> tuple[list[dict[str, Any]], float]:
    """Train in a process of its own: its steps behind the first two, and bytes that it used beside
    what the same process has before it trains."""
    path = recipe.run.with_name(f"{recipe.run.name}.yaml")
    path.write_text(format_config(recipe), encoding="utf-8")
    used = _peak("-m", "everlong.cli", "train", str(path)) - _peak("-c", _IMPORTS)
    return [*read_lines(recipe.run / METRICS)][2:], used


_IMPORTS = "import everlong.apps.train, everlong.training.trainer, rich.progress, matplotlib.pyplot"


def _peak(*arguments: str) -> float:
    """The most bytes that a process of Python had in memory.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return 1024.0 * usage.ru_maxrss


def _tensor_bytes(run: Path) -> float:
    return float(sum(one.stat().st_size for one in (run / CHECKPOINTS).rglob("*.safetensors")))
