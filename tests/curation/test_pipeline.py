"""Runs of curation: the same result whoever does the work, and whatever happens to them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everlong.curation.counts import Counts
from everlong.curation.decontamination.removal import Decontamination
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.duplicates.spans import RepeatedSpans
from everlong.curation.lock import outputs_of
from everlong.curation.pipeline import COUNTS, DOCUMENTS, INCIDENTS, Pipeline, Progress
from everlong.curation.recipe import Curation, Tokens, Workers
from everlong.curation.same_run import inputs_of, known_as
from everlong.curation.stage import stages_of
from everlong.curation.tasks import Source
from everlong.curation.workers import Done, Job, LocalExecutor, WorkerLimits
from everlong.documents.extracted import Limits
from everlong.errors import CheckpointError, ConfigError, DataError, EverlongError
from tests.curation.steps import Clumsy, Echo, Same, Short, Terrible, Upper, Where


class InThisProcess:
    """Tasks one after the other, in some order."""

    def __init__(self, seed: int = 0, most: int | None = None) -> None:
        self._random, self._most = random.Random(seed), most

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        mixed = list(tasks)
        self._random.shuffle(mixed)
        for number, task in enumerate(mixed):
            if number == self._most:
                raise KeyboardInterrupt
            yield Done(task, job(task, {}, lambda piece, document: None))


def corpus(folder: Path, count: int = 60) -> Source:
    folder.mkdir()
    for number in range(count):
        text = f"Document {number % 40} has something to shout about, and more. " * (number % 5)
        (folder / f"{number:03d}.txt").write_text(text or "short")
    return Source("texts", (folder,))


def recipe(tmp_path: Path, *steps: Any, run: str = "run", **more: Any) -> Curation:
    folder = tmp_path / "texts"
    source = Source("texts", (folder,)) if folder.exists() else corpus(folder)
    return Curation(tmp_path / run, (source,), steps, task_bytes=500, **more)


def kept(run: Path) -> list[dict[str, Any]]:
    files = sorted((run / DOCUMENTS).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


STEPS = (Short(), Same(), Upper(), Echo())


def test_stages_are_cut_at_looks_at_the_whole() -> None:
    first, second, third = stages_of([Short(), Same(), Same(), Upper(), Same()])
    assert (first.found, first.steps, first.sketched) == ((), (Short(),), (Same(), Same()))
    assert (second.found, second.steps, second.sketched) == (
        (Same(), Same()),
        (Upper(),),
        (Same(),),
    )
    assert (third.found, third.steps, third.sketched) == ((Same(),), (), ())
    assert [stage.number for stage in (first, second, third)] == [0, 1, 2]
    assert len(stages_of([])) == 1


def test_what_cuts_texts_has_a_look_of_its_own(tmp_path: Path) -> None:
    cuts = Decontamination(files=(tmp_path / "asked.txt",)), RepeatedSpans()
    same = ExactDuplicates(), NearDuplicates()
    found = [stage.found for stage in stages_of((*same, *cuts, *same))]
    assert found == [(), (*same, cuts[0]), (cuts[1],), same]


def test_spans_are_cut_where_they_are_behind_another_cut(tmp_path: Path) -> None:
    asked, same = (" ".join(f"{name}{n}" for n in range(30)) for name in ("asked", "same"))
    (tmp_path / "asked.txt").write_text(asked)
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, before in (("a", ""), ("b", f"{asked}. ")):
        (texts / f"{name}.txt").write_text(f"{before}Only in {name}, one. {same}. And {name} two.")
    cuts = Decontamination(files=(tmp_path / "asked.txt",), window=0, most_documents=1)
    spans = RepeatedSpans(span=1, least_words=1)
    counts = Pipeline(recipe(tmp_path, cuts, spans), InThisProcess()).run()
    assert [one["text"] for one in kept(tmp_path / "run")] == [
        f"Only in a, one. {same}. And a two.",
        "Only in b, one. And b two.",
    ]
    changed = sum((one.changed for one in counts), Counter[str]())
    assert changed == {"decontamination: cut": 1, "repeated_spans: repeated": 1}


def test_documents_go_through_all_steps(tmp_path: Path) -> None:
    told: list[Progress] = []
    counts = Pipeline(
        recipe(tmp_path, Short(), Same(), Upper()), InThisProcess(), told.append
    ).run()
    first, last = counts
    assert first.documents == 60
    assert first.dropped == {"short: letters": 12}
    assert last.dropped == {"same: copy": 16}, "from 040 on all repeat, and four are short"
    assert last.kept == 32
    assert last.changed == {"upper: shouted": 32}
    documents = kept(tmp_path / "run")
    assert [one["id"] for one in documents] == sorted(one["id"] for one in documents)
    assert all("SHOUT" in one["text"] and one["metadata"]["of"] == 48 for one in documents)
    assert told[-1].bytes == told[-1].total_bytes > 0
    assert not [*(tmp_path / "run").glob("stage-*")], "what is between is removed"
    dropped = (tmp_path / "run" / "dropped").glob("*.jsonl")
    lines = [json.loads(line) for file in sorted(dropped) for line in file.read_text().splitlines()]
    assert len(lines) == 12 + 16
    copies = [line for line in lines if line["step"] == "same"]
    assert {line["id"]: line["detail"] for line in copies}["texts/041.txt"] == "of texts/001.txt"


def test_what_is_made_goes_through_the_steps_that_follow(tmp_path: Path) -> None:
    (counts,) = Pipeline(recipe(tmp_path, Short(), Echo(), Upper()), InThisProcess()).run()
    assert counts.made == {"echo": 48}
    assert counts.kept == 96
    made = [one for one in kept(tmp_path / "run") if one["id"].endswith("/echo")]
    assert len(made) == 48
    assert all("shout" not in one["text"] for one in made)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_bytes_for_any_number_of_processes(tmp_path: Path, workers: int) -> None:
    Pipeline(recipe(tmp_path, *STEPS, run="one"), InThisProcess()).run()
    executor = LocalExecutor(workers, WorkerLimits())
    Pipeline(recipe(tmp_path, *STEPS, run="many"), executor).run()
    assert outputs_of(tmp_path / "one") == outputs_of(tmp_path / "many") != {}


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_a_stopped_run_goes_on(tmp_path: Path, stop: int) -> None:
    whole = Pipeline(recipe(tmp_path, *STEPS, run="whole"), InThisProcess()).run()
    stopped = recipe(tmp_path, *STEPS, run="stopped")
    with pytest.raises(KeyboardInterrupt):
        Pipeline(stopped, InThisProcess(seed=1, most=stop)).run()
    with pytest.raises(ConfigError, match="--resume"):
        Pipeline(stopped, InThisProcess()).run()
    again = Pipeline(stopped, InThisProcess(seed=2)).run(resume=True)
    assert again == whole
    assert outputs_of(tmp_path / "stopped") == outputs_of(tmp_path / "whole")
    assert Pipeline(stopped, InThisProcess(most=0)).run(resume=True) == whole, "it is done"


def test_a_run_goes_on_only_with_its_own_recipe_and_files(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())
    with pytest.raises(ConfigError, match="no run to go on with"):
        Pipeline(given, InThisProcess()).run(resume=True)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(given, InThisProcess(most=1)).run()
    with pytest.raises(ConfigError, match="keeps other documents than that of the run"):
        Pipeline(recipe(tmp_path, Short(least=30)), InThisProcess()).run(resume=True)
    (tmp_path / "texts" / "003.txt").write_text("something else")
    with pytest.raises(ConfigError, match=r"1 files are not what they were.*003\.txt"):
        Pipeline(given, InThisProcess()).run(resume=True)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 60 documents is kept"):
        Pipeline(recipe(tmp_path, Short(least=10_000)), InThisProcess()).run()


def terrible(tmp_path: Path, *words: str) -> None:
    folder = tmp_path / "texts"
    corpus(folder)
    for number, word in enumerate(words):
        (folder / f"{10 * number:03d}.txt").write_text(f"{word} and a text that follows the word")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("hang", "took longer than 1 s"),
        ("crash", "signal 11"),
        ("exit", "status 3"),
        ("memory", "MemoryError"),
        ("raise", "ValueError: told to"),
    ],
)
def test_one_bad_document_does_not_stop_the_others(tmp_path: Path, word: str, why: str) -> None:
    terrible(tmp_path, "good", word)
    executor = LocalExecutor(2, WorkerLimits(seconds=1))
    (counts,) = Pipeline(recipe(tmp_path, Terrible(), Short()), executor).run()
    assert counts.documents == 59
    ((name, told),) = counts.refused
    assert name == "texts/010.txt"
    assert why in told
    lost = word in ("hang", "crash", "exit")
    incidents = (tmp_path / "run" / INCIDENTS).read_text() if lost else "010.txt"
    assert "010.txt" in incidents
    assert incidents.count("010.txt") == (2 if lost else 1)


def test_what_is_lost_later_is_told_by_its_own_name(tmp_path: Path) -> None:
    """In later stages tasks have lines that the stage before has kept."""
    terrible(tmp_path, "good", "crash")
    executor = LocalExecutor(1, WorkerLimits())
    counts = Pipeline(recipe(tmp_path, Short(), Same(), Terrible()), executor).run()
    assert [name for name, _ in counts[1].refused] == ["texts/010.txt"]
    lines = (tmp_path / "run" / INCIDENTS).read_text().splitlines()
    assert [json.loads(line)["what"].partition(":")[0] for line in lines] == ["texts/010.txt"] * 2


def test_a_step_that_fails_to_make_documents_costs_those_alone(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("good and long enough")
    (counts,) = Pipeline(recipe(tmp_path, Clumsy(), Terrible()), InThisProcess()).run()
    assert [one["id"] for one in kept(tmp_path / "run")] == ["texts/a.txt~1", "texts/a.txt"]
    assert counts.made == {"clumsy": 1}
    assert counts.refused == [
        ("texts/a.txt~0", "ValueError: told to"),
        ("texts/a.txt~clumsy", "ValueError: a third one does not fit"),
    ]


def test_a_model_that_cannot_be_loaded_stops_the_run(tmp_path: Path) -> None:
    terrible(tmp_path, "unloadable")
    with pytest.raises(CheckpointError, match="the model is damaged"):
        Pipeline(recipe(tmp_path, Terrible()), InThisProcess()).run()


def test_a_task_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    """Its process may have been lost between the last file and the answer."""
    given = recipe(tmp_path, Short(), Same(), Upper())

    class Twice(InThisProcess):
        def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
            for one in super().map(job, tasks):
                assert job(one.task, {}, lambda piece, document: None) == one.counts
                yield one

    Pipeline(given, Twice()).run()
    assert len(kept(tmp_path / "run")) == 32


def test_a_process_that_died_by_chance_costs_nothing(tmp_path: Path) -> None:
    terrible(tmp_path, "good", "crash")
    executor = LocalExecutor(1, WorkerLimits())
    once = tmp_path / "once"
    once.mkdir()
    (counts,) = Pipeline(recipe(tmp_path, Terrible(once=once), Short()), executor).run()
    assert counts.refused == []
    assert counts.documents == 60


def test_processes_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What parsers keep of what they have seen must not grow with the corpus."""
    monkeypatch.setattr("everlong.curation.workers._TASKS", 3)
    given = recipe(tmp_path, Where())
    Pipeline(given, LocalExecutor(2, WorkerLimits())).run()
    files = sorted((tmp_path / "run" / "documents").glob("*.jsonl"))
    processes = [json.loads(file.read_text().splitlines()[0])["metadata"] for file in files]
    counts = Counter(one["process"] for one in processes)
    assert len(files) > 6
    assert max(counts.values()) == 3


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    terrible(tmp_path, "good", "good", "good", "full")
    given = recipe(tmp_path, Terrible(), Short())
    with pytest.raises(OSError, match="No space left"):
        Pipeline(given, LocalExecutor(1, WorkerLimits())).run()
    done = [*(tmp_path / "run").glob("stage-0/*.counts.json")]
    assert done
    assert not [*(tmp_path / "run").rglob("*.partial")]
    assert not (tmp_path / "run" / COUNTS).exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short())

    class Nosy(InThisProcess):
        def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
            with pytest.raises(EverlongError, match="is held by"):
                Pipeline(given, InThisProcess()).run(resume=True)
            yield from super().map(job, tasks)

    Pipeline(given, Nosy()).run()


def test_stores_know_runs_by_what_they_read_and_do(tmp_path: Path) -> None:
    given = recipe(tmp_path, Short(), ExactDuplicates())
    known = _known(given)
    (source,) = given.sources
    shutil.copytree(tmp_path / "texts", tmp_path / "copy")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "1.txt").write_text("one more")
    same: list[dict[str, Any]] = [
        {"run": tmp_path / "other"},
        {"workers": Workers(3), "task_bytes": 7, "seed": 1, "tokens": Tokens("gpt2")},
        {"sources": (replace(source, paths=(tmp_path / "copy",), licence="MIT"),)},
        {"steps": (Short(), ExactDuplicates(store=tmp_path))},
        {"steps": (Short(least=20), ExactDuplicates())},
    ]
    for change in same:
        assert _known(replace(given, **change)) == known, change
    different: list[dict[str, Any]] = [
        {"sources": (replace(source, name="other"),)},
        {"sources": (replace(source, skips=("short",)),)},
        {"sources": (replace(source, paths=(*source.paths, tmp_path / "more")),)},
        {"reading": Limits(pages=5)},
        {"steps": (ExactDuplicates(), Short())},
        {"steps": (Short(), ExactDuplicates(case=True))},
        {"steps": (Short(least=30), ExactDuplicates())},
        {"steps": (Short(),)},
    ]
    found = {_known(replace(given, **change)) for change in different}
    (tmp_path / "texts" / "001.txt").write_text("something else")
    found.add(_known(given))
    assert len(found - {known}) == len(different) + 1


def _known(given: Curation) -> str:
    return known_as(given, inputs_of(given))


def test_counts_are_the_same_from_their_file(tmp_path: Path) -> None:
    counts = Pipeline(recipe(tmp_path, *STEPS[:3]), InThisProcess()).run()
    path = tmp_path / "counts.json"
    path.write_bytes(counts[0].to_json())
    assert Counts.load(path) == counts[0]
    assert Counts() + counts[0] == counts[0]


@pytest.mark.skipif(sys.platform == "win32", reason="kills process groups")
def test_killed_at_random_moments_the_bytes_are_the_same(tmp_path: Path) -> None:
    given = recipe(tmp_path, *STEPS, run="whole")
    Pipeline(given, InThisProcess()).run()
    program = (
        "import sys; from pathlib import Path; from tests.curation import test_pipeline as t\n"
        "from everlong.curation.pipeline import Pipeline\n"
        "from everlong.curation.workers import LocalExecutor, WorkerLimits\n"
        "if __name__ == '__main__':\n"
        "    given = t.recipe(Path(sys.argv[1]), *t.STEPS, run='killed')\n"
        "    Pipeline(given, LocalExecutor(2, WorkerLimits())).run(resume=sys.argv[2] == 'on')\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    chance, begun, kills = random.Random(3), "new", 0
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    while True:
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), begun],
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            process.wait(timeout=chance.uniform(0.3, 1.5) if kills < 4 else 60)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.05)
            begun = "on" if (tmp_path / "killed" / "tasks.json").exists() else "new"
    assert process.returncode == 0
    assert kills
    assert outputs_of(tmp_path / "killed") == outputs_of(tmp_path / "whole")
