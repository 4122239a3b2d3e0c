"""Runs whose objective is another than the next token."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from everlong.data.corpora import Corpus
from everlong.data.objectives import Objective
from everlong.errors import ConfigError, DataError
from everlong.model.adapters import LoraConfig
from everlong.training.parallel import Ranks
from everlong.training.recipe import ModelSource, Phase, Recipe, Validation
from everlong.training.trainer import Trainer
from tests.home import own_home
from tests.training.small import recipe, weights


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))


def paired(folder: Path, **changes: object) -> Recipe:
    """Numbers written with digits, and what belongs to them."""
    for name, numbers in (("pairs", range(60)), ("held_out_pairs", range(60, 76))):
        lines = ({"query": f"{i} {i}", "passage": f"number {i}"} for i in numbers)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    phase = Phase(60, 3e-3, 32, 8, {"pairs": 1.0}, cut=False, objective="contrastive")
    held_out = (Corpus("held out", (folder / "held_out_pairs.jsonl",), "pairs"),)
    given = recipe(
        folder,
        corpora=(Corpus("pairs", (folder / "pairs.jsonl",), "pairs"),),
        phases=(phase,),
        validation=Validation(held_out, every=60, tokens=4000),
        checkpoint_every=60,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["denoise", "prefix"])
def test_a_model_learns_by_it(tmp_path: Path, objective: Objective) -> None:
    given = recipe(tmp_path)
    (phase,) = given.phases
    more = replace(phase, steps=60, objective=objective)
    outcome = Trainer(replace(given, phases=(more,), checkpoint_every=60)).run()
    assert outcome.validation["held out"] < outcome.before["held out"] - 1


def test_a_model_learns_to_find(tmp_path: Path) -> None:
    outcome = Trainer(paired(tmp_path)).run()
    assert outcome.validation["held out"] < outcome.before["held out"] - 0.3


def test_a_pair_that_is_too_long_is_named_before_the_first_step(tmp_path: Path) -> None:
    given = paired(tmp_path)
    long = {"query": "9 " * 40, "passage": "nine"}
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write(json.dumps(long) + "\n")
    with pytest.raises(DataError, match=r"pairs: pair 60 has \d+ tokens .*set it to \d+ or more"):
        Trainer(given)


def test_better_answers_are_preferred(tmp_path: Path) -> None:
    for name, numbers in (("preferences", range(60)), ("held_out_preferences", range(60, 76))):
        lines = ({"prompt": f"{i}", "chosen": "1 2", "rejected": "2 1"} for i in numbers)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    phase = Phase(60, 1e-3, 64, 8, {"answers": 1.0}, cut=False, objective="preference")
    held_out = Corpus("held out", (tmp_path / "held_out_preferences.jsonl",), "preferences")
    given = recipe(
        tmp_path,
        corpora=(Corpus("answers", (tmp_path / "preferences.jsonl",), "preferences"),),
        phases=(phase,),
        validation=Validation((held_out,), every=60, tokens=4000),
        checkpoint_every=60,
    )
    outcome = Trainer(given).run()
    assert outcome.before["held out"] == pytest.approx(0.6931, abs=1e-3)  # it is the model before
    assert outcome.validation["held out"] < 0.6
    (tmp_path / "preferences.jsonl").write_text('{"prompt": "1", "chosen": "2"}\n')
    with pytest.raises(DataError, match="needs prompt or messages, chosen and rejected"):
        Trainer(given)


@pytest.mark.parametrize("objective", ["contrastive", "preference"])
def test_pairs_go_on_bit_for_bit(tmp_path: Path, objective: Objective) -> None:
    """With an adapter, whose own weights are all that a checkpoint has."""
    torch.set_num_threads(1)
    base = recipe(tmp_path, run=tmp_path / "base")
    Trainer(base).run()
    given = paired(tmp_path)
    corpora = given.corpora
    if objective == "preference":
        path = tmp_path / "preferences.jsonl"
        lines = ({"prompt": f"{i}", "chosen": "1 2", "rejected": "2 1"} for i in range(60))
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        corpora = (Corpus("pairs", (path,), "preferences"),)
    phase = replace(given.phases[0], steps=8, sequence_length=64, objective=objective)
    whole = replace(
        given,
        model=ModelSource(checkpoint=str(base.run)),
        adapter=LoraConfig(rank=4),
        corpora=corpora,
        phases=(phase,),
        validation=Validation(),
        checkpoint_every=3,
    )
    Trainer(whole).run()
    parts = replace(whole, run=tmp_path / "parts")
    trainer = Trainer(parts)
    trainer.run(tell=lambda step: setattr(trainer, "_stop", step.number == 4))
    Trainer(parts).run(resume=True)
    one, other = weights(whole.run, 8), weights(parts.run, 8)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_objectives_follow_one_another_and_resume(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    (phase,) = given.phases
    phases = tuple(
        replace(phase, steps=4, objective=objective) for objective in ("next", "denoise", "prefix")
    )
    whole = replace(given, phases=phases, checkpoint_every=3)
    torch.set_num_threads(1)
    losses: list[float] = []
    Trainer(whole).run(tell=lambda step: losses.append(step.loss))
    parted = replace(whole, run=tmp_path / "parted")
    trainer = Trainer(parted)
    again: list[float] = []

    def tell(step: object) -> None:
        again.append(step.loss)  # type: ignore[attr-defined]
        trainer._stop = len(again) == 7

    assert trainer.run(tell=tell).stopped
    Trainer(parted).run(resume=True, tell=lambda step: again.append(step.loss))
    assert again == losses


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    given = paired(tmp_path)
    (phase,) = given.phases
    with pytest.raises(ConfigError, match="say cut: false"):
        replace(phase, cut=True)
    with pytest.raises(ConfigError, match="are for the objective contrastive"):
        replace(given, phases=(replace(phase, objective="next"),))
    with pytest.raises(ConfigError, match="are for the objective contrastive"):
        replace(given, validation=recipe(tmp_path).validation)
    with pytest.raises(ConfigError, match="allowed: next, denoise, prefix, contrastive, pref"):
        replace(phase, objective="guess")  # type: ignore[arg-type]
    for alone, ranks in ((replace(given, micro_sequences=1), None), (given, Ranks(1, 8))):
        with pytest.raises(ConfigError, match=r"compare pairs .* one sequence at a time"):
            Trainer(alone, ranks=ranks)
    with pytest.raises(ConfigError, match="masked is between 0 and 1"):
        replace(phase, masked=1.0)
