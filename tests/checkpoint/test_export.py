"""The written folders are models to transformers, to the safetensors package and to us."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.export import export
from everlong.errors import CheckpointError, ConfigError
from tests.checkpoint.samples import (
    SPECIAL_TOKENS,
    TEMPLATE,
    tiny_config,
    tiny_gguf,
    write_tokenizer,
)

SIZES = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 260,
    "pad_token_id": None,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama with biases": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=16)
    ),
    "llama 3": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**{**SIZES, "tie_word_embeddings": True})),
    "qwen2 with windows": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1)
    ),
    "qwen2 with yarn": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, rope_parameters={**YARN, "original_max_position_embeddings": 32})
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
}


def load(folder: Path) -> Any:
    """Load with transformers, which must not miss or ignore a tensor."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def logits(model: Any) -> Tensor:
    ids = torch.arange(40)[None] * 7 % 264
    with torch.no_grad():
        return model(ids).logits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose weights the tests write."""
    (tmp_path / "source").mkdir()
    write_tokenizer(tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_survives_there_and_back(
    folder: Path, tmp_path: Path, name: str
) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # norms and biases too
    model.save_pretrained(folder)
    checkpoint = open_checkpoint(folder)
    state = model.state_dict()
    for stored in checkpoint.tensors.values():
        assert torch.equal(stored.dense(), state[stored.name])
    export(checkpoint, tmp_path / "out", dtype="float32")
    again = load(tmp_path / "out")
    assert type(again) is type(model)
    assert torch.equal(logits(again), logits(model))
    assert open_checkpoint(tmp_path / "out").config == checkpoint.config


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_gguf_file_becomes_a_model_of_transformers(tmp_path: Path, family: str) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config(family), "Q4_1"))
    export(source, tmp_path / "out", dtype="float32")
    state = load(tmp_path / "out").state_dict()
    for name, tensor in source.tensors.items():
        assert torch.equal(state[name], tensor.dense()), name
    assert open_checkpoint(tmp_path / "out").config == source.config


def test_the_tokenizer_of_a_gguf_file_is_written(tmp_path: Path) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))
    export(source, tmp_path / "out")
    ours, theirs = open_checkpoint(tmp_path / "out").tokenizer(), source.tokenizer()
    text = "abcd é\n<|im_end|>x"
    assert ours.encode(text) == theirs.encode(text)
    assert ours.eos_token_ids == theirs.eos_token_ids
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == TEMPLATE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about itself
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.encode(text) == ours.encode(text)
    assert loaded.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "hi<|im_end|>"
    )


def test_the_tokenizer_of_a_folder_is_copied(folder: Path, tmp_path: Path) -> None:
    MODELS["llama"]().save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    export(open_checkpoint(folder), tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_are_rounded_once_to_the_asked_type(tmp_path: Path, dtype: str) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config(), "Q6_K"))
    export(source, tmp_path / "out", dtype=dtype)
    written = load_file(tmp_path / "out" / "model.safetensors")
    kind = getattr(torch, dtype)
    assert set(written) == set(source.tensors)
    for name, tensor in source.tensors.items():
        assert torch.equal(written[name], tensor.dense().to(kind)), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == dtype


def test_shards_and_progress(tmp_path: Path) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))
    seen: list[tuple[int, int]] = []
    limit = 400_000
    export(
        source,
        tmp_path / "out",
        dtype="float32",
        max_shard_bytes=limit,
        progress=lambda done, total: seen.append((done, total)),
    )
    total = sum(4 * tensor.dense().numel() for tensor in source.tensors.values())
    assert seen[-1] == (total, total)
    assert len(seen) == len(source.tensors)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 3
    for shard in shards:
        tensors = load_file(tmp_path / "out" / shard)
        size = sum(t.numel() * 4 for t in tensors.values())
        assert size <= limit or len(tensors) == 1
        assert all(index["weight_map"][name] == shard for name in tensors)
    state = load(tmp_path / "out").state_dict()
    for name, tensor in open_checkpoint(tmp_path / "out").tensors.items():
        assert torch.equal(tensor.dense(), source.tensors[name].dense())
        assert torch.equal(tensor.dense(), state[name])


def test_ids_and_sampling_defaults_are_written(tmp_path: Path) -> None:
    entries = {"general.sampling.temp": 0.5, "general.sampling.top_k": 7}
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config(), entries=entries)
    export(open_checkpoint(path), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert written == {
        "eos_token_id": [258 + SPECIAL_TOKENS.index(t) for t in ("<|endoftext|>", "<|im_end|>")],
        "temperature": 0.5,
        "top_k": 7,
        "do_sample": True,
    }


def test_a_folder_in_use_and_wrong_options_are_refused(tmp_path: Path) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))
    with pytest.raises(ConfigError, match="exists already"):
        export(source, tmp_path)
    with pytest.raises(ConfigError, match="allowed: float32, float16, bfloat16"):
        export(source, tmp_path / "out", dtype="int4")
    with pytest.raises(ConfigError, match="max_shard_bytes must be positive"):
        export(source, tmp_path / "out", max_shard_bytes=0)
    (tmp_path / "out").mkdir()
    export(source, tmp_path / "out")
    assert (tmp_path / "out" / "config.json").exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))

    def disk_full(done: int, total: int) -> None:
        if done > total // 2:
            raise OSError("no space left")

    with pytest.raises(CheckpointError, match="cannot be written: no space left"):
        export(source, tmp_path / "out", progress=disk_full)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
