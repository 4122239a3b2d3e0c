"""Commands that make models and tokenizers."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import torch

from everlong.checkpoint.loading import open_model
from everlong.cli import main
from everlong.config import format_config
from everlong.model.init import initialized
from everlong.tokenizer import load_tokenizer
from everlong.training.kills import shortened
from everlong.training.start import parameters_of
from tests.home import own_home
from tests.training.small import SHAPE, recipe, tokenizer


def test_grow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from everlong.checkpoint.export import export_trained

    model = initialized(SHAPE, seed=3)
    small, deep = tmp_path / "small", tmp_path / "deep"
    export_trained(SHAPE, parameters_of(model), tokenizer(), small, dtype="float32")
    command = ["grow", str(small), str(deep), "--layers", "9", "--heads", "6", "--dtype", "float32"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "2 layers of 4 heads became 9 of 6" in told
    change = re.search(r"logits changed by (\S+) at most", told)
    assert change is not None
    assert float(change[1]) < 1e-5
    tokens = torch.tensor([tokenizer().encode("1 2 3 4 5")])
    grown = open_model(str(deep), "float32").model
    assert (grown.config.num_layers, grown.config.num_heads) == (9, 6)
    torch.testing.assert_close(grown(tokens), model(tokens).detach(), rtol=1e-5, atol=1e-5)
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["grow", str(small), str(tmp_path / "same")]) == 2
    assert "--layers or --heads" in capsys.readouterr().err
    assert main(["grow", str(small), str(tmp_path / "less"), "--layers", "1"]) == 2
    assert "layers are added" in capsys.readouterr().err


def test_a_tokenizer_and_what_words_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": f"one two three {i}"}) + "\n" for i in range(50))
    )
    made = tmp_path / "made"
    texts = str(tmp_path / "texts.jsonl")
    assert main(["tokenizer", str(made), "--texts", texts, "--vocab-size", "300"]) == 0
    told = capsys.readouterr().out
    assert "tokens a word" in told
    assert load_tokenizer(made).decode(load_tokenizer(made).encode("one two")) == "one two"
    with gzip.open(tmp_path / "languages.tsv.gz", "wt") as file:
        file.write("lang\tcategory\ttext\neng\tx\tone two three\nzho\tx\t\u4e00\u4e8c\u4e09\n")
    assert main(["fertility", str(made), "--texts", str(tmp_path / "languages.tsv.gz")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if re.search("eng|zho", line)]
    assert [row.split("│")[1].strip() for row in rows] == ["eng", "zho"]
    assert rows[1].split("│")[4].strip() == "3.00"  # each letter in its three bytes
    (tmp_path / "wrong.jsonl").write_text('{"text": "of no language"}\n')
    assert main(["fertility", str(made), "--texts", str(tmp_path / "wrong.jsonl")]) == 2
    assert "entry 1: needs lang and text; it has text" in capsys.readouterr().err


def test_texts_that_need_no_download(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", str(tmp_path / "one")]) == 0
    assert "manual-held-out.jsonl" in capsys.readouterr().out
    system = {"pages.jsonl", "licences.jsonl"}  # which not every machine has
    files = sorted({path.name for path in (tmp_path / "one").iterdir()} - system)
    assert len(files) == 6
    lines = {
        name: [json.loads(line) for line in (tmp_path / "one" / name).read_text().splitlines()]
        for name in files
    }
    for part in ("manual", "answers", "code"):
        learned, held_out = (
            {one["source"] for one in lines[f"{part}{suffix}.jsonl"]}
            for suffix in ("", "-held-out")
        )
        assert learned
        assert held_out
        assert not learned & held_out
    asked = {
        one["messages"][0]["content"]: one["messages"][1]["content"]
        for name in ("answers.jsonl", "answers-held-out.jsonl")
        for one in lines[name]
    }
    about = [answer for question, answer in asked.items() if "`json.dumps`" in question]
    assert about == ["Serialize ``obj`` to a JSON formatted ``str``."]
    code = [one["text"] for name in files if name.startswith("code") for one in lines[name]]
    assert not any("Serialize ``obj`` to a JSON formatted" in text for text in code)


def test_verify_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLONG_HOME", own_home(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = recipe(tmp_path)
    assert shortened(given, 100) == given
    assert shortened(given, 5).steps == 5
    path = tmp_path / "recipe.yaml"
    path.write_text(format_config(given))
    command = ["verify-resume", str(path), "--kills", "1", "--steps", "12"]
    assert main([*command, "--checkpoint-every", "3"]) == 0
    told = capsys.readouterr()
    assert "kills: 1, in 12 steps" in told.out
    assert "0 bits differ; losses the same, ledger the same" in told.out
    assert not given.run.exists()
