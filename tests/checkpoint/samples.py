"""Small checkpoints for tests, written by the packages that others write theirs with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from everlong.checkpoint.catalog import resolve
from everlong.checkpoint.gguf_types import FORMAT_BY_NAME, FORMATS, BlockFormat
from everlong.checkpoint.names import expected_tensors, gguf_name
from everlong.errors import CheckpointError
from everlong.model.config import ModelConfig, RopeConfig

TYPE_NUMBERS = {format_.name: number for number, format_ in FORMATS.items()}
BLOCK_TYPES = [f.name for f in FORMATS.values() if isinstance(f, BlockFormat)]
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"


def tiny_config(family: str = "llama", **changes: Any) -> ModelConfig:
    """Two layers, wide enough for one block of 256 values in a row."""
    values: dict[str, Any] = {
        "vocab_size": 264,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 64,
        "max_position": 128,
        "norm_eps": 1e-5,
        "rope": RopeConfig(theta=10_000.0),
        "qkv_bias": family == "qwen2",
        "qk_norm": family == "qwen3",
        "tied_head": True,
        "family": family,
    }
    return ModelConfig(**(values | changes))


def random_tensors(config: ModelConfig, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Values for all tensors of a model, by Hugging Face name."""
    rng = np.random.default_rng(seed)
    return {
        name: (0.1 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in expected_tensors(config).items()
    }


def random_blocks(type_: str, rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Bytes of a quantised matrix: every integer occurs, and the 16-bit floats are finite."""
    format_ = FORMAT_BY_NAME[type_]
    assert isinstance(format_, BlockFormat)
    rng = np.random.default_rng(seed)
    count = rows * columns // format_.block_values
    blocks = rng.integers(0, 256, (count, format_.block_bytes), dtype=np.uint8)
    floats = {"Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2]}
    for start in floats.get(type_, [0]):
        scale = rng.standard_normal(count).astype(np.float16)
        blocks[:, start : start + 2] = scale.view(np.uint8).reshape(count, 2)
    return blocks.reshape(rows, -1)


def dequantize(stored: NDArray[Any], type_: str) -> NDArray[np.float32]:
    """The gguf package's reading of stored rows."""
    values = quants.dequantize(stored, GGMLQuantizationType(TYPE_NUMBERS[type_]))
    return np.asarray(values, dtype=np.float32)


def interleave(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Reorder rows as llama.cpp's converter does for queries and keys of "llama"."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(rows.shape)


def byte_vocabulary() -> list[str]:
    """The 256 byte tokens of a GPT-2 vocabulary, two merges, then the special ones."""
    return [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "cd", *SPECIAL_TOKENS]


def write_gguf(
    path: Path,
    config: ModelConfig,
    matrices: dict[str, tuple[str, NDArray[Any]]],
    vectors: dict[str, NDArray[np.float32]],
    *,
    entries: dict[str, Any] | None = None,
    extra: dict[str, NDArray[np.float32]] | None = None,
) -> Path:
    """Write a model with the gguf package, as llama.cpp's converter lays it out.

    Args:
        matrices: stored rows and their type, by Hugging Face name, in its order of rows.
        vectors: biases and norms.
        entries: more metadata, or other values: numbers and strings by full key.
        extra: more tensors by GGUF name.
    """
    arch = config.family
    writer = GGUFWriter(path, arch)
    metadata: dict[str, Any] = {
        f"{arch}.block_count": config.num_layers,
        f"{arch}.context_length": config.max_position,
        f"{arch}.embedding_length": config.hidden_size,
        f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_heads,
        f"{arch}.attention.head_count_kv": config.num_kv_heads,
        f"{arch}.attention.key_length": config.head_dim,
        f"{arch}.rope.freq_base": config.rope.theta,
        f"{arch}.attention.layer_norm_rms_epsilon": config.norm_eps,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.eos_token_id": 260,
        "tokenizer.chat_template": TEMPLATE,
    }
    for key, value in (metadata | (entries or {})).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_token_list(byte_vocabulary())
    writer.add_token_types([1] * 258 + [3] * len(SPECIAL_TOKENS))
    writer.add_token_merges(["a b", "c d"])

    def heads(name: str) -> int:
        if arch != "llama":
            return 0
        return {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}.get(
            name.split(".")[-2], 0
        )

    for name, vector in vectors.items():
        stored = interleave(vector, heads(name)) if heads(name) else vector
        writer.add_tensor(gguf_name(name), stored)
    for name, (type_, rows) in matrices.items():
        stored = interleave(rows, heads(name)) if heads(name) else rows
        number = GGMLQuantizationType(TYPE_NUMBERS[type_])
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(stored), raw_dtype=number)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_gguf(path: Path, config: ModelConfig, type_: str = "Q4_0", **more: Any) -> Path:
    """A model whose matrices are random blocks of one type (or floats, rounded to it)."""
    tensors = random_tensors(config)
    vectors = {name: values for name, values in tensors.items() if values.ndim == 1}
    matrices: dict[str, tuple[str, NDArray[Any]]] = {}
    for seed, (name, values) in enumerate(tensors.items()):
        if values.ndim == 2:
            matrices[name] = type_, random_rows(type_, values, seed)
    return write_gguf(path, config, matrices, vectors, **more)


def random_rows(type_: str, values: NDArray[np.float32], seed: int) -> NDArray[Any]:
    """Rows of a type: random blocks, or ``values`` for plain floats."""
    if type_ in BLOCK_TYPES:
        return random_blocks(type_, *values.shape, seed)
    if type_ == "BF16":
        return torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    return values.astype({"F32": np.float32, "F16": np.float16}[type_])


def write_tokenizer(folder: Path) -> None:
    """A ``tokenizer.json`` of bytes, as the tokenizers package writes it."""
    vocabulary = {token: i for i, token in enumerate(byte_vocabulary()[:258])}
    backend = Backend(models.BPE(vocabulary, [("a", "b"), ("c", "d")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL_TOKENS)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')


def smollm2_path() -> Path:
    """The real SmolLM2; skips the test where it is not on this machine."""
    if named := os.environ.get("EVERLONG_SMOLLM2_GGUF"):
        return Path(named)
    try:
        return resolve("smollm2-135m")
    except CheckpointError as error:
        pytest.skip(f"SmolLM2 is not here: {error}")


def qwen_path() -> Path:
    """A real Qwen2.5 in GGUF; skips the test where none is named."""
    named = os.environ.get("EVERLONG_QWEN_GGUF")
    if not named:
        pytest.skip("EVERLONG_QWEN_GGUF names no file")
    return Path(named)
