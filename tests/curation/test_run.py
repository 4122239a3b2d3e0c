"""Runs that know what earlier ones have kept: told apart by what they read and do."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.apps.curate import forget
from everlong.curation.decontamination.removal import Decontamination
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.duplicates.store import MANIFEST
from everlong.curation.lock import LOCK, TOKENS, outputs_of
from everlong.curation.mixture import Mixture
from everlong.curation.pipeline import Pipeline
from everlong.curation.quality.gopher import GopherQuality
from everlong.curation.recipe import Curation, Tokens
from everlong.curation.run import curate, reproduce
from everlong.curation.tasks import Source
from everlong.curation.workers import Done, Job
from everlong.errors import ConfigError, DataError
from tests.curation.test_pipeline import InThisProcess, kept
from tests.training.small import tokenizer


def text(number: int, other: int = 0) -> str:
    """A text of its own for each number, and nearly the same one with another word at its end."""
    return " ".join(f"word{number}and{n}" for n in range(60)) + f" {other}"


def recipe(folder: Path, run: Path, texts: Sequence[str], store: Path) -> Curation:
    """A run over texts in a folder, which is made if it is not there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for number, one in enumerate(texts):
            (folder / f"{number}.txt").write_text(one)
    steps = (ExactDuplicates(store=store / "exact"), NearDuplicates(store=store / "near"))
    return Curation(run, (Source("texts", (folder,)),), steps)


def dropped(given: Curation, resume: bool = False) -> dict[str, int]:
    """Do a run; how many documents which rule dropped."""
    counts = Pipeline(given, InThisProcess()).run(resume=resume)
    return dict(sum((one.dropped for one in counts), Counter()))


def stored(store: Path) -> dict[str, list[int]]:
    """Documents of each run that a store knows."""
    return {
        folder: [one["entries"] for one in json.loads(path.read_bytes())["runs"]]
        for folder in ("exact", "near")
        for path in [store / folder / MANIFEST]
    }


EXACT, NEAR = "exact_duplicates: known_text", "near_duplicates: known_text_nearly"


def test_a_reproduction_sees_what_the_run_saw(tmp_path: Path) -> None:
    store = tmp_path / "store"
    runs = {
        "january": recipe(tmp_path / "1", tmp_path / "january", [text(1), text(2)], store),
        "february": recipe(
            tmp_path / "2", tmp_path / "february", [text(2), text(1, 7), text(3)], store
        ),
    }
    for name, given in runs.items():
        counts = curate(given, InThisProcess()).counts
        assert sum((one.dropped for one in counts), Counter()) == (
            {} if name == "january" else {EXACT: 1, NEAR: 1}
        )
    before = stored(store)
    assert before == {"exact": [2, 1], "near": [2, 1]}
    for name in runs:
        made = reproduce(tmp_path / name / LOCK, tmp_path / f"{name}-again", InThisProcess())
        assert (made.files, made.differ) == (1, [])
        assert stored(store) == before


def test_a_run_that_is_done_again_is_no_copy_of_itself(tmp_path: Path) -> None:
    store = tmp_path / "store"
    january = recipe(tmp_path / "1", tmp_path / "run", [text(1), text(2)], store)
    assert dropped(january) == {}
    february = recipe(tmp_path / "2", tmp_path / "two", [text(2), text(3)], store)
    assert dropped(february) == {EXACT: 1}
    shutil.rmtree(tmp_path / "run")
    assert dropped(january) == {}, "in the same folder"
    shutil.copytree(tmp_path / "1", tmp_path / "moved")
    moved = replace(
        recipe(tmp_path / "moved", tmp_path / "three", [], store), seed=5, task_bytes=10
    )
    assert dropped(moved) == {}, "elsewhere, and with what does not change what is kept"
    assert stored(store) == {"exact": [2, 1], "near": [2, 1]}


def test_runs_in_folders_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    store = tmp_path / "store"
    folders = [tmp_path / month / "curated" for month in ("1", "2", "3")]
    texts = [[text(1)], [text(2)], [text(1), text(2), text(3)]]
    for folder, some, expected in zip(folders, texts, ({}, {}, {EXACT: 2}), strict=True):
        given = recipe(folder.parent / "texts", folder, some, store)
        assert dropped(given) == expected
    assert stored(store)["exact"] == [1, 1, 1]


@pytest.mark.parametrize("change", ["files", "steps"])
def test_other_files_or_steps_are_another_run(tmp_path: Path, change: str) -> None:
    store = tmp_path / "store"
    given = recipe(tmp_path / "texts", tmp_path / "one", [text(1), "short"], store)
    assert dropped(given) == {}
    if change == "files":
        (tmp_path / "texts" / "2.txt").write_text(text(2))
    else:
        given = replace(given, steps=(GopherQuality(), *given.steps))
    again = replace(given, run=tmp_path / "two")
    if change == "files":
        assert dropped(again) == {EXACT: 2}
        assert [one["text"] for one in kept(tmp_path / "two")] == [text(2)]
        assert stored(store)["exact"] == [2, 1]
    else:
        with pytest.raises(DataError, match="none of 2 documents is kept"):
            dropped(again)


def test_a_stopped_run_goes_on_with_what_it_saw(tmp_path: Path) -> None:
    """Another one that was complete meanwhile is not there for it, now or when it is done again."""
    store = tmp_path / "store"
    slow = recipe(tmp_path / "1", tmp_path / "slow", [text(1), text(2)], store)
    slow = replace(slow, steps=slow.steps[:1])
    fast = replace(recipe(tmp_path / "2", tmp_path / "fast", [text(2)], store), steps=slow.steps)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(slow, _StopsInTheSecondStage()).run()
    assert dropped(fast) == {}
    assert dropped(slow, resume=True) == {}
    assert dropped(replace(slow, run=tmp_path / "again")) == {}
    assert outputs_of(tmp_path / "again") == outputs_of(tmp_path / "slow")
    assert dropped(replace(fast, run=tmp_path / "fast again")) == {}
    assert json.loads((store / "exact" / MANIFEST).read_bytes())["looked"] == {}


def test_a_run_that_is_forgotten_is_not_seen_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    months = {
        name: recipe(tmp_path / name, tmp_path / f"{name}-run", texts, store)
        for name, texts in {
            "january": [text(1), text(2)],
            "february": [text(2), text(3)],
            "march": [text(1), text(3), text(4)],
        }.items()
    }
    for name in ("january", "february"):
        curate(months[name], InThisProcess())
    shutil.rmtree(tmp_path / "january")  # it is known by what it read, not by what is there now
    forget(months["january"].run)
    assert "exact_duplicates" in (told := capsys.readouterr().out)
    assert told.count("forgot 2 documents") == 2
    assert stored(store) == {"exact": [1], "near": [1]}
    assert dropped(months["march"]) == {EXACT: 1}, "february has kept the third text"
    forget(months["january"].run)
    assert capsys.readouterr().out.count("did not know the run") == 2
    with pytest.raises(DataError, match=r"exact_duplicates, near_duplicates saw other runs"):
        reproduce(months["february"].run / LOCK, tmp_path / "again", InThisProcess())


def test_a_run_without_a_store_has_nothing_to_forget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = recipe(tmp_path / "texts", tmp_path / "run", [text(1)], tmp_path)
    curate(replace(given, steps=(ExactDuplicates(),)), InThisProcess())
    forget(tmp_path / "run")
    assert "no step" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="has no run of curation"):
        forget(tmp_path / "texts")


def test_a_finished_run_can_have_another_mixture(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    tokenizer().save(tmp_path / "tokenizer")
    texts = [text(n) for n in range(8)]
    given = recipe(tmp_path / "texts", tmp_path / "run", texts, tmp_path / "store")
    given = replace(given, tokens=Tokens(str(tmp_path / "tokenizer")))
    first = curate(given, InThisProcess())
    documents = {name: one for name, one in outputs_of(given.run).items() if "documents" in name}
    half = sum(len(one) for one in texts) // 2
    changed = curate(replace(given, mixture=Mixture(letters=half)), InThisProcess(), resume=True)
    assert (first.parts[0].epochs, changed.parts[0].epochs) == (1, pytest.approx(0.5, abs=0.01))
    assert outputs_of(given.run).items() >= documents.items()
    assert reproduce(changed.lock, tmp_path / "again", InThisProcess()).differ == []
    without = curate(replace(given, tokens=None), InThisProcess(), resume=True)
    assert not (given.run / TOKENS).exists()
    assert reproduce(without.lock, tmp_path / "once more", InThisProcess()).differ == []


def test_what_a_step_reads_is_in_the_lock(tmp_path: Path) -> None:
    asked = tmp_path / "asked.txt"
    asked.write_text(" ".join(f"word{n}" for n in range(40)))
    given = recipe(tmp_path / "texts", tmp_path / "run", [text(1)], tmp_path)
    given = replace(given, steps=(Decontamination(files=(asked,)),))
    lock = curate(given, InThisProcess()).lock
    assert reproduce(lock, tmp_path / "again", InThisProcess()).differ == []
    asked.write_text("other " + asked.read_text())
    with pytest.raises(DataError, match=r"such as step decontamination: entries"):
        reproduce(lock, tmp_path / "once more", InThisProcess())


class _StopsInTheSecondStage(InThisProcess):
    def __init__(self) -> None:
        super().__init__()
        self._stages = 0

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        self._stages += 1
        if self._stages == 2:
            raise KeyboardInterrupt
        return super().map(job, tasks)
