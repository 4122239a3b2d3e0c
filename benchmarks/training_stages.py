"""The quickstart: three stages from nothing, beside a plain GPT-2 of the same size and time."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.plain_gpt2 import GPT2
from benchmarks.plain_step import plain_step
from benchmarks.report import Measured
from everlong.config import load_config
from everlong.data.batches import TokenBatch
from everlong.data.objectives import NOT_LEARNED
from everlong.device import keep_freed_memory
from everlong.evaluation.provenance import ROOT
from everlong.files import cache_dir
from everlong.training.recipe import Recipe
from everlong.training.run_files import METRICS, outcome_of, read_lines
from everlong.training.start import Start, open_start
from everlong.training.validation import HeldOut

Say = Callable[[str], None]
Found = tuple[dict[str, Measured], dict[str, Any]]

_QUICKSTART = ROOT / "recipes" / "quickstart"
_STAGES = ("pretrain", "finetune", "adapt")


def quickstart(batches: Sequence[int], rates: Sequence[float], threads: int, say: Say) -> Found:
    """Both commands of the quickstart in an empty folder, timed; then the baseline.

    Args:
        batches: sequences of a step of the baseline, and
        rates: its learning rates; of all pairs the best one counts.
        threads: of all processes.
        say: told how far it is.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Kernels that are built stay; tokenizers and shards are made anew.
        home = folder / "home"
        home.mkdir()
        if (cache_dir() / "native").is_dir():
            (home / "native").symlink_to(cache_dir() / "native")
        began = time.perf_counter()
        for command in (
            ["corpus", "./quickstart/corpus"],
            ["train", str(_QUICKSTART)],
        ):
            subprocess.run(
                [sys.executable, "-m", "everlong.cli", *command],
                check=True,
                cwd=folder,
                env={
                    **os.environ,
                    "EVERLONG_HOME": str(home),
                    "PYTHONPATH": str(ROOT),
                    "OMP_NUM_THREADS": str(threads),
                },
                stdout=subprocess.DEVNULL,
            )
        minutes = (time.perf_counter() - began) / 60
        told = {stage: outcome_of(folder / "quickstart" / stage) for stage in _STAGES}
        gains = []
        for stage, outcome in told.items():
            assert outcome is not None
            first = next(iter(outcome["validation"]))
            gains.append((stage, first, outcome["before"][first], outcome["validation"][first]))
            say(f"{stage}: {first} {gains[-1][2]:.3f} before, {gains[-1][3]:.3f} after")
        seconds = sum(
            line["seconds"] for line in read_lines(folder / "quickstart" / "pretrain" / METRICS)
        )
        say(f"{minutes:.1f} minutes; {seconds:.0f} s of them were steps of pre-training")
        before = Path.cwd()
        os.chdir(folder)
        try:
            start = open_start(load_config(Recipe, _QUICKSTART / "1-pretrain.yaml"), say)
        finally:
            os.chdir(before)
        torch.set_num_threads(threads)
        keep_freed_memory()  # as everlong train does by itself
        runs = [_baseline(start, seconds, *how, say) for how in itertools.product(batches, rates)]
    ours = gains[0][3]
    best = min(runs, key=lambda run: float(run["loss"]))
    improved = all(after < earlier for _, _, earlier, after in gains)
    return {
        "quickstart_minutes": Measured(
            minutes if improved else None,
            f"{minutes:.1f} minutes for everlong corpus and everlong train recipes/quickstart in "
            "an empty folder, tokenizer and all but the kernels, which were built before; "
            f"{'every stage' if improved else 'NOT every stage'} improves its held-out "
            "loss: " + ", ".join(f"{first} {a:.3f} to {b:.3f}" for _, first, a, b in gains),
        ),
        "quickstart_loss_below_baseline": Measured(
            best["loss"] - ours,
            f"held-out loss of pre-training {ours:.3f}, of a plain GPT-2 of the same size, data "
            f"and time ({seconds:.0f} s) {best['loss']:.3f}, the best of: "
            + "; ".join(
                f"{one['sequences']} sequences a step at {one['rate']:g}: {one['loss']:.3f} after "
                f"{one['steps']:,} steps"
                for one in runs
            ),
        ),
    }, {"outcomes": told, "baseline": runs}


def _baseline(
    start: Start, seconds: float, sequences: int, rate: float, say: Say
) -> dict[str, Any]:
    """A plain GPT-2 after so many seconds of steps: its held-out loss, and how many they were."""
    config, length = start.config, 256
    torch.manual_seed(0)
    model = GPT2(config.vocab_size, config.hidden_size, config.num_layers, config.num_heads, length)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    shards = start.sources[0].shards
    documents = (shards.read(i, 0, shards.length(i)) for i in range(shards.documents))
    tokens = torch.cat([torch.from_numpy(one) for one in documents])
    spent, step = 0.0, 0
    while spent < seconds:
        began = time.perf_counter()
        done = spent / seconds
        for group in optimizer.param_groups:  # cosine with a warm-up of 2 %, over the time
            warm = min(1.0, max(done / 0.02, 0.02))
            group["lr"] = rate * warm * (0.55 + 0.45 * math.cos(math.pi * done))
        loss = plain_step(model, optimizer, tokens, sequences, length)
        spent += time.perf_counter() - began
        step += 1
        if step % 100 == 0:
            say(f"GPT-2, {sequences} sequences at {rate:g}: step {step}, loss {loss:.3f}")

    def held_out(batch: TokenBatch) -> torch.Tensor:
        at, total = 0, torch.zeros(())
        for size in batch.lengths:
            own = slice(at, at + size)
            at += size
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch.tokens[own][None])[0]
            total += cross_entropy(
                logits.float(), batch.targets[own], ignore_index=NOT_LEARNED, reduction="sum"
            )
        return total

    found = HeldOut(start.held_out, 32768, length).losses(held_out)
    loss = found[start.held_out[0].name]
    say(f"GPT-2, {sequences} sequences at {rate:g}: {step} steps, held out {loss:.3f}")
    tokens = step * sequences * length
    return {"sequences": sequences, "rate": rate, "loss": loss, "steps": step, "tokens": tokens}
