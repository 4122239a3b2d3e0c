"""Runs that know what earlier ones have kept: told apart by what they read and do."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.duplicates.store import MANIFEST
from everlong.curation.lock import LOCK, outputs_of
from everlong.curation.pipeline import Pipeline
from everlong.curation.quality.gopher import GopherQuality
from everlong.curation.recipe import Curation
from everlong.curation.run import curate, reproduce
from everlong.curation.tasks import Source
from everlong.curation.workers import Done, Job
from everlong.errors import DataError
from tests.curation.test_pipeline import InThisProcess, kept


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


class _StopsInTheSecondStage(InThisProcess):
    def __init__(self) -> None:
        super().__init__()
        self._stages = 0

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        self._stages += 1
        if self._stages == 2:
            raise KeyboardInterrupt
        return super().map(job, tasks)
