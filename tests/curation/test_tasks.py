"""Which files are read, once each, and by what names."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.curation.counts import Counts
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.language.identification import LanguageFilter
from everlong.curation.pipeline import REFUSED, Pipeline, StageJob, stage_files
from everlong.curation.recipe import Curation
from everlong.curation.run import curate
from everlong.curation.shards import TRAINING
from everlong.curation.stage import LeftOut, stages_of
from everlong.curation.tasks import Source, files_of, plain_name, tasks_of
from everlong.curation.workers import LocalExecutor, WorkerLimits
from everlong.errors import ConfigError
from tests.curation.test_pipeline import InThisProcess, kept


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"The text of {name!r}.")
    return folder


def names(*paths: Path) -> list[str]:
    return [name for name, _, _ in files_of(Source("s", paths))]


def test_what_several_paths_name_is_read_once(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", "a.txt", "b.txt", "c/a.txt")
    assert names(folder, folder / "a.txt") == ["a.txt", "b.txt", "c/a.txt"]
    assert names(folder / "*.txt", folder / "a*.txt") == ["a.txt", "b.txt"]
    assert names(folder / "c", folder / "c" / ".." / "c") == ["a.txt"]
    other = written(tmp_path / "e", "a.txt")
    with pytest.raises(ConfigError, match=r"are both called a\.txt"):
        tasks_of([Source("s", (folder, other))], 100)


def test_a_pattern_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    folder = written(tmp_path / "d", "1/a.txt", "2/a.txt", "2/deep/a.txt", "2/b.md")
    assert names(folder / "**" / "*.txt") == ["1/a.txt", "2/a.txt", "2/deep/a.txt"]
    assert names(folder / "?" / "a.*") == ["1/a.txt", "2/a.txt"]
    assert names(folder / "2" / "*") == ["a.txt", "b.md"]


@pytest.mark.parametrize("name", [".", "..", TRAINING, "Training.yaml", "a\nb", "a\x1b", "a/b", ""])
def test_names_that_no_source_can_have(name: str) -> None:
    with pytest.raises(ConfigError):
        Source(name, (Path("a"),))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a/b c%20.txt", "a/b c%20.txt"),
        ("new\nline.txt", "new%0Aline.txt"),
        (os.fsdecode(b"caf\xe9.txt"), "caf%E9.txt"),
        ("café.txt", "café.txt"),
    ],
)
def test_names_are_in_one_line_and_utf_8(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.skipif(sys.platform != "linux", reason="such names are not allowed elsewhere")
def test_files_with_odd_names_are_read(tmp_path: Path) -> None:
    """Ids are kept one in a line, and looked up by their numbers."""
    odd = ("new\nline.txt", os.fsdecode(b"caf\xe9.txt"), "x\x1b[31m.txt", "z.txt")
    folder = written(tmp_path / "d", *odd)
    (folder / "zz.txt").write_text((folder / "z.txt").read_text())
    store = ExactDuplicates(store=tmp_path / "store")
    given = Curation(tmp_path / "run", (Source("s", (folder,)),), (store,))
    assert curate(given, InThisProcess()).counts[-1].dropped == {"exact_duplicates: same_text": 1}
    ids = ["caf%E9.txt", "new%0Aline.txt", "x%1B[31m.txt", "z.txt"]
    assert [one["id"] for one in kept(given.run)] == [f"s/{name}" for name in ids]
    (dropped,) = (given.run / "dropped").glob("*.jsonl")
    assert json.loads(dropped.read_text())["detail"] == "the same text as s/z.txt"


def test_a_record_with_a_name_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"k\\ud800": 1}\n{"text": "a text"}\n')
    given = Curation(tmp_path / "run", (Source("s", (tmp_path / "a.jsonl",)),))
    (counts,) = Pipeline(given, LocalExecutor(1, WorkerLimits())).run()
    assert counts.refused == [("s/a.jsonl#1", "has no text in text; its fields: k")]
    assert counts.kept == 1


def test_a_language_that_a_record_states_counts_where_no_step_tells_one(tmp_path: Path) -> None:
    text = "It rained all night, and in the morning the road to the village was under water. " * 5
    path = tmp_path / "a.jsonl"
    records = ({"text": text, "language": language} for language in ("swa", "go"))
    path.write_text("\n".join(map(json.dumps, records)))
    given = Curation(tmp_path / "run", (Source("s", (path,)),))
    (counts,) = Pipeline(given, InThisProcess()).run()
    assert counts.parts == {"s sw": len(text), "s ": len(text)}
    told = Curation(tmp_path / "told", given.sources, (LanguageFilter(),))
    (counts,) = Pipeline(told, InThisProcess()).run()
    assert counts.parts == {"s en": 2 * len(text)}


def test_all_that_is_refused_is_in_files_and_some_of_it_in_the_counts(tmp_path: Path) -> None:
    lines = [json.dumps({"content" if number else "text": "a text"}) for number in range(301)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    given = Curation(tmp_path / "run", (Source("s", (tmp_path / "a.jsonl",)),), task_bytes=3000)
    (counts,) = Pipeline(given, InThisProcess()).run()
    files = sorted((given.run / REFUSED).glob("*.jsonl"))
    assert len(files) > 1
    refused = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [one["id"] for one in refused] == [f"s/a.jsonl#{number}" for number in range(2, 302)]
    assert counts.refusals == 300
    assert counts.refused == [(one["id"], one["why"]) for one in refused[:200]]
    assert Counts() + counts + counts == replace(counts + counts, refused=counts.refused)
    older = json.loads(counts.to_json())
    del older["refusals"]
    assert Counts.from_plain(older).refusals == 200, "that had all"


def test_the_rest_of_a_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a text"}\n' * 5)
    (tmp_path / "b.txt").write_text("a text")
    given = Curation(tmp_path / "run", (Source("s", (tmp_path,)),))
    given.run.mkdir()
    stage_files(given.run, 0).folder.mkdir()
    job = StageJob(given, *stages_of(()), tuple(tasks_of(given.sources, given.task_bytes)))
    skip = {(0, 1): LeftOut("it hung"), (0, 3): LeftOut("it hung on", rest=True)}
    counts = job(0, skip, lambda piece, document: None)
    assert counts.refused == [
        ("s/a.jsonl#2", "it hung"),
        ("s/a.jsonl#3+", "the file is not read on: it hung on"),
    ]
    assert counts.documents == 3, "two before, and the next file"
