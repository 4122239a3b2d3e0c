from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from everlong.config import format_config
from everlong.errors import CheckpointError, ConfigError, DataError, EverlongError
from everlong.training.checkpoints import path_of, read_state, steps_in
from everlong.training.models import open_run
from everlong.training.recipe import Phase, Recipe, Validation
from everlong.training.report import draw
from everlong.training.run_files import read_lines
from everlong.training.schedules import ScheduleConfig
from everlong.training.trainer import Outcome, Step, Trainer
from tests.home import own_home
from tests.training.small import SHAPE, recipe, weights


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own; and one thread, as a tiny model gains nothing from two."""
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WIDE = replace(SHAPE, hidden_size=65_536)
_PLATEAU = Phase(9, 1e-3, 8, 4, {"numbers": 1.0}, ScheduleConfig("plateau"))


def run(given: Recipe, resume: bool = False) -> tuple[Outcome, list[Step]]:
    steps: list[Step] = []
    return Trainer(given).run(resume, steps.append), steps


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_it_learns(tmp_path: Path) -> None:
    given = recipe(tmp_path, phases=(replace(recipe(tmp_path).phases[0], steps=60),))
    outcome, steps = run(given)
    assert outcome.why == "finished"
    assert outcome.steps == len(steps) == 60
    assert steps[0].loss == pytest.approx(math.log(SHAPE.vocab_size), abs=0.2)
    assert steps[-1].loss < steps[0].loss - 2
    assert outcome.validation["held out"] < 4
    assert steps[4].validation is not None
    assert steps[5].validation is None
    assert all(step.tokens == 8 * 32 for step in steps)


def test_the_ledger_tells_what_was_seen(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    run(given)
    ledger = [*read_lines(given.run / "ledger.jsonl")]
    assert [line["step"] for line in ledger] == [*range(12)]
    for line in ledger:
        assert len(line["sequences"]) == 8
        for sequence in line["sequences"]:
            assert sum(end - start for _, _, start, end in sequence) == 32
    metrics = [*read_lines(given.run / "metrics.jsonl")]
    assert metrics[-1]["loss"] < metrics[0]["loss"]


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_equal_seeds_give_equal_bits(tmp_path: Path, precision: str) -> None:
    one = recipe(tmp_path, precision=precision)
    other = replace(one, run=tmp_path / "other")
    third = replace(one, run=tmp_path / "third", seed=1)
    for given in (one, other, third):
        run(given)
    assert same(weights(one.run, 12), weights(other.run, 12))
    assert not same(weights(one.run, 12), weights(third.run, 12))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"average": 0.9},
        {"micro_sequences": 2, "recompute": True},
        {"optimizer": {"kind": "muon"}},
        {"phases": "growing"},
        {"phases": "plateau"},
    ],
)
def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = dict(changes)
    if "optimizer" in changes:
        changes["optimizer"] = replace(recipe(tmp_path).optimizer, **changes["optimizer"])
    if changes.get("phases") == "plateau":
        # Validation never brings enough, so the rate falls and falls.
        schedule = ScheduleConfig("plateau", patience=1, better=9.0)
        changes["phases"] = (replace(recipe(tmp_path).phases[0], schedule=schedule),)
        changes["validation"] = replace(recipe(tmp_path).validation, every=2)
    if changes.get("phases") == "growing":
        first = replace(recipe(tmp_path).phases[0], steps=6)
        second = replace(first, layers=3, heads=6, sequence_length=16, sequences=4)
        changes["phases"] = (first, second)
    whole = recipe(tmp_path, **changes)
    run(whole)
    parts = replace(whole, run=tmp_path / "parts")
    for at in (3, 7, 12):
        trainer = Trainer(parts)

        def stop(step: Step, trainer: Trainer = trainer, at: int = at) -> None:
            trainer._stop = step.number + 1 == at

        outcome = trainer.run(resume=at > 3, tell=stop)
        assert outcome.steps == at
    assert same(weights(whole.run, 12), weights(parts.run, 12))
    for name in ("ledger.jsonl",):
        assert (whole.run / name).read_bytes() == (parts.run / name).read_bytes()
    losses = [
        [line["loss"] for line in read_lines(one.run / "metrics.jsonl")] for one in (whole, parts)
    ]
    assert losses[0] == losses[1]


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    phase = replace(recipe(tmp_path).phases[0], steps=150)
    whole = recipe(tmp_path, phases=(phase,), checkpoint_every=7)
    run(whole)
    killed = replace(whole, run=tmp_path / "killed")
    (tmp_path / "recipe.yaml").write_text(format_config(killed))
    module = [sys.executable, "-m", "tests.training.killed_run"]
    done = subprocess.run(
        [*module, str(tmp_path / "recipe.yaml"), "0"],
        stdout=subprocess.PIPE,
        check=True,
        timeout=200,
    )
    assert int(done.stdout) >= 5  # 150 steps, little more than 20 at a time
    assert same(weights(whole.run, 150), weights(killed.run, 150))
    assert (whole.run / "ledger.jsonl").read_bytes() == (killed.run / "ledger.jsonl").read_bytes()


def test_ctrl_c_saves(tmp_path: Path) -> None:
    given = recipe(tmp_path, phases=(replace(recipe(tmp_path).phases[0], steps=10_000),))

    def press(step: Step) -> None:
        if step.number == 5:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    outcome = Trainer(given).run(tell=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert outcome.why == "stopped"
    assert steps_in(given.run / "checkpoints")[-1] == outcome.steps <= 7


def test_steps_whose_gradients_are_not_finite_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recipe(tmp_path, phases=(replace(recipe(tmp_path).phases[0], steps=4),))
    trainer = Trainer(given)
    plain = trainer._loss

    def poisoned(model: Any, batch: Any) -> torch.Tensor:
        broken = torch.is_grad_enabled() and trainer._step in (1, 2)
        return plain(model, batch) * (math.nan if broken else 1.0)

    monkeypatch.setattr(trainer, "_loss", poisoned)
    outcome = trainer.run()
    assert outcome.skipped == 2
    assert all(value.isfinite().all() for value in weights(given.run, 4).values())


def test_an_early_stop(tmp_path: Path) -> None:
    given = recipe(
        tmp_path, phases=(replace(recipe(tmp_path).phases[0], steps=1000, learning_rate=1e-30),)
    )
    given = replace(given, validation=replace(given.validation, every=2, patience=3))
    outcome, _ = run(given)
    assert outcome.why == "no better"
    assert outcome.steps == 8
    assert steps_in(given.run / "checkpoints") == [2, 4, 8]


def test_of_a_run_that_stopped_early_the_best_model_is_taken(tmp_path: Path) -> None:
    good = replace(recipe(tmp_path).phases[0], steps=20)
    bad = replace(good, learning_rate=1.0, schedule=ScheduleConfig("constant"), steps=100)
    given = recipe(tmp_path, phases=(good, bad), checkpoint_every=100)
    given = replace(given, validation=replace(given.validation, every=4, patience=3))
    outcome, steps = run(given)
    assert outcome.why == "no better"
    losses = [step.validation["held out"] for step in steps if step.validation is not None]
    best = 4 * (1 + losses.index(min(losses)))
    assert best < outcome.steps
    found = open_run(given.run)
    assert found.step == best
    kept = weights(given.run, best)["model.embed_tokens.weight"]
    assert torch.equal(found.model.weights["embed_tokens.weight"], kept)
    assert open_run(given.run, outcome.steps).step == outcome.steps


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    good = replace(recipe(tmp_path).phases[0], steps=20)
    bad = replace(good, learning_rate=1.0, schedule=ScheduleConfig("constant"))
    given = recipe(tmp_path, phases=(good, bad), keep=2)
    run(replace(given, validation=replace(given.validation, every=4)))
    steps = steps_in(given.run / "checkpoints")
    assert len(steps) == 3
    assert steps[1:] == [36, 40]
    losses = {
        step: read_state(path_of(given.run / "checkpoints", step))["validation_loss"]
        for step in steps
    }
    assert min(losses, key=lambda step: losses[step]) == steps[0] <= 24


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    run(given)
    whole = weights(given.run, 12)
    for path in path_of(given.run / "checkpoints", 12).glob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
    told: list[str] = []
    outcome = Trainer(given, told.append).run(resume=True)
    assert any("is not what was written" in one for one in told)
    assert "goes on after step 8" in told
    assert outcome.steps == 12
    assert same(weights(given.run, 12), whole)


def test_a_damaged_state_stops_nothing(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    _, whole = run(given)
    (path_of(given.run / "checkpoints", 12) / "state.json").write_text('{"step"')
    kept = sorted(path.name for path in (given.run / "checkpoints").iterdir())
    assert "step-00000012" in kept
    told: list[str] = []
    Trainer(given, told.append).run(resume=True)
    assert "goes on after step 8" in told
    assert [*read_lines(given.run / "metrics.jsonl")][-1]["loss"] == whole[-1].loss
    assert (given.run / "checkpoints" / "step-00000012.damaged").is_dir()


def test_where_all_checkpoints_are_damaged_nothing_is_begun_anew(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    run(given)
    for path in (given.run / "checkpoints").iterdir():
        (path / "manifest.json").write_text("[]")
    ledger = (given.run / "ledger.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints .* are damaged"):
        run(given, resume=True)
    assert (given.run / "ledger.jsonl").read_bytes() == ledger


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Files of this process may not grow from the second checkpoint on."""
    given = recipe(tmp_path)
    _, whole = run(replace(given, run=tmp_path / "whole"))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(step: Step) -> None:
        if step.number == 5:
            while not path_of(given.run / "checkpoints", 4).exists():  # it is written meanwhile
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))

    try:
        with pytest.raises(CheckpointError, match=r"step \d+ could not be written: .*make room"):
            Trainer(given).run(tell=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in (given.run / "checkpoints").iterdir()] == ["step-00000004"]
    run(given, resume=True)
    losses = [line["loss"] for line in read_lines(given.run / "metrics.jsonl")]
    assert losses == [step.loss for step in whole]


def test_nothing_is_learned_from_damaged_shards(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    _, whole = run(replace(given, run=tmp_path / "whole"))

    def stop(step: Step) -> None:
        trainer._stop = step.number == 5

    trainer = Trainer(given)
    assert trainer.run(tell=stop).stopped
    (path,) = (tmp_path / "home" / "shards").glob("numbers-*/00000.tokens")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"00000\.tokens is damaged: bytes 0 to .*made anew"):
        run(given, resume=True)
    shutil.rmtree(path.parent)
    run(given, resume=True)
    losses = [line["loss"] for line in read_lines(given.run / "metrics.jsonl")]
    assert losses == [step.loss for step in whole]


@pytest.mark.parametrize("what", ["text", "recipe", "inputs"])
def test_a_run_goes_on_only_as_what_it_began(tmp_path: Path, what: str) -> None:
    given = recipe(tmp_path)
    run(given)
    match what:
        case "text":
            (tmp_path / "texts" / "0.txt").write_text("1 2 3 4 5 6 7 8 9")
            told = "not what it was when the run in .* began: corpus numbers"
        case "recipe":
            given, told = replace(given, seed=5, keep=1), "recipe.*: seed, keep differ"
        case _:
            (given.run / "inputs.json").unlink()
            told = "which says what the run began with"
    with pytest.raises(EverlongError, match=told):
        run(given, resume=True)


def test_a_run_that_was_moved_goes_on(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    _, whole = run(replace(given, run=tmp_path / "whole"))
    trainer = Trainer(given)
    trainer.run(tell=lambda step: os.kill(os.getpid(), signal.SIGINT) if step.number == 6 else None)
    moved = replace(given, run=tmp_path / "moved")
    given.run.rename(moved.run)
    run(moved, resume=True)
    losses = [line["loss"] for line in read_lines(moved.run / "metrics.jsonl")]
    assert losses == [step.loss for step in whole]


def test_an_early_stop_stays_stopped(tmp_path: Path) -> None:
    phase = replace(recipe(tmp_path).phases[0], steps=1000, learning_rate=1e-30)
    given = recipe(tmp_path, phases=(phase,))
    given = replace(given, validation=replace(given.validation, every=2, patience=3))
    run(given)
    again, steps = run(given, resume=True)
    assert (again.why, again.steps, steps) == ("no better", 8, [])


def test_losses_of_another_objective_are_not_compared(tmp_path: Path) -> None:
    phase = replace(recipe(tmp_path).phases[0], steps=20)
    given = recipe(tmp_path, phases=(phase, replace(phase, objective="denoise", steps=30)))
    given = replace(given, validation=replace(given.validation, every=5, patience=4))
    outcome, _ = run(given)
    assert outcome.why == "finished"
    assert outcome.before["held out"] > outcome.validation["held out"]


def test_a_run_whose_gradients_stay_infinite_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phase = replace(recipe(tmp_path).phases[0], steps=1000)
    trainer = Trainer(recipe(tmp_path, phases=(phase,)))
    loss = trainer._loss
    monkeypatch.setattr(trainer, "_loss", lambda model, batch: loss(model, batch) * math.nan)
    with pytest.raises(EverlongError, match="50 steps in a row are not finite"):
        trainer.run()
    lines = [*read_lines(tmp_path / "run" / "metrics.jsonl")]
    assert len(lines) == 49
    assert {line["gradient_norm"] for line in lines} == {None}


def test_grown_models_go_on(tmp_path: Path) -> None:
    first = replace(recipe(tmp_path).phases[0], steps=20)
    given = recipe(tmp_path, phases=(first, replace(first, steps=20, layers=4)))
    _, steps = run(given)
    # Nothing is lost where the model grows.
    assert abs(steps[20].loss - steps[19].loss) < 0.5
    # Neither is what the optimizer remembers of the layers that were there.
    counted = {
        name.split(".")[2]: int(value)
        for name, value in weights(given.run, 40).items()
        if name.startswith("optimizer.layers.") and name.endswith("q_proj.weight.step")
    }
    assert counted == {"0": 40, "1": 20, "2": 40, "3": 20}
    assert steps[-1].loss < steps[19].loss
    assert {
        name.split(".")[2] for name in weights(given.run, 40) if name.startswith("model.layers.")
    } == {"0", "1", "2", "3"}


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    with pytest.raises(ConfigError, match="there is no run"):
        run(given, resume=True)
    run(given)
    with pytest.raises(ConfigError, match="holds a run already"):
        run(given)
    with pytest.raises(ConfigError, match="is of another recipe"):
        run(replace(given, seed=5), resume=True)
    outcome, steps = run(given, resume=True)
    assert outcome.steps == 12
    assert not steps


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    given = recipe(tmp_path, phases=(replace(recipe(tmp_path).phases[0], steps=10_000),))
    trainer = Trainer(given)
    began = threading.Event()

    def tell(step: Step) -> None:
        began.set()

    thread = threading.Thread(target=trainer.run, kwargs={"tell": tell})
    thread.start()
    try:
        assert began.wait(30)
        with pytest.raises(EverlongError, match="is held by"):
            Trainer(given).run(resume=True)
    finally:
        trainer._stop = True
        thread.join()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sequence_length": 65}, "beyond the model's window of 64"),
        ({"layers": 1}, r"phases\[0\]: a model of 2 layers cannot grow to 1"),
        ({"heads": 5}, "not to 5"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    tmp_path: Path, change: dict[str, int], told: str
) -> None:
    given = recipe(tmp_path, phases=(replace(recipe(tmp_path).phases[0], **change),))
    with pytest.raises(ConfigError, match=told):
        Trainer(given)
    assert not given.run.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, r"phases\[0\]: [0-9,]* parameters, of which [0-9,]* learn, take .* GB before"),
        ({"sharding": "divided"}, "make the model smaller"),
        ({"phase": {"layers": 90_000}, "shape": WIDE}, r"phases\[0\]: .* make the model smaller"),
        ({"phase": {"layers": 10**12}, "shape": SHAPE}, r"phases\[0\]: .* up to 100,000"),
    ],
)
def test_models_larger_than_the_machine_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """Before anything is made of them."""
    changes = dict(changes)
    shape = changes.pop("shape", replace(WIDE, num_layers=90_000))
    phase = replace(recipe(tmp_path).phases[0], **changes.pop("phase", {}))
    source = replace(recipe(tmp_path).model, shape=shape)
    given = recipe(tmp_path, model=source, phases=(phase,), **changes)
    with pytest.raises(ConfigError, match=told):
        Trainer(given)
    assert not given.run.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps is 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"learning_rate": math.nan}, "learning_rate is above 0"),
        ({"learning_rate": 1e30}, "at most 1, not 1e"),
        ({"layers": 0}, "layers is 1 or more, not 0"),
        ({"weights": {"numbers": 1.7e308, "others": 1.7e308}}, "a finite number"),
        ({"objective": "contrastive", "cut": False, "sequences": 1}, "sequences: 2 or more"),
        ({"weights": {"numbers": -1.0}}, "weights are 0 or more"),
        ({"weights": {}}, "one is above 0"),
        ({"schedule": ScheduleConfig(warmup=20)}, "longer than its phase"),
    ],
)
def test_phases_that_cannot_be_are_refused(change: dict[str, Any], told: str) -> None:
    good = {"steps": 9, "learning_rate": 1e-3, "sequence_length": 8, "sequences": 4}
    with pytest.raises(ConfigError, match=told):
        Phase(**({"weights": {"numbers": 1.0}} | good | change))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1 << 70}, "seed is from 0 to"),
        ({"validation": Validation(patience=3)}, "patience needs validation.corpora"),
        (
            {"validation": Validation(), "phases": (_PLATEAU,)},
            "plateau lowers the rate by the loss of validation.corpora",
        ),
    ],
)
def test_recipes_that_cannot_be_are_refused(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        recipe(tmp_path, **change)


def test_recipes_are_read_as_they_are_written(tmp_path: Path) -> None:
    from everlong.config import load_config

    given = recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_text(format_config(given))
    assert load_config(Recipe, tmp_path / "recipe.yaml") == given
    for change, told in (
        ({"micro_sequences": 3}, "must be a multiple"),
        ({"average": 1.5}, "average is between 0 and 1"),
        ({"corpora": ()}, "corpora and phases"),
        ({"keep": 0}, "keep is 1 or more"),
        ({"phases": (replace(given.phases[0], weights={"x": 1.0}),)}, "names x; there are numbers"),
    ):
        with pytest.raises(ConfigError, match=told):
            replace(given, **change)  # type: ignore[arg-type]


def test_a_run_can_be_looked_at(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    given = recipe(tmp_path, tensorboard=True)
    trainer = Trainer(given)

    def stop(step: Step) -> None:
        trainer._stop = step.number == 5

    trainer.run(tell=stop)
    run(given, resume=True)
    path = draw(given.run)
    assert path.read_bytes().startswith(b"\x89PNG")
    log = events.EventAccumulator(str(given.run / "tensorboard"))
    log.Reload()
    metrics = [*read_lines(given.run / "metrics.jsonl")]
    assert [one.step for one in log.Scalars("loss")] == [*range(12)]
    assert [one.value for one in log.Scalars("loss")] == pytest.approx(
        [line["loss"] for line in metrics]
    )
    assert [one.step for one in log.Scalars("validation/held_out")] == [4, 9, 11]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_computes_what_a_processor_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = recipe(tmp_path, precision="float32")
    Trainer(there).run()
    here = replace(there, run=tmp_path / "here")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Trainer(here).run()
    one, other = weights(there.run, 12), weights(here.run, 12)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-2, atol=1e-4)
