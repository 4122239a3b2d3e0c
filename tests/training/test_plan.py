from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.cli import main
from everlong.errors import ConfigError
from everlong.model.adapters import LoraConfig
from everlong.model.cost import parameters, training_flops
from everlong.training.checkpoints import path_of, read_tensors
from everlong.training.optimizers import OptimizerConfig
from everlong.training.plan import DEVICES, SCHEMES, plan
from everlong.training.recipe import ModelSource
from everlong.training.trainer import Trainer
from tests.training.small import SHAPE, recipe

FULL = str(Path(__file__).parents[2] / "recipes" / "spec-full.yaml")


def test_phases_add_up(tmp_path: Path) -> None:
    first = recipe(tmp_path).phases[0]
    given = recipe(tmp_path, phases=(first, replace(first, steps=6, sequence_length=64)))
    worked = plan(given, (SHAPE, SHAPE), DEVICES["H100"], 2, share=0.5)
    assert worked.tokens == 12 * 8 * 32 + 6 * 8 * 64
    flops = 12 * 8 * training_flops(SHAPE, 32) + 6 * 8 * training_flops(SHAPE, 64)
    assert worked.flops == pytest.approx(flops)
    assert worked.seconds == pytest.approx(flops / 989e12)
    assert worked.dollars == pytest.approx(worked.seconds / 3600 * 2 * 2.5)
    assert worked.micro_tokens == 4 * 64
    more = plan(given, (SHAPE, SHAPE), DEVICES["H100"], 2, share=0.5, tokens=10 * worked.tokens)
    assert more.flops == pytest.approx(10 * flops)
    again = plan(replace(given, recompute=True), (SHAPE, SHAPE), DEVICES["H100"], 2, share=0.5)
    assert again.seconds == pytest.approx(worked.seconds * 4 / 3)


def test_a_plan_has_what_a_checkpoint_has(tmp_path: Path) -> None:
    """With an adapter, an average, and an optimizer that remembers less."""
    base = recipe(tmp_path, run=tmp_path / "base")
    Trainer(base).run()
    adapted = recipe(
        tmp_path,
        run=tmp_path / "adapted",
        model=ModelSource(checkpoint=str(tmp_path / "base")),
        adapter=LoraConfig(rank=4),
        average=0.9,
    )
    Trainer(adapted).run()
    less = recipe(tmp_path, run=tmp_path / "less", optimizer=OptimizerConfig(kind="muon"))
    Trainer(less).run()
    for given in (base, adapted, less):
        tensors = read_tensors(path_of(given.run / "checkpoints", 12))
        kept = sum(one.nbytes for name, one in tensors.items() if not name.endswith(".step"))
        assert plan(given, (SHAPE,), DEVICES["H100"], 1).checkpoint_bytes == kept
    whole, part = (plan(given, (SHAPE,), DEVICES["H100"], 1).flops for given in (base, adapted))
    assert part == pytest.approx(2 / 3 * whole)


def test_sharding_divides_what_is_kept(tmp_path: Path) -> None:
    worked = plan(recipe(tmp_path), (SHAPE,), DEVICES["A100"], 8)
    total = parameters(SHAPE).total
    memory = [worked.memory(scheme) for scheme in SCHEMES]
    differences = [a - b for a, b in itertools.pairwise(memory)]
    assert differences == pytest.approx([7 / 8 * size * total for size in (12, 4, 2)])


def test_the_specification_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", FULL, "--tokens", "100T", "--devices", "4096xH100"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"4,096 x H100: [\d,.]+ days", told)
    assert told.count("does not fit") >= 1
    assert "assumed: 989 T operations a second and device, of which 40% are reached" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tokens", "many"], "tokens is a number such as 300M"),
        (["--devices", "8xAbacus"], "devices are a number of A100, H100"),
        (["--devices", "0xH100"], "1 device or more"),
        (["--share", "1.5"], "a share of the peak from 0.001 to 1"),
    ],
)
def test_what_cannot_be_planned(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", FULL, *options]) == 2
    assert told in capsys.readouterr().err


def test_tokens_are_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        plan(recipe(tmp_path), (SHAPE,), DEVICES["H100"], 1, tokens=0)
