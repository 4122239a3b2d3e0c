"""Proof that a run goes on exactly where it was: one that is killed beside one that is not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from everlong.config import format_config
from everlong.errors import CheckpointError
from everlong.files import atomic_write
from everlong.training.checkpoints import path_of, read_tensors
from everlong.training.recipe import Phase, Recipe
from everlong.training.run_files import CHECKPOINTS, LEDGER, METRICS, RECIPE, read_lines

_POLL = 0.005
"""Seconds between looks at how far a run is."""


@dataclass(frozen=True)
class Resumed:
    """What came out."""

    kills: int
    steps: int
    numbers: int
    """In the last checkpoints: weights and what optimizers remember."""
    different_bits: int
    """Between the two."""
    same_ledger: bool
    """Whether both saw the same documents in every step."""
    same_losses: bool
    """Whether every step had the same loss, to the last bit."""

    @property
    def equal(self) -> bool:
        """Whether nothing tells the two runs apart."""
        return not self.different_bits and self.same_ledger and self.same_losses


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """A recipe of fewer steps, each phase with its share of them and at least one."""
    if steps >= recipe.steps:
        return recipe

    def shorter(phase: Phase) -> Phase:
        count = max(1, phase.steps * steps // recipe.steps)
        warmup = phase.schedule.warmup * count // phase.steps
        return replace(phase, steps=count, schedule=replace(phase.schedule, warmup=warmup))

    return replace(recipe, phases=tuple(map(shorter, recipe.phases)))


def kill_and_compare(
    recipe: Recipe,
    folder: Path,
    kills: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Resumed:
    """Run a recipe twice in processes of their own, one of them killed at random moments.

    Args:
        recipe: both runs write into ``folder``, whatever it names.
        folder: a new one.
        kills: with SIGKILL, at moments spread over the run.
        seed: of these moments.
        say: told how far it is.

    Raises:
        CheckpointError: a run failed by itself.
    """
    # All steps are run: an early stop would leave nothing to compare at the end.
    recipe = replace(recipe, validation=replace(recipe.validation, patience=None))
    whole, killed = (replace(recipe, run=folder / name) for name in ("whole", "killed"))
    for one in (whole, killed):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / f"{one.run.name}.yaml", format_config(one).encode())
    say(f"a run of {recipe.steps:,} steps that nobody disturbs")
    _finish(_started(whole, folder), _log(whole, folder))
    draw = random.Random(seed)
    # Not in the last step, which may be over before the kill.
    moments = sorted(draw.uniform(0, recipe.steps - 1) for _ in range(kills))
    for number, moment in enumerate(moments, start=1):
        before = _changed(killed.run)
        process = _started(killed, folder)
        _wait_until(process, killed.run, moment, before)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            said = _last_words(_log(killed, folder))
            raise CheckpointError(f"a run ended by itself before kill {number} of {kills}: {said}")
        say(f"killed {number} of {kills}, after {_steps(killed.run):,} steps")
    _finish(_started(killed, folder), _log(killed, folder))
    ends = [read_tensors(path_of(one.run / CHECKPOINTS, recipe.steps)) for one in (whole, killed)]
    assert ends[0].keys() == ends[1].keys(), "both are of one recipe"
    ledgers, losses = ([_column(one.run, *what) for one in (whole, killed)] for what in _COMPARED)
    return Resumed(
        kills,
        recipe.steps,
        sum(one.numel() for one in ends[0].values()),
        sum(_different_bits(ends[0][name], ends[1][name]) for name in ends[0]),
        ledgers[0] == ledgers[1],
        losses[0] == losses[1],
    )


_COMPARED = ((LEDGER, "sequences"), (METRICS, "loss"))


def _column(run: Path, file: str, field: str) -> list[object]:
    return [line[field] for line in read_lines(run / file)]


def _different_bits(one: torch.Tensor, other: torch.Tensor) -> int:
    a, b = (x.contiguous().view(-1).view(torch.uint8) for x in (one, other))
    changed = a ^ b
    return sum(int((changed >> bit & 1).sum()) for bit in range(8))


def _started(recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
    command: Sequence[str | Path] = (
        *(sys.executable, "-m", "everlong.cli", "train", folder / f"{recipe.run.name}.yaml"),
        *(("--resume",) if (recipe.run / RECIPE).exists() else ()),
    )
    with _log(recipe, folder).open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ
        )


def _finish(process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if status:
        raise CheckpointError(f"a run failed with status {status}: {_last_words(log)}")


def _log(recipe: Recipe, folder: Path) -> Path:
    return folder / f"{recipe.run.name}.log"


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text("utf-8", "replace").strip().splitlines()[-3:])


def _wait_until(
    process: subprocess.Popen[bytes], run: Path, moment: float, changed: int | None
) -> None:
    """Until a run is at a moment, in steps: its whole ones by its metrics, the rest by time.

    Until a run that goes on has written metrics, they are those of the one before it.
    """
    began, before, each = time.monotonic(), -1, 0.0
    try:
        while process.poll() is None:
            done = -1 if _changed(run) == changed else _steps(run)
            if done != before:
                now = time.monotonic()
                if before >= 0:
                    each = (now - began) / (done - before)
                began, before = now, done
            if done >= int(moment) and time.monotonic() - began >= (moment % 1) * each:
                return
            time.sleep(_POLL)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _steps(run: Path) -> int:
    """That a run has told of."""
    path = run / METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _changed(run: Path) -> int | None:
    """When a run last wrote metrics, in ns."""
    path = run / METRICS
    return path.stat().st_mtime_ns if path.exists() else None
