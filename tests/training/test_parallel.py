"""Runs that several processes share, started by torchrun as people start them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from everlong.config import format_config
from everlong.errors import ConfigError
from everlong.training.models import open_run
from everlong.training.parallel import Ranks
from everlong.training.recipe import ModelSource, Recipe
from everlong.training.run_files import read_lines
from everlong.training.trainer import Trainer
from tests.home import own_home
from tests.training.small import recipe, weights


def shared(given: Recipe, ranks: int, *options: str) -> str:
    """What ``everlong train`` in so many processes prints."""
    path = given.run.parent / f"{given.run.name}.yaml"
    path.write_text(format_config(given))
    return torchrun(path, given.run.parent / "home", ranks, *options)


def torchrun(recipe: Path, home: Path, ranks: int, *options: str) -> str:
    """What ``everlong train`` in so many processes prints."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={ranks}", "-m", "everlong.cli", "train", str(recipe), *options),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "EVERLONG_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("ranks", "sharding"), [(4, "replicated"), (2, "divided")])
def test_processes_compute_what_one_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranks: int,
    sharding: Literal["replicated", "divided"],
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    (phase,) = recipe(tmp_path).phases
    phases = (replace(phase, steps=7), replace(phase, steps=5, layers=3, heads=6))
    alone = recipe(tmp_path, precision="float32", phases=phases)
    Trainer(alone).run()
    together = replace(alone, run=tmp_path / "together", sharding=sharding)
    told = shared(together, ranks)
    assert told.count("finished after 12 of 12 steps") == 1
    one, other = weights(alone.run, 12), weights(together.run, 12)
    assert one.keys() == other.keys()
    for name in one:
        # Steps of 3e-3, whose signs rounding decides where gradients are next to nothing.
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=5e-5)
    files = [given.run / "ledger.jsonl" for given in (alone, together)]
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = [*read_lines(together.run / "metrics.jsonl")]
    expected = [*read_lines(alone.run / "metrics.jsonl")]
    for line, wanted in zip(lines, expected, strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-4)
        assert line["tokens"] == wanted["tokens"]
        assert line["flops"] == wanted["flops"]
        assert 0 <= line["imbalance"] < 0.5


def test_stages_follow_one_another_in_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    first = recipe(tmp_path, run=tmp_path / "first")
    second = replace(first, run=tmp_path / "second", model=ModelSource(str(first.run)))
    (tmp_path / "stages").mkdir()
    for name, given in (("1-first", first), ("2-second", second)):
        (tmp_path / "stages" / f"{name}.yaml").write_text(format_config(given))
    told = torchrun(tmp_path / "stages", tmp_path / "home", 2)
    assert told.count("finished after 12 of 12 steps") == 2
    assert torchrun(tmp_path / "stages", tmp_path / "home", 2, "--resume").count("done before") == 2
    assert open_run(second.run).step == 12


@pytest.mark.parametrize("sharding", ["divided", "replicated"])
def test_a_run_goes_on_in_another_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharding: Literal["replicated", "divided"]
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    phase = replace(recipe(tmp_path).phases[0], steps=9)
    whole = recipe(tmp_path, precision="float32", phases=(phase,), sharding=sharding)
    Trainer(whole).run()
    parts = replace(whole, run=tmp_path / "parts")
    trainer = Trainer(parts)
    trainer.run(tell=lambda step: setattr(trainer, "_stop", step.number == 2))
    shared(parts, 2, "--resume")
    one, other = weights(whole.run, 9), weights(parts.run, 9)
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)
    # Nothing was lost, and nothing seen twice.
    assert (whole.run / "ledger.jsonl").read_bytes() == (parts.run / "ledger.jsonl").read_bytes()


def test_steps_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sequences \(8\) must be a multiple of 3 processes"):
        Trainer(recipe(tmp_path), ranks=Ranks(0, 3))
    with pytest.raises(ConfigError, match="2 processes times 8 micro_sequences"):
        Trainer(recipe(tmp_path, micro_sequences=8), ranks=Ranks(1, 2))
