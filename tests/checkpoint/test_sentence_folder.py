import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.sentence_folder import open_sentence_folder
from everlong.errors import CheckpointError, UnsupportedError
from tests.checkpoint.sentence_folders import CONFIG, MODULES, POOLING, write_folder, write_json


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))


def test_texts_become_windows_of_ids(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    windows = open_sentence_folder(folder).tokenizer.windows
    (cat, marked, empty) = windows(["The cat", "[SEP] \ud800", ""])
    assert cat == [[1, 3, 5, 2]]
    assert 2 not in marked[0][1:-1], "a mark in a text is text"
    assert empty == [[1, 2]]
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 6})
    (long,) = open_sentence_folder(folder).tokenizer.windows(["the cat sat on a red mat"])
    assert [len(ids) for ids in long] == [6, 5]
    assert all(ids[0] == 1 and ids[-1] == 2 for ids in long)


def test_pooling_and_prompts_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    opened = open_sentence_folder(folder)
    assert opened.encoder.config.pooling == "mean"
    assert (opened.query_prompt, opened.document_prompt) == ("", "")
    write_json(folder / "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "passage": "passage: "}},
    )
    opened = open_sentence_folder(folder)
    assert opened.encoder.config.pooling == "cls"
    assert (opened.query_prompt, opened.document_prompt) == ("query: ", "passage: ")


def test_names_with_a_prefix(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    tokens, lengths = torch.tensor([[1, 3, 5, 2]]), torch.tensor([4])
    vector = open_sentence_folder(folder, torch.float32).encoder(tokens, lengths)
    weights = load_file(folder / "model.safetensors")
    save_file({f"bert.{k}": v for k, v in weights.items()}, folder / "model.safetensors")
    again = open_sentence_folder(folder, torch.float32).encoder(tokens, lengths)
    assert torch.equal(vector, again)


def _no_file(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _json(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, value)


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _integers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] = torch.zeros(20, 32, dtype=torch.int8)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_no_file("modules.json"), CheckpointError, "layout of the sentence-transformers"),
        (_no_file("config.json"), CheckpointError, "config.json cannot be read"),
        (_no_file("1_Pooling/config.json"), CheckpointError, "config.json cannot be read"),
        (_no_file("tokenizer.json"), CheckpointError, "there is no .*tokenizer.json"),
        (_no_file("model.safetensors"), CheckpointError, "holds no weights"),
        (_pickled, UnsupportedError, "a pickle"),
        (_integers, UnsupportedError, "has the type I8"),
        (_json("modules.json", {}), CheckpointError, "is not a list of objects"),
        (_json("modules.json", MODULES[:1]), UnsupportedError, "supported: Transformer, Pooling"),
        (
            _json("modules.json", [*MODULES[:2], {"type": "sentence_transformers.models.Dense"}]),
            UnsupportedError,
            "Transformer, Pooling, Dense",
        ),
        (
            _json("modules.json", [MODULES[0], {**MODULES[1], "path": "../1_Pooling"}]),
            CheckpointError,
            "must be the name of a folder",
        ),
        (
            _json("1_Pooling/config.json", {**POOLING, "pooling_mode_max_tokens": True}),
            UnsupportedError,
            "asks for pooling_mode_mean_tokens, pooling_mode_max_tokens",
        ),
        (_json("1_Pooling/config.json", {}), UnsupportedError, "asks for no pooling"),
        (
            _json("config.json", {**CONFIG, "model_type": "t5"}),
            UnsupportedError,
            "'t5'; supported: bert",
        ),
        (
            _json("config.json", {**CONFIG, "position_embedding_type": "relative_key"}),
            UnsupportedError,
            "position_embedding_type 'relative_key'",
        ),
        (
            _json("config.json", {**CONFIG, "num_attention_heads": 5}),
            CheckpointError,
            "must be a multiple of num_heads",
        ),
        (_json("config.json", {**CONFIG, "hidden_size": 64}), CheckpointError, "has the shape"),
        (_json("config.json", {**CONFIG, "num_hidden_layers": 3}), CheckpointError, "lacks"),
        (_json("config.json", {**CONFIG, "vocab_size": 5}), CheckpointError, "has 20 tokens"),
        (
            _json("sentence_bert_config.json", {"max_seq_length": 25}),
            CheckpointError,
            "whole number from 1 to 24",
        ),
        (
            _json("sentence_bert_config.json", {"max_seq_length": 2}),
            CheckpointError,
            "adds 2 tokens to a text, and 2 are allowed",
        ),
        (
            _json("config_sentence_transformers.json", {"prompts": {"query": 3}}),
            CheckpointError,
            "query must be a string",
        ),
    ],
)
def test_what_is_not_read_is_refused(
    tmp_path: Path, change: Callable[[Path], None], error: type[CheckpointError], message: str
) -> None:
    folder = write_folder(tmp_path / "model")
    change(folder)
    with pytest.raises(error, match=message) as raised:
        open_sentence_folder(folder)
    assert raised.type is error


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no folder"):
        open_sentence_folder(tmp_path / "nothing")


def test_the_fingerprint_covers_what_vectors_depend_on(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one")
    first = open_sentence_folder(folder).fingerprint
    assert open_sentence_folder(write_folder(tmp_path / "copy")).fingerprint == first
    seen = {first, open_sentence_folder(write_folder(tmp_path / "two", seed=1)).fingerprint}
    seen.add(open_sentence_folder(folder, torch.float64).fingerprint)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 6})
    seen.add(open_sentence_folder(folder).fingerprint)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", tokenizer)
    seen.add(open_sentence_folder(folder).fingerprint)
    assert len(seen) == 5


def test_the_real_minilm_beside_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference is in the dev extra")
    monkeypatch.delenv("EVERLONG_HOME")
    try:
        path = resolve("minilm-l6")
    except CheckpointError as error:
        pytest.skip(str(error))
    texts = ["What does Maria do on weekends?", "Maria: I paint, and I hike in the hills. " * 4]
    backend = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    model = transformers.BertModel.from_pretrained(path, add_pooling_layer=False).eval()
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-3)):
        opened = open_sentence_folder(path, dtype)
        for text, windows in zip(texts, opened.tokenizer.windows(texts), strict=True):
            ids = backend(text, truncation=False, padding=False)["input_ids"]
            assert windows == [ids]
            tokens = torch.tensor(windows)
            with torch.inference_mode():
                ours = opened.encoder(tokens, torch.tensor([len(ids)]))[0]
                states = model(tokens).last_hidden_state[0].mean(0)
            cosine = float(ours @ states / states.norm())
            assert cosine == pytest.approx(1, abs=tolerance)
