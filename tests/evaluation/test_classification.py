"""Heads that are trained on a model's states."""

from __future__ import annotations

from pathlib import Path

import torch

from everlong.evaluation.classification import Head, HeadTask
from everlong.evaluation.data import Data
from everlong.evaluation.runner import evaluate
from everlong.evaluation.task import Settings
from everlong.evaluation.tasks.understanding import sst2
from everlong.evaluation.tasks.understanding.labelled import in_words, part_of, table
from tests.engine.tiny import tiny_llm


def test_a_head_learns_what_can_be_told_and_nothing_else() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 16, generator=draw) * 2
    labels = torch.randint(0, 3, (400,), generator=draw)
    states = centres[labels] + torch.randn(400, 16, generator=draw)
    head = Head.fit(states[:300], labels[:300], seed=0)
    assert (head.predict(states[300:]) == labels[300:]).float().mean() > 0.9
    shuffled = labels[torch.randperm(400, generator=draw)]
    head = Head.fit(states[:300], shuffled[:300], seed=0)
    assert (head.predict(states[300:]) == shuffled[300:]).float().mean() < 0.5


def write(folder: Path) -> None:
    place = folder / "sentence_classification"
    place.mkdir()
    for part, count in (("train", 60), ("test", 20)):
        lines = [f"{n % 2} {'äöü ' * 5 if n % 2 else '0123 ' * 5}{n}" for n in range(count)]
        (place / f"stsa.binary.{part}.txt").write_text("\n".join(lines) + "\n")


def test_a_trained_head_is_a_task(tmp_path: Path) -> None:
    write(tmp_path)
    task: HeadTask = sst2.HEAD
    with tiny_llm("float32") as llm:
        result = evaluate(llm, task, Data(tmp_path), kept=tmp_path / "kept")
        assert result.metrics["accuracy"].mean >= 0.9
        assert result.samples[0].record["target"] in ("0", "1")
        assert len(result.data) == 2
        # Another training part gives other answers: nothing is found.
        path = tmp_path / "sentence_classification/stsa.binary.train.txt"
        path.write_text(path.read_text() + "0 one more\n")
        assert evaluate(llm, task, Data(tmp_path), kept=tmp_path / "kept").answered == 20


def test_labels_are_options_in_words(tmp_path: Path) -> None:
    write(tmp_path)
    (first, *_) = sst2.TASK.examples(Data(tmp_path), Settings(shots=2))
    assert [text for _, text in first.options] == [" negative", " positive"]
    assert first.options[0][0].count("Sentiment: negative") == 1
    assert first.options[0][0].count("Sentiment: positive") == 1
    assert in_words("AddToPlaylist") == in_words("add_to_playlist") == "add to playlist"


def test_a_set_in_one_piece_is_split_the_same_way_each_time(tmp_path: Path) -> None:
    lines = "".join(f"text {n}\t{n % 4}\n" for n in range(500))
    (tmp_path / "set.tsv").write_text("text\tlabel\n" + lines)
    whole = table("set.tsv")
    train, test = (part_of(whole, test=t)(Data(tmp_path)) for t in (False, True))
    assert len(train) + len(test) == 500
    assert 110 <= len(test) <= 190
    assert not {t.text for t in train} & {t.text for t in test}


def test_tables_with_quoted_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "set.tsv").write_text('text\tlabel\n"one\ntwo"\ta\n"say ""x"""\tb\n')
    assert [t.text for t in table("set.tsv")(Data(tmp_path))] == ["one\ntwo", 'say "x"']
    (tmp_path / "set.tsv").write_text('text\tlabel\n"quoted" word\ta\n')
    assert [t.text for t in table("set.tsv")(Data(tmp_path))] == ['"quoted" word']
