"""Opening whole checkpoints, in either format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from everlong.checkpoint import GenerationDefaults, open_checkpoint
from everlong.checkpoint.hf_config import config_to_json
from everlong.checkpoint.names import expected_tensors
from everlong.errors import CheckpointError, UnsupportedError
from everlong.model.config import ModelConfig
from tests.checkpoint.samples import (
    SPECIAL_TOKENS,
    dequantize,
    random_rows,
    random_tensors,
    tiny_config,
    tiny_gguf,
    write_tokenizer,
)


def write_folder(
    folder: Path, config: ModelConfig, tensors: dict[str, torch.Tensor] | None = None
) -> Path:
    """A model folder as the safetensors package writes its weights."""
    folder.mkdir(exist_ok=True)
    if tensors is None:
        tensors = {k: torch.from_numpy(v) for k, v in random_tensors(config).items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_to_json(config, "float32")))
    return folder


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("type_", ["F32", "Q4_0", "Q6_K"])
def test_a_gguf_file_has_the_original_rows_under_the_original_names(
    tmp_path: Path, family: str, type_: str
) -> None:
    config = tiny_config(family, qkv_bias=family != "qwen3", num_kv_heads=1)
    checkpoint = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", config, type_))
    assert checkpoint.format == "gguf"
    assert checkpoint.config == config
    originals = random_tensors(config)
    assert list(checkpoint.tensors) == list(originals)
    for seed, (name, original) in enumerate(originals.items()):
        expected = original
        if original.ndim == 2 and type_ != "F32":
            expected = dequantize(random_rows(type_, original, seed), type_)
            groups = checkpoint.tensors[name].groups()
            assert groups is not None
            assert np.array_equal(groups.dense().numpy(), expected), name
        assert np.array_equal(checkpoint.tensors[name].dense().numpy(), expected), name
    assert checkpoint.nbytes == sum(t.nbytes for t in checkpoint.tensors.values())


def test_rows_that_llama_cpp_reorders_are_only_those_of_queries_and_keys(tmp_path: Path) -> None:
    for family, reordered in (("llama", {"q_proj", "k_proj"}), ("qwen2", set())):
        config = tiny_config(family)
        checkpoint = open_checkpoint(tiny_gguf(tmp_path / f"{family}.gguf", config))
        moved = {n.split(".")[-2] for n, t in checkpoint.tensors.items() if t.order is not None}
        assert moved == reordered


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_folder(tmp_path: Path, family: str) -> None:
    config = tiny_config(family, tied_head=False)
    checkpoint = open_checkpoint(write_folder(tmp_path / "m", config))
    assert checkpoint.format == "huggingface"
    assert checkpoint.config == config
    for name, expected in random_tensors(config).items():
        assert np.array_equal(checkpoint.tensors[name].dense().numpy(), expected)


def test_a_sharded_folder(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_folder(tmp_path / "m", config)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i, (name, values) in enumerate(random_tensors(config).items()):
        shard = f"model-{i:05d}.safetensors"
        save_file({name: torch.from_numpy(values)}, folder / shard)
        weight_map[name] = shard
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = open_checkpoint(folder)
    for name, expected in random_tensors(config).items():
        assert np.array_equal(checkpoint.tensors[name].dense().numpy(), expected)


def test_what_does_not_matter_may_be_there(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = {k: torch.from_numpy(v) for k, v in random_tensors(config).items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(32)
    checkpoint = open_checkpoint(write_folder(tmp_path / "m", config, tensors))
    assert set(checkpoint.tensors) == set(expected_tensors(config))


def test_a_model_saved_without_its_head_has_names_without_prefix(tmp_path: Path) -> None:
    config = tiny_config("qwen3")
    tensors = {
        name.removeprefix("model."): torch.from_numpy(values)
        for name, values in random_tensors(config).items()
    }
    checkpoint = open_checkpoint(write_folder(tmp_path / "m", config, tensors))
    assert list(checkpoint.tensors) == list(expected_tensors(config))


def changed(config: ModelConfig, **changes: Any) -> dict[str, torch.Tensor]:
    tensors = {k: torch.from_numpy(v) for k, v in random_tensors(config).items()}
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({DOWN: None}, "lacks the tensor 'model.layers.1.mlp.down_proj.weight'"),
        ({DOWN: torch.ones(256, 511)}, r"has the shape \(256, 511\).* implies \(256, 512\)"),
        ({DOWN: torch.ones(512, 256)}, r"has the shape \(512, 256\)"),
        ({"model.layers.2.mlp.up_proj.weight": torch.ones(1)}, "does not imply"),
        ({"extra": torch.ones(1)}, "has the tensor 'extra'"),
        ({"lm_head.bias": torch.ones(1)}, "'lm_head.bias'"),
        ({DOWN: torch.ones(256, 512, dtype=torch.int8)}, "has the type I8; supported: F32"),
    ],
)
def test_tensors_that_do_not_fit_the_configuration(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = tiny_config()
    folder = write_folder(tmp_path / "m", config, changed(config, **changes))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_many_missing_tensors_are_counted_and_not_listed(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_folder(tmp_path / "m", config)
    longer = config_to_json(tiny_config(num_layers=9), "float32")
    (folder / "config.json").write_text(json.dumps(longer))
    with pytest.raises(CheckpointError, match=r"lacks tensors .* and 60 more") as caught:
        open_checkpoint(folder)
    assert len(str(caught.value)) < 500


def test_tensors_of_a_gguf_file_that_do_not_fit(tmp_path: Path) -> None:
    config = tiny_config()
    extra = {"blk.0.ffn_gate_inp.weight": np.ones((2, 4), np.float32)}
    path = tiny_gguf(tmp_path / "m.gguf", config, extra=extra)
    with pytest.raises(CheckpointError, match=r"'blk\.0\.ffn_gate_inp\.weight'"):
        open_checkpoint(path)
    path = tiny_gguf(tmp_path / "n.gguf", config, entries={"llama.block_count": 3})
    with pytest.raises(CheckpointError, match=r"lacks tensors 'blk\.2\."):
        open_checkpoint(path)
    path = tiny_gguf(tmp_path / "o.gguf", config, entries={"llama.attention.head_count_kv": 1})
    with pytest.raises(CheckpointError, match=r"blk\.0\.attn_k\.weight has the shape"):
        open_checkpoint(path)


def test_tokenizers_come_from_either_format(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_folder(tmp_path / "m", config)
    write_tokenizer(folder)
    for path in (folder, tiny_gguf(tmp_path / "m.gguf", config)):
        tokenizer = open_checkpoint(path).tokenizer()
        ids = tokenizer.encode("hé<|im_end|>")
        assert len(tokenizer.encode("abcd")) == 2
        assert ids[-1] == 258 + SPECIAL_TOKENS.index("<|im_end|>")
        assert tokenizer.decode(ids) == "hé"
        assert ids[-1] in tokenizer.eos_token_ids


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config(vocab_size=256))
    with pytest.raises(CheckpointError, match="261 tokens, but the embedding has only 256 rows"):
        open_checkpoint(path).tokenizer()


def test_a_damaged_tokenizer_in_a_gguf_file_names_the_file(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config(), entries={"tokenizer.ggml.model": "x"})
    with pytest.raises(UnsupportedError, match=r"m\.gguf: tokenizer\.ggml\.model"):
        open_checkpoint(path).tokenizer()


def test_generation_defaults_of_either_format(tmp_path: Path) -> None:
    config = tiny_config()
    folder = write_folder(tmp_path / "m", config)
    assert open_checkpoint(folder).generation == GenerationDefaults()
    values = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1}
    (folder / "generation_config.json").write_text(json.dumps({**values, "do_sample": True}))
    expected = GenerationDefaults(temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.1)
    assert open_checkpoint(folder).generation == expected
    (folder / "generation_config.json").write_text('{"top_k": "many"}')
    with pytest.raises(CheckpointError, match="top_k must be a whole number"):
        open_checkpoint(folder)
    entries = {"general.sampling.temp": 0.5, "general.sampling.top_k": 7}
    path = tiny_gguf(tmp_path / "m.gguf", config, entries=entries)
    assert open_checkpoint(path).generation == GenerationDefaults(temperature=0.5, top_k=7)


def test_reading_again_after_release_gives_the_same(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))
    before = checkpoint.tensors["model.embed_tokens.weight"].dense()
    checkpoint.release()
    assert torch.equal(checkpoint.tensors["model.embed_tokens.weight"].dense(), before)


def test_a_folder_with_one_gguf_file_stands_for_it(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    assert open_checkpoint(tmp_path).path == path
    tiny_gguf(tmp_path / "n.gguf", tiny_config())
    with pytest.raises(CheckpointError, match="holds several GGUF files"):
        open_checkpoint(tmp_path)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"neither config\.json nor a GGUF file"):
        open_checkpoint(tmp_path)
    (tmp_path / "notes.txt").write_text("hello, this is no model at all")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not a GGUF file"):
        open_checkpoint(tmp_path / "notes.txt")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match="is an adapter"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="does not hold a JSON object"):
        open_checkpoint(tmp_path)
