"""Runs of ``everlong`` in processes of their own, as a user starts them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from everlong.config import format_config
from everlong.files import atomic_write
from everlong.training.recipe import Recipe
from everlong.training.run_files import RECIPE, outcome_of


def everlong(*command: str) -> None:
    """Run a command; what it says besides errors is not shown.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(
        [sys.executable, "-m", "everlong.cli", *command], check=True, stdout=subprocess.DEVNULL
    )


def train(recipe: Recipe, run: Path) -> dict[str, Any]:
    """Train in a folder; a run that is there goes on, one that is done is not done again.

    Returns:
        How it ended, see :func:`everlong.training.run_files.outcome_of`.
    """
    done = outcome_of(run)
    if done is None or done["why"] == "stopped":
        run.parent.mkdir(parents=True, exist_ok=True)
        path = run.with_name(f"{run.name}.yaml")
        atomic_write(path, format_config(replace(recipe, run=run)).encode())
        everlong("train", str(path), *(["--resume"] if (run / RECIPE).exists() else []))
        done = outcome_of(run)
        assert done is not None
    return done
