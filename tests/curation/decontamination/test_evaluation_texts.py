from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from everlong.curation.decontamination.evaluation_texts import Item, items_of_file, items_of_task
from everlong.curation.decontamination.word_ngrams import words_of
from everlong.errors import ConfigError, MissingDataError
from tests.evaluation.public_data import public_data


def has(item: Item, text: str) -> bool:
    wanted = words_of(text).hashes.tolist()
    return any(one.tolist() == wanted for one in item.texts)


def test_templates_of_a_task_are_left_out() -> None:
    items = items_of_task("arc_easy", public_data())
    assert len(items) == 2376
    assert items[0].name == "arc_easy 0"
    # The file has "Question: ...\nAnswer:".
    question = (
        "Which statement best explains why photosynthesis is the foundation of most food webs?"
    )
    first = words_of(question).hashes.tolist()
    assert all(text.tolist()[: len(first)] == first for text in items[0].texts)
    assert len({text.tobytes() for text in items[0].texts}) == 4, "one for each option"
    assert items[0].complete


def test_what_was_asked_and_answered_are_texts() -> None:
    items = items_of_task("gsm8k", public_data())
    lines = (public_data() / "gsm8k" / "test.jsonl").read_text("utf-8").splitlines()
    row = json.loads(lines[7])
    assert has(items[7], row["question"])
    assert has(items[7], row["answer"])
    assert not items[7].complete, "each is a part"


def test_labels_that_all_share_are_no_part_of_an_item() -> None:
    items = items_of_task("banking77", public_data())
    assert [len(item.texts) for item in items] == [1] * len(items)
    assert has(items[0], "Can I exchange currencies with this app?"), "without Intent:"


def test_unknown_tasks_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no task 'nothing'; there are: boolq"):
        items_of_task("nothing", tmp_path)
    with pytest.raises(MissingDataError):
        items_of_task("boolq", tmp_path)


def test_rows_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"q": f"Question: what is {one}?", "more": [{"a": one}, f"Answer {one}", f"so {one}"]}
        for one in ("red", "green", "blue")
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    items = items_of_file(path)
    assert [item.name for item in items] == ["a.jsonl 1", "a.jsonl 2", "a.jsonl 3"]
    assert has(items[1], "green"), "without the template"
    assert not has(items[1], "Question: what is green")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.json", json.dumps({"canary": "x", "examples": [{"a": "one two"}, {"a": "three"}]})),
        ("b.json.gz", json.dumps([["one two"], ["three"]])),
        ("b.tsv", "one two\t1\nthree\t2\n"),
        ("b.csv", 'one,"one two"\n"x\ny",three\n'),
        ("b.txt", "intro\none two\n\nthree"),
        ("b.txt.gz", "one two\n\nthree"),
    ],
)
def test_kinds_of_files(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    items = items_of_file(path)
    assert len(items) == 2
    assert has(items[0], "one two")
    assert has(items[1], "three")
    assert not has(items[0], "intro one two intro one two")


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not there"):
        items_of_file(tmp_path / "a.jsonl")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(ConfigError, match=r"\.jsonl, \.json, \.tsv"):
        items_of_file(tmp_path / "a.pdf")
    (tmp_path / "a.json").write_text("3")
    with pytest.raises(ConfigError, match="not what is expected"):
        items_of_file(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{')
    with pytest.raises(ConfigError, match="not what is expected"):
        items_of_file(tmp_path / "a.jsonl")
