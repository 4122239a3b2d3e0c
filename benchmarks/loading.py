"""How long a model takes to load in a fresh process, and how much memory it then holds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contender import ask_once
from benchmarks.report import Measured
from benchmarks.rounds import Spread, spread

_COLD, _FIRST, _AGAIN = "cold", "first", "again"


def measure_loading(
    model: Path, weights: str, rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Load a model in fresh processes, ``rounds`` times with an empty cache folder and again.

    The compiled kernels are in the cache folder from the start, since installing builds them. The
    model file is in the system's page cache, as it is after it was pulled; what it takes to read
    it from the disk, where the system can be made to forget it, is told in the detail.

    Args:
        model: a GGUF file or folder.
        weights: as ``everlong.load`` takes it.

    Returns:
        The claims ``load_first``, ``load_again`` and ``rss_over_import_per_weight_byte``, and the
        single measurements.
    """
    from everlong.files import cache_dir

    runs: dict[str, list[dict[str, Any]]] = {_COLD: [], _FIRST: [], _AGAIN: []}
    for number in range(rounds + 1):  # the first only fills caches of the system
        with tempfile.TemporaryDirectory() as scratch:
            used, empty = Path(scratch, "used"), Path(scratch, "empty")
            for home in (used, empty):
                home.mkdir()
                if (kernels := cache_dir() / "native").is_dir():
                    shutil.copytree(kernels, home / "native")
            for kind, home in ((_COLD, empty), (_FIRST, used), (_AGAIN, used)):
                if kind == _COLD and not _forget_pages(model):
                    continue
                run = ask_once(
                    "benchmarks.load_once",
                    str(model.resolve()),
                    weights,
                    environment={"EVERLONG_HOME": str(home)},
                )
                if number:
                    runs[kind].append(run)
        say(f"loading, round {number} of {rounds}: again in {run['load_seconds']:.2f} s")
    return _claims(runs), runs


def _forget_pages(model: Path) -> bool:
    """Drop a file from the system's page cache; False where that cannot be asked for."""
    if not model.is_file() or not hasattr(os, "posix_fadvise"):
        return False
    with model.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _claims(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Measured]:
    def of(kind: str, name: str) -> Spread:
        return spread([run[name] for run in runs[kind]])

    def seconds(kind: str) -> Measured:
        load, token = of(kind, "load_seconds"), of(kind, "first_token_seconds")
        return Measured(
            load.median,
            f"everlong.load in {load.count} fresh processes, {load.low:.3g} to {load.high:.3g} s; "
            f"the first token {token.median:.2g} s after that, the import "
            f"{of(kind, 'import_seconds').median:.2g} s before it",
        )

    first = seconds(_FIRST)
    if runs[_COLD]:
        cold = of(_COLD, "load_seconds").median
        first = Measured(first.value, f"{first.detail}; {cold:.3g} s with the file on disk only")
    everything = [run for kind in runs.values() for run in kind]
    shares = spread(
        [(r["resident"] - r["resident_after_import"]) / r["weight_bytes"] for r in everything]
    )
    mega = 1e6
    middle = {key: spread([r[key] for r in everything]).median / mega for key in everything[0]}
    memory = Measured(
        shares.median,
        f"{shares.count} processes, {shares.low:.3g} to {shares.high:.3g}; weights "
        f"{middle['weight_bytes']:.0f} MB; resident {middle['resident_after_import']:.0f} MB after "
        f"the import, {middle['resident']:.0f} MB after loading and one token (at most "
        f"{middle['resident_peak']:.0f} MB while loading), of which "
        f"{middle['resident_of_model_file']:.0f} MB are pages of the model file",
    )
    return {
        "load_first": first,
        "load_again": seconds(_AGAIN),
        "rss_over_import_per_weight_byte": memory,
    }
