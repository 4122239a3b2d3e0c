"""The training benchmark: every claim is printed, and all loops train the same model alike."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.own_runs import train
from benchmarks.plain_llama import Llama
from benchmarks.training import _PARTS, GOALS, main
from benchmarks.training_depth import FLAT, DeepRuns, unrecovered
from benchmarks.training_loops import LOOPS
from benchmarks.training_speed import SMALL
from everlong.config import load_config
from everlong.evaluation.provenance import ROOT
from everlong.model.config import ModelConfig, ResidualKind
from everlong.model.cost import parameters
from everlong.model.transformer import Transformer
from everlong.training.recipe import Recipe
from everlong.training.trainer import Trainer
from tests.home import own_home
from tests.training.small import SHAPE, text, tokenizer
from tests.training.small import recipe as small_recipe


def test_every_claim_that_was_asked_for_is_printed() -> None:
    path = ROOT.parent / "shared" / "claims.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    asked = json.loads(path.read_text())["training"]
    assert {name: [g.operator, g.value, g.unit] for name, g in GOALS.items()} == asked


def test_every_claim_has_its_part() -> None:
    assert sorted(claim for claims in _PARTS.values() for claim in claims) == sorted(GOALS)


@pytest.mark.parametrize("residual", ["pre", "scaled"])
def test_the_plain_model_is_the_same(residual: ResidualKind) -> None:
    plain = sum(one.numel() for one in Llama(**SMALL).parameters())
    assert plain == parameters(ModelConfig(**SMALL)).total
    shape = {field: getattr(SHAPE, field) for field in SMALL}
    torch.manual_seed(0)
    eps = torch.finfo(torch.float32).eps  # PyTorch's own, which a plain model takes as it is
    theirs = Llama(**shape, residual=residual)
    ours = Transformer(replace(SHAPE, residual=residual, norm_eps=eps))
    weights = {"embed_tokens.weight": theirs.embed.weight, "norm.weight": theirs.norm.weight}
    for number, block in enumerate(theirs.blocks):
        name = f"layers.{number}."
        sizes = [one * SHAPE.head_dim for one in (4, 2, 2)]
        heads = block.qkv.weight.split(sizes)
        for part, one in zip(("q", "k", "v"), heads, strict=True):
            weights[f"{name}self_attn.{part}_proj.weight"] = one
        weights[f"{name}self_attn.o_proj.weight"] = block.out.weight
        for part, one in zip(("gate", "up"), block.gate_up.weight.chunk(2), strict=True):
            weights[f"{name}mlp.{part}_proj.weight"] = one
        weights[f"{name}mlp.down_proj.weight"] = block.down.weight
        weights[f"{name}input_layernorm.weight"] = block.norm.weight
        weights[f"{name}post_attention_layernorm.weight"] = block.mlp_norm.weight
    ours.load_state_dict({**weights, "lm_head.weight": theirs.embed.weight})
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(theirs(tokens), ours(tokens), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FLAT)
def test_flat_models_are_as_large_as_the_deep_ones(name: str) -> None:
    recipe = load_config(Recipe, ROOT / "recipes" / f"{name}.yaml")
    assert recipe.model.shape is not None
    deep, flat = parameters(recipe.model.shape).total, parameters(FLAT[name]).total
    assert flat == pytest.approx(deep, rel=0.03)


@pytest.mark.parametrize(
    ("losses", "validations", "count"),
    [
        ([5.0] * 100, [5.0, 5.0], 0),
        ([5 - i / 50 for i in range(100)], [4.0, 3.0], 0),
        ([5.0] * 40 + [7.0] * 10 + [5.05] * 50, [5.0, 5.0], 0),
        ([5.0] * 40 + [7.0] * 60, [5.0, 5.0], 1),
        ([5.0] * 40 + [None] * 60, [5.0, 5.0], 1),
        ([5.0] * 98 + [7.0] * 2, [5.0, 7.0], 1),
        ([5.0] * 98 + [7.0] * 2, [5.0], 1),
        ([5.0] * 98 + [7.0] * 2, [5.0, 4.9], 0),
        ([9.0] * 10 + [5.0] * 90, [5.0, 5.0], 0),
        # One easy text among hard ones is no recovery.
        ([5.0] * 40 + ([7.0] * 9 + [5.0]) * 6, [5.0, 5.0], 1),
    ],
)
def test_spikes(losses: list[float | None], validations: list[float], count: int) -> None:
    assert min(1, unrecovered(losses, validations)) == count


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_does_its_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "transformers Trainer":
        pytest.importorskip("accelerate")
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    tokenizer().save(tmp_path)
    (tmp_path / "text.txt").write_text(text(0))
    monkeypatch.setattr(torch, "compile", lambda model: model)  # which takes half a minute
    shape = {field: getattr(SHAPE, field) for field in SMALL}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loop = LOOPS[name](str(tmp_path / "text.txt"), 4, 32, shape, str(tmp_path))
        times = loop.steps(3)["times"]
    finally:
        torch.set_num_threads(threads)
    assert len(times) == 3
    assert times == sorted(times)


def test_loops_are_timed_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    monkeypatch.setattr("benchmarks.training_speed.SMALL", {f: getattr(SHAPE, f) for f in SMALL})
    monkeypatch.setattr("benchmarks.training_speed.find_interpreter", lambda *_: None)
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    tokenizer().save(tmp_path)
    (tmp_path / "text.txt").write_text(text(0))
    few = [
        "--parts",
        "small",
        "--rounds",
        "2",
        "--steps",
        "1",
        "--sequences",
        "2",
        "--length",
        "16",
        "--threads",
        "1",
    ]
    assert (
        main(["--json", "--text", str(tmp_path / "text.txt"), "--model", str(tmp_path), *few]) == 0
    )
    printed = capsys.readouterr()
    told = [
        line.split(":")[1].strip() for line in printed.err.splitlines() if line.startswith("round")
    ]
    loops = ["everlong", "plain loop", "plain loop, compiled"]
    assert told == [*loops, *loops[1:], loops[0]]
    claims = {c["name"]: c for c in json.loads(printed.out.splitlines()[-1])["claims"]}
    assert list(claims) == list(GOALS)
    assert claims["small_vs_plain_loop"]["value"] > 0
    assert "no interpreter has what it needs" in claims["small_vs_transformers_trainer"]["detail"]
    assert claims["plan_error"]["detail"] == "not asked for in this run"


def test_deep_runs_of_earlier_results_count_if_their_recipe_is_the_same(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    told: list[str] = []
    first = DeepRuns(tmp_path / "first", (), told.append).run("norms", {"one": recipe})
    assert len(first["one"]["losses"]) == recipe.steps

    result = tmp_path / "result.json"
    result.write_text(json.dumps({"samples": {"norms": first}}))
    elsewhere = DeepRuns(tmp_path / "elsewhere", (result,), told.append)
    assert elsewhere.run("norms", {"one": recipe}) == first
    assert not (tmp_path / "elsewhere").exists()

    other = replace(recipe, seed=recipe.seed + 1)
    assert elsewhere.run("norms", {"one": other})["one"]["losses"] != first["one"]["losses"]
    assert told[0] == told[1] != told[2]


def test_a_run_that_is_stopped_ends_what_builds_on_it_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tmp_path)

    def stopped(command: str, path: str) -> None:
        Trainer(load_config(Recipe, Path(path))).run(
            tell=lambda step: signal.raise_signal(signal.SIGINT) if step.number == 3 else None
        )

    with monkeypatch.context() as patched:
        patched.setattr("benchmarks.own_runs.everlong", stopped)
        with pytest.raises(KeyboardInterrupt, match="is not done"):
            train(recipe, tmp_path / "run")
    done, _ = train(recipe, tmp_path / "run")
    assert (done["why"], done["steps"]) == ("finished", recipe.steps)
