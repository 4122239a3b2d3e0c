"""Runs of ``everlong`` in processes of their own, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from everlong.config import format_config
from everlong.evaluation.provenance import commit, cores
from everlong.files import atomic_write
from everlong.training.recipe import Recipe
from everlong.training.run_files import RECIPE, outcome_of
from everlong.training.same_run import check_recipe


def everlong(*command: str) -> None:
    """Run a command; what it says besides errors is not shown.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(
        [sys.executable, "-m", "everlong.cli", *command], check=True, stdout=subprocess.DEVNULL
    )


def write_lines(path: Path, lines: Iterable[Mapping[str, str]]) -> None:
    """Write a corpus of JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")


def train(recipe: Recipe, run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train in a folder; a run that is there goes on, one that is done is not done again.

    Returns:
        How it ended, see :func:`everlong.training.run_files.outcome_of`; and by which ``commit``
        and how many ``threads`` it began.

    Raises:
        ConfigError: the run in the folder is of another recipe.
        KeyboardInterrupt: the run was stopped before its end.
    """
    recipe, done = replace(recipe, run=run), outcome_of(run)
    resume, note = (run / RECIPE).exists(), run.with_name(f"{run.name}.json")
    if resume:
        check_recipe(recipe)
    if done is None or done["why"] == "stopped":
        run.parent.mkdir(parents=True, exist_ok=True)
        path = run.with_name(f"{run.name}.yaml")
        atomic_write(path, format_config(recipe).encode())
        if not resume:
            threads = int(os.environ.get("OMP_NUM_THREADS", cores()))
            atomic_write(note, json.dumps({"commit": commit(), "threads": threads}).encode())
        everlong("train", str(path), *(["--resume"] if resume else []))
        done = outcome_of(run)
        assert done is not None
        if done["why"] == "stopped":  # by Ctrl-C: what is to come must not build on it
            raise KeyboardInterrupt(f"{run} is not done; the same command goes on")
    return done, json.loads(note.read_bytes())
