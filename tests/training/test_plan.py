from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.cli import main
from everlong.errors import ConfigError
from everlong.model.cost import parameters, training_flops
from everlong.training.plan import DEVICES, SCHEMES, plan
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


def test_sharding_divides_what_is_kept(tmp_path: Path) -> None:
    worked = plan(recipe(tmp_path), (SHAPE,), DEVICES["A100"], 8)
    total = parameters(SHAPE).total
    memory = [worked.memory(scheme) for scheme in SCHEMES]
    differences = [a - b for a, b in itertools.pairwise(memory)]
    assert differences == pytest.approx([7 / 8 * size * total for size in (12, 4, 2)])


def test_the_specification_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", FULL, "--tokens", "100T", "--devices", "4096xH100"]) == 0
    told = capsys.readouterr().out
    assert "| 100 T |" not in told
    assert "4,096 x H100: " in told
    assert "years" in told or "days" in told
    assert told.count("does not fit") >= 1
    assert "assumed: 989 T operations a second and device, of which 40% are reached" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tokens", "many"], "tokens is a number such as 300M"),
        (["--devices", "8xAbacus"], "devices are a number of A100, H100"),
        (["--devices", "0xH100"], "1 device or more"),
        (["--share", "1.5"], "a share of the peak above 0 and up to 1"),
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
