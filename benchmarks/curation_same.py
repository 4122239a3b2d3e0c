"""Whether curation gives the same bytes however it is run, and however often it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import Measured
from everlong.config import parse_config, to_plain
from everlong.curation.pipeline import TASKS
from everlong.curation.recipe import Curation

CLAIM = "bytes_differing_between_runs"
_RECIPE = """
run: .
sources:
  - {name: books, paths: [BOOKS], licence: CC0-1.0}
  - {name: pages, paths: [PAGES], licence: CC-BY-4.0}
task_bytes: 524288
steps:
  - kind: exact_duplicates
  - kind: language
    keep: [en, de, fr]
  - kind: gopher_repetition
  - kind: fineweb_quality
  - kind: hard_blocks
  - kind: toxicity
  - kind: personal_data
  - kind: near_duplicates
tokens: {tokenizer: smollm2-135m}
"""
_KILLS = 20
"""That the claim needs."""
_LONGEST_SECONDS = 900.0


def measure(
    data: Path, kills: int, ray: bool, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Run one recipe with 1, 2 and 4 processes, on Ray, and killed again and again.

    Args:
        data: folder of the public data.
        kills: times that the last run is killed, with all its processes, at random moments.
        ray: whether ray is installed, and shall be used.
        seed: of the moments.
        say: told how far it is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        written = _RECIPE.replace("BOOKS", str(data / "books" / "*.txt.gz"))
        recipe = parse_config(Curation, written.replace("PAGES", str(data / "tldr")))
        ways = {"1 process": ["--workers=1"], "2": ["--workers=2"], "4": ["--workers=4"]}
        if ray:
            ways["Ray"] = ["--workers=2", "--executor=ray"]
        made: dict[str, set[str]] = {}
        seconds: dict[str, float] = {}
        for name, options in ways.items():
            path = _written(recipe, folder / f"run {name}")
            began = time.monotonic()
            subprocess.run(_command(path, *options), check=True, capture_output=True)
            seconds[name] = time.monotonic() - began
            made[name] = _made(folder / f"run {name}")
            say(f"{name}: {seconds[name]:.0f} s, {len(made[name])} files")
        run = folder / "run killed"
        done = _killed(_written(recipe, run), run, kills, seconds["2"], seed)
        made["killed"] = _made(run)
        say(f"killed {done} times")
        differ = {
            name: sum(
                _differing(folder / "run 1 process" / file, folder / f"run {name}" / file)
                for file in made["1 process"] | files
            )
            for name, files in made.items()
        }
    total = sum(differ.values())
    files = len(made["1 process"])
    return {
        CLAIM: Measured(
            total if ray and done >= _KILLS and files else None,
            f"{total} bytes; {files} files of documents, kept and dropped, of shards and counts by "
            f"1, 2 and 4 processes{', on Ray' if ray else ''} and killed {done} times at random "
            f"moments, {len(recipe.steps)} steps on books and manual pages"
            + ("" if ray else "; Ray is not installed"),
        )
    }, {"differ": differ, "seconds": seconds, "kills": done}


def _made(run: Path) -> set[str]:
    """Names of the files that are to be the same, wherever a run is."""
    found = {
        path for name in ("documents", "dropped", "tokens") for path in (run / name).rglob("*")
    }
    files = {path for path in found if path.is_file() and path.suffix != ".yaml"}
    return {path.relative_to(run).as_posix() for path in files | {run / "counts.json"}}


def _written(recipe: Curation, run: Path) -> Path:
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(to_plain(replace(recipe, run=run))), encoding="utf-8")
    return path


def _command(recipe: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "everlong.cli", "curate", str(recipe), *options]


def _killed(recipe: Path, run: Path, kills: int, whole: float, seed: int) -> int:
    """Run a recipe that is killed again and again; returns how often it was."""
    chance, done = random.Random(seed), 0
    while True:
        begun = (run / TASKS).exists()
        process = subprocess.Popen(
            _command(recipe, "--workers", "2", *(("--resume",) if begun else ())),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Long enough that something is done between two kills, so that it ends at all.
        limit = chance.uniform(1, max(3, whole / 3)) if done < kills else _LONGEST_SECONDS
        try:
            if process.wait(timeout=limit):
                raise RuntimeError(f"the run ended with status {process.returncode}")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            continue
        if done >= kills:
            return done
        for path in sorted(run.rglob("*"), reverse=True):  # it was done too soon: once more
            path.rmdir() if path.is_dir() else path.unlink()


def _differing(one: Path, other: Path) -> int:
    """Bytes that are not the same."""
    first, second = (path.read_bytes() if path.is_file() else b"" for path in (one, other))
    if first == second:
        return 0
    same = sum(map(lambda a, b: a == b, first, second))
    return max(len(first), len(second)) - same
