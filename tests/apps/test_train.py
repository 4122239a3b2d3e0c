from __future__ import annotations

import shlex
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everlong.checkpoint.adapter import read_adapter
from everlong.checkpoint.loading import open_model
from everlong.cli import main
from everlong.cli.program import build_parser
from everlong.cli.spelling import as_parsed
from everlong.cli.table import COMMANDS
from everlong.config import format_config
from everlong.model.adapters import LoraConfig, adapted
from everlong.training.models import open_dense, open_run
from everlong.training.recipe import ModelSource, Recipe
from everlong.training.run_files import outcome_of
from everlong.training.start import built
from everlong.training.trainer import Trainer
from tests.home import own_home
from tests.training.small import recipe, weights


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def written(given: Recipe, path: Path) -> str:
    path.write_text(format_config(given))
    return str(path)


def parsed(told: str) -> list[str]:
    """Names of the commands that a run tells at its end, read as the program reads them."""
    (line,) = (one for one in told.splitlines() if one.startswith("use it: "))
    commands = [shlex.split(one) for one in line.removeprefix("use it: ").split(" && ")]
    assert all(one[0] == "everlong" for one in commands)
    return [build_parser().parse_args(as_parsed(one[1:], COMMANDS)).command for one in commands]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "not enough memory"),
        (MemoryError(), "not enough memory"),
        (OSError(28, "No space left on device"), "No space left on device; checkpoints"),
    ],
)
def test_what_ends_a_run_is_told_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: str,
) -> None:
    def fails(self: Trainer, *given: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "run", fails)
    path = written(recipe(tmp_path), tmp_path / "recipe.yaml")
    assert main(["train", path]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert f"everlong train {path} --resume" in said
    monkeypatch.setattr(Trainer, "run", lambda self, *given: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", path])


def test_a_model_of_an_earlier_step_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = recipe(tmp_path)
    assert main(["train", written(given, tmp_path / "recipe.yaml")]) == 0
    into = str(tmp_path / "hf")
    assert main(["convert", str(given.run), into, "--dtype", "float32", "--step", "8"]) == 0
    ours = open_dense(into).weights["embed_tokens.weight"]
    assert torch.equal(ours, weights(given.run, 8)["model.embed_tokens.weight"])
    assert main(["convert", str(given.run), str(tmp_path / "other"), "--step", "7"]) == 2
    assert "has no checkpoint 7; there are: 8, 12" in capsys.readouterr().err
    assert main(["convert", into, str(tmp_path / "other"), "--step", "8"]) == 2
    assert "is no run of everlong train" in capsys.readouterr().err


def test_train_convert_and_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = recipe(tmp_path, average=0.5)
    path = written(given, tmp_path / "recipe.yaml")
    assert main(["train", path]) == 0
    told = capsys.readouterr()
    assert "finished after 12 of 12 steps; held-out loss: held out" in told.out
    assert "after step 5: held-out loss" in told.err
    assert parsed(told.out) == ["convert", "chat"]
    assert main(["convert", str(given.run), str(tmp_path / "hf"), "--dtype", "float32"]) == 0
    trained = open_run(given.run).model
    tokens = trained.tokenizer.encode("1 2 3 4 5")
    ours = open_model(str(tmp_path / "hf"), "float32")
    expected = built(trained.config, trained.weights)(torch.tensor([tokens]))
    assert ours.tokenizer.encode("1 2 3 4 5") == tokens
    torch.testing.assert_close(ours.model(torch.tensor([tokens])), expected)
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        found = theirs(torch.tensor([tokens])).logits
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)
    assert main(["generate", "1 2 3", "--model", str(tmp_path / "hf"), "--max-tokens", "3"]) == 0


def test_a_run_begins_with_the_model_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = recipe(tmp_path)
    assert main(["train", written(first, tmp_path / "first.yaml")]) == 0
    second = replace(first, run=tmp_path / "second", model=ModelSource(checkpoint=str(first.run)))
    assert main(["train", written(second, tmp_path / "second.yaml")]) == 0
    before, after = (open_run(run).model.weights for run in (first.run, second.run))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_stages_follow_one_another_and_are_not_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = tmp_path / "stages"
    stages.mkdir()
    first = recipe(tmp_path)
    second = replace(first, run=tmp_path / "second", model=ModelSource(checkpoint=str(first.run)))
    written(first, stages / "1-first.yaml")
    written(second, stages / "2-second.yaml")
    assert main(["train", str(stages)]) == 0
    told = capsys.readouterr().out
    assert told.index("1-first:") < told.index("2-second:")
    ended, began = outcome_of(first.run), outcome_of(second.run)
    assert ended is not None
    assert began is not None
    assert ended["before"]["held out"] > ended["validation"]["held out"]
    assert began["before"]["held out"] == pytest.approx(ended["validation"]["held out"], abs=1e-3)
    (second.run / "outcome.json").unlink()  # as if it had been killed before its end
    assert main(["train", str(stages), "--resume"]) == 0
    told = capsys.readouterr().out
    assert "1-first: done before" in told
    assert "2-second:\nfinished after 12 of 12 steps" in told
    again = (stages / "1-first.yaml").read_text()
    written(replace(first, seed=5), stages / "1-first.yaml")
    assert main(["train", str(stages), "--resume"]) == 2
    assert "is of another recipe (recipe.yaml): seed differ" in capsys.readouterr().err
    (stages / "1-first.yaml").write_text(again)
    assert main(["train", str(stages), "--run", "elsewhere"]) == 2
    assert "leave out --run" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "texts")]) == 2
    assert "has no recipes" in capsys.readouterr().err


def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = recipe(tmp_path)
    path = written(given, tmp_path / "recipe.yaml")
    assert main(["train", path, "--resume"]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["train", path, "--run", str(tmp_path / "elsewhere")]) == 0
    assert not given.run.exists()
    assert main(["train", path, "--run", str(tmp_path / "elsewhere")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "holds a run already; go on with it by --resume" in error
    (tmp_path / "wrong.yaml").write_text("phases: []\nmodle: 1\n")
    assert main(["train", str(tmp_path / "wrong.yaml")]) == 2
    assert "modle is unknown; did you mean model?" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "elsewhere"), str(tmp_path / "texts")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_adapter_is_trained_and_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = recipe(tmp_path)
    assert main(["train", written(first, tmp_path / "first.yaml")]) == 0
    assert main(["convert", str(first.run), str(tmp_path / "base"), "--dtype", "float32"]) == 0
    second = replace(
        first,
        run=tmp_path / "second",
        model=ModelSource(checkpoint=str(tmp_path / "base")),
        adapter=LoraConfig(rank=4, alpha=8.0, layers=("q_proj", "down_proj")),
        average=0.5,
    )
    capsys.readouterr()
    assert main(["train", written(second, tmp_path / "second.yaml")]) == 0
    assert parsed(capsys.readouterr().out) == ["convert", "serve"]
    kept = weights(second.run, 12)
    assert not any("embed" in name or ".base." in name for name in kept)
    assert main(["convert", str(second.run), str(tmp_path / "adapter")]) == 0
    trained = open_run(second.run)
    tokens = torch.tensor([trained.model.tokenizer.encode("1 2 3 4 5")])
    expected = built(trained.model.config, trained.model.weights)(tokens)
    base = open_model(str(tmp_path / "base"), "float32").model
    with torch.no_grad():
        served = adapted(base, read_adapter(tmp_path / "adapter"))(tokens)
        assert not torch.allclose(base(tokens), served, atol=1e-3)
    torch.testing.assert_close(served, expected.detach(), rtol=1e-4, atol=1e-4)
    _with_peft(tmp_path, tokens, expected.detach())
    shutil.rmtree(first.run)
    assert main(["train", written(replace(first, seed=7), tmp_path / "first.yaml")]) == 0
    shutil.rmtree(tmp_path / "base")
    assert main(["convert", str(first.run), str(tmp_path / "base"), "--dtype", "float32"]) == 0
    capsys.readouterr()
    for command in (
        ["train", str(tmp_path / "second.yaml"), "--resume"],
        ["convert", str(second.run), str(tmp_path / "again")],
    ):
        assert main(command) == 2
    told = capsys.readouterr().err
    assert f"began: model {tmp_path / 'base'}; bring it back" in told
    assert "whose weights are others now" in told


def _with_peft(folder: Path, tokens: torch.Tensor, expected: torch.Tensor) -> None:
    """What peft loads computes the same."""
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft asks of this transformers
        theirs = peft.PeftModel.from_pretrained(theirs, folder / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, expected, rtol=1e-4, atol=1e-4)
