"""The training benchmark: every claim is printed, and all loops train the same model alike."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.plain_llama import Llama
from benchmarks.training import GOALS, SMALL, main
from benchmarks.training_loops import LOOPS
from everlong.evaluation.provenance import ROOT
from everlong.model.config import ModelConfig
from everlong.model.cost import parameters
from tests.training.small import SHAPE, text, tokenizer


def test_every_claim_that_was_asked_for_is_printed() -> None:
    path = ROOT.parent / "shared" / "claims.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    asked = json.loads(path.read_text())["training"]
    assert {name: [g.operator, g.value, g.unit] for name, g in GOALS.items()} == asked


def test_the_plain_model_has_as_many_parameters() -> None:
    plain = sum(one.numel() for one in Llama(**SMALL).parameters())
    assert plain == parameters(ModelConfig(**SMALL)).total


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_does_its_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "transformers Trainer":
        pytest.importorskip("accelerate")
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    tokenizer().save(tmp_path)
    (tmp_path / "text.txt").write_text(text(0))
    shape = {field: getattr(SHAPE, field) for field in SMALL}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = LOOPS[name](shape, str(tmp_path / "text.txt"), str(tmp_path), 4, 32).steps(3)
    finally:
        torch.set_num_threads(threads)
    assert len(times) == 3
    assert times == sorted(times)


def test_loops_are_timed_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("benchmarks.training.SMALL", {f: getattr(SHAPE, f) for f in SMALL})
    monkeypatch.setattr("benchmarks.training.find_interpreter", lambda *_: None)
    tokenizer().save(tmp_path)
    (tmp_path / "text.txt").write_text(text(0))
    few = ["--rounds", "2", "--steps", "1", "--sequences", "2", "--length", "16", "--threads", "1"]
    assert (
        main(["--json", "--text", str(tmp_path / "text.txt"), "--tokenizer", str(tmp_path), *few])
        == 0
    )
    printed = capsys.readouterr()
    told = [
        line.split(":")[1].strip() for line in printed.err.splitlines() if line.startswith("round")
    ]
    assert told == ["everlong", "plain loop"] * 2
    claims = {c["name"]: c for c in json.loads(printed.out.splitlines()[-1])["claims"]}
    assert list(claims) == list(GOALS)
    assert claims["small_vs_plain_loop"]["value"] > 0
    assert "no interpreter has transformers" in claims["small_vs_transformers_trainer"]["detail"]
    assert claims["plan_error"]["detail"] == "not built yet"
