"""The folder of a run: what else may be there, who has it, and what it says of what was read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.curation.decontamination.removal import Decontamination
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.lock import LOCK, Lock, outputs_of
from everlong.curation.mixture import Mixture, Quality
from everlong.curation.pipeline import COUNTS, INCIDENTS, TASKS, Progress
from everlong.curation.recipe import Curation
from everlong.curation.run import curate, reproduce
from everlong.curation.same_run import INPUTS, RECIPE
from everlong.curation.tasks import Source
from everlong.curation.workers import Done, Job, LocalExecutor, WorkerLimits
from everlong.errors import ConfigError, DataError, EverlongError
from tests.curation.steps import Same, Short, Terrible
from tests.curation.test_pipeline import InThisProcess, recipe, terrible


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    mine = given.run / "tokens" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="has something else, such as tokens"):
        curate(given, InThisProcess())
    assert [*given.run.rglob("*")] == [mine.parent, mine]


def test_what_a_killed_begin_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    given.run.mkdir()
    for name in (".lock", RECIPE, ".tasks.json.0a1b.partial"):
        (given.run / name).touch()
    assert curate(given, InThisProcess()).counts[0].documents == 60


def test_folders_that_cannot_be_of_a_run(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="cannot be the folder of a run"):
            curate(replace(given, run=folder), InThisProcess())
    for folder in (Path(), Path(".")):
        with pytest.raises(ConfigError, match="folder of its own"):
            curate(replace(given, run=folder), InThisProcess())


def test_a_run_does_not_read_what_it_writes(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    with pytest.raises(ConfigError, match=r"reads all that is in .*, and the run writes there"):
        curate(replace(given, run=tmp_path / "texts" / "out"), InThisProcess())
    hidden = replace(given, run=tmp_path / "texts" / ".out")
    assert curate(hidden, InThisProcess()).counts[0].documents == 60, "which is not read"


@pytest.mark.parametrize(
    ("pattern", "run", "read"),
    [
        ("**/*.jsonl", "out", True),
        ("**/*.jsonl", "deep/out", True),
        ("*/*.json*", "out", True),
        ("o?t/**/*", "out", True),
        ("*/*", ".out", True),  # patterns name hidden files as well
        ("**/*.txt", "out", False),
        ("*.jsonl", "out", False),
        ("*/*.jsonl", "deep/out/run", False),
        ("texts*/**/*", "out", False),
        ("texts/*", "out", False),
    ],
)
def test_a_run_does_not_read_what_it_writes_by_a_pattern(
    tmp_path: Path, pattern: str, run: str, read: bool
) -> None:
    given = recipe(tmp_path, Short())
    (tmp_path / "a.jsonl").write_text('{"text": "A text that is long enough to be kept."}\n')
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "texts")
    texts = replace(given.sources[0], paths=(tmp_path / pattern,))
    given = replace(given, sources=(texts,), run=tmp_path / run)
    if read:
        with pytest.raises(ConfigError, match=r"reads all that is in .*, and the run writes there"):
            curate(given, InThisProcess())
    else:
        assert curate(given, InThisProcess()).counts[0].documents, "nor does it read it in fact"


@pytest.mark.parametrize("path", [".", "**/*.json", "stor*/*"])
def test_stores_are_not_in_what_is_read(tmp_path: Path, path: str) -> None:
    texts = tmp_path / "texts"
    given = recipe(tmp_path, ExactDuplicates(store=texts / "store"))
    given = replace(given, sources=(replace(given.sources[0], paths=(texts / path,)),))
    with pytest.raises(ConfigError, match="and the store of exact_duplicates writes there"):
        curate(given, InThisProcess())
    hidden = recipe(tmp_path, ExactDuplicates(store=texts / ".store"), run="hidden")
    assert curate(hidden, InThisProcess()).counts[0].documents == 60, "which is not read"


def test_the_folder_is_of_one_until_all_is_written(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    said = []

    def say(what: str) -> None:
        said.append(what)
        with pytest.raises(EverlongError, match="is held by"):
            curate(given, InThisProcess(), resume=True)

    curate(given, InThisProcess(), say=say)
    assert said


@pytest.mark.parametrize("change", ["other", "gone", "new"])
def test_what_changes_while_it_is_read_is_told(tmp_path: Path, change: str) -> None:
    given = recipe(tmp_path, Short(), Same())
    name = {"other": "003.txt", "gone": "001.txt", "new": "new.txt"}[change]

    def tell(progress: Progress) -> None:
        if progress.bytes == progress.total_bytes and not progress.stage:
            if change == "gone":
                (tmp_path / "texts" / name).unlink()
            else:
                (tmp_path / "texts" / name).write_text("something else")

    with pytest.raises(ConfigError, match=f"1 files are not what they were.*{name}"):
        curate(given, InThisProcess(), tell=tell)
    assert not (given.run / COUNTS).exists()
    assert not (given.run / INPUTS).exists(), "which would name the wrong ones"


def test_evaluation_sets_that_change_before_a_run_goes_on_are_told(tmp_path: Path) -> None:
    asked = tmp_path / "asked.txt"
    asked.write_text(" ".join(f"word{n}" for n in range(40)))
    given = recipe(tmp_path, Decontamination(files=(asked,)))
    with pytest.raises(KeyboardInterrupt):
        curate(given, InThisProcess(most=1))
    asked.write_text("other " + asked.read_text())
    with pytest.raises(ConfigError, match="step decontamination: entries"):
        curate(given, InThisProcess(), resume=True)


def test_a_run_that_is_done_needs_its_sources_no_more(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    lock = curate(given, InThisProcess()).lock
    inputs = Lock.read(lock).inputs
    os.utime(tmp_path / "texts" / "001.txt")
    shutil.move(tmp_path / "texts", tmp_path / "elsewhere")
    changed = replace(given, mixture=Mixture(letters=500))
    assert curate(changed, InThisProcess(), resume=True).parts[0].epochs < 1
    assert Lock.read(lock).inputs == inputs


def test_a_change_that_fails_leaves_the_recipe(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    curate(given, InThisProcess())
    before = (given.run / RECIPE).read_bytes()
    wrong = replace(given, mixture=Mixture(quality=Quality("nothing")))
    with pytest.raises(ConfigError, match="no document has a number there"):
        curate(wrong, InThisProcess(), resume=True)
    assert (given.run / RECIPE).read_bytes() == before
    curate(replace(given, mixture=Mixture(temperature=2)), InThisProcess(), resume=True)
    assert "temperature: 2" in (given.run / RECIPE).read_text()


def test_why_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n[]\n")
    given = Curation(tmp_path / "run", (Source("s", (path,)),))
    with pytest.raises(
        DataError, match=r"2 documents or files .* such as s/a.jsonl#1: has no text"
    ):
        curate(given, InThisProcess())
    path.write_text('{"text": "short"}\n')
    given = replace(given, run=tmp_path / "other", steps=(Short(),))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"dropped\.jsonl in .* loosen the steps") as caught:
        curate(given, InThisProcess())
    assert "could not be read" not in str(caught.value)


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    terrible(tmp_path, "good", "good", "good", "full")
    given = recipe(tmp_path, Terrible(), Short())
    with pytest.raises(EverlongError, match=r"No space left.*go on with --resume"):
        curate(given, LocalExecutor(1, WorkerLimits()))


@pytest.mark.parametrize("name", [TASKS, COUNTS, INPUTS])
def test_damaged_files_of_a_run_are_told(tmp_path: Path, name: str) -> None:
    given = recipe(tmp_path, Short(), Same())
    curate(given, InThisProcess())
    if name == TASKS:
        (given.run / COUNTS).unlink()
    (given.run / name).write_text("{")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        curate(given, InThisProcess(), resume=True)


@pytest.mark.parametrize(
    "change", [{"recipe": 1}, {"inputs": []}, {"seen": {"a": 1}}, {"more": 1}, {"outputs": None}]
)
def test_locks_that_are_none(tmp_path: Path, change: dict[str, object]) -> None:
    given = recipe(tmp_path, Short())
    lock = curate(given, InThisProcess()).lock
    lock.write_text(json.dumps({**json.loads(lock.read_text()), **change}))
    with pytest.raises(ConfigError, match=f"is no lock of a curation run: .*{min(change)}"):
        reproduce(lock, tmp_path / "again", InThisProcess())


def test_lost_processes_are_written_down_as_they_are_lost(tmp_path: Path) -> None:
    terrible(tmp_path, "crash")
    given = recipe(tmp_path, Terrible())

    def tell(progress: Progress) -> None:
        if progress.incident is not None:
            assert "000.txt, document 0: " in (given.run / INCIDENTS).read_text()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate(given, LocalExecutor(1, WorkerLimits()), tell=tell)


class _Stops(InThisProcess):
    """In the second stage."""

    def __init__(self) -> None:
        super().__init__()
        self._stages = 0

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        self._stages += 1
        if self._stages == 2:
            raise KeyboardInterrupt
        return super().map(job, tasks)


def stored(store: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((store / "store.json").read_text())
    return found


def test_what_a_run_saw_is_known_when_stores_forget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from everlong.apps.curate import forget

    runs = {}
    for number, name in enumerate(("a", "b")):
        folder = tmp_path / name
        folder.mkdir()
        for n in range(number, number + 2):
            (folder / f"{n}.txt").write_text(f"This is the text with the number {n}.")
        steps = (ExactDuplicates(store=tmp_path / "store"),)
        runs[name] = Curation(tmp_path / f"run-{name}", (Source(name, (folder,)),), steps)
        curate(runs[name], InThisProcess())
    lock = runs["b"].run / LOCK
    seen = Lock.read(lock).seen
    assert len(seen["exact_duplicates"]) == 1
    forget(runs["b"].run)
    before = stored(tmp_path / "store")
    curate(replace(runs["b"], seed=5), InThisProcess(), resume=True)
    assert Lock.read(lock).seen == seen
    assert reproduce(lock, tmp_path / "again", InThisProcess()).differ == []
    assert Lock.read(tmp_path / "again" / LOCK).seen == seen
    assert outputs_of(tmp_path / "again") == outputs_of(runs["b"].run)
    assert stored(tmp_path / "store") == before, "which a reproduction does not change"
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        curate(replace(runs["b"], run=tmp_path / "third"), _Stops())
    forget(tmp_path / "third")
    assert "forgot 0 documents" in capsys.readouterr().out
    forget(runs["a"].run)
    with pytest.raises(DataError, match="exact_duplicates saw other runs"):
        reproduce(lock, tmp_path / "once more", InThisProcess())
