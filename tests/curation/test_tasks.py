"""Which files are read, once each, and by what names."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.pipeline import Pipeline
from everlong.curation.recipe import Curation
from everlong.curation.run import curate
from everlong.curation.shards import TRAINING
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
