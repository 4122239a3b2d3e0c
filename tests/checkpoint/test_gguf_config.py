"""GGUF metadata and tensors -> architecture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from everlong.checkpoint.gguf import GGUFFile
from everlong.checkpoint.gguf_config import config_from_gguf
from everlong.errors import CheckpointError, UnsupportedError
from everlong.model.config import ModelConfig, RopeConfig
from tests.checkpoint.samples import qwen_path, smollm2_path, tiny_config, tiny_gguf


def written(tmp_path: Path, config: ModelConfig, **more: Any) -> ModelConfig:
    path = tiny_gguf(tmp_path / "m.gguf", config, "F16", **more)
    return config_from_gguf(GGUFFile(path))


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("llama"),
        tiny_config("llama", tied_head=False, norm_eps=1e-6, head_dim=32),
        tiny_config("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
        tiny_config("qwen2", rope=RopeConfig(theta=1e6)),
        tiny_config("qwen3", tied_head=False, num_kv_heads=4),
    ],
)
def test_a_family_is_read_as_it_was_written(tmp_path: Path, config: ModelConfig) -> None:
    assert written(tmp_path, config) == config


@pytest.mark.parametrize(
    ("entries", "rope", "window"),
    [
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, RopeConfig(), 128),
        ({"rope.scaling.factor": 4.0}, RopeConfig(scaling="linear", factor=4.0), 128),
        ({"rope.scale_linear": 2.5}, RopeConfig(scaling="linear", factor=2.5), 128),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 128,
                "rope.scaling.yarn_beta_fast": 16.0,
            },
            RopeConfig(scaling="yarn", factor=4.0, original_max_position=128, beta_fast=16.0),
            512,
        ),
    ],
)
def test_rotary_scaling(
    tmp_path: Path, entries: dict[str, Any], rope: RopeConfig, window: int
) -> None:
    prefixed = {f"llama.{key}": value for key, value in entries.items()}
    config = written(tmp_path, tiny_config(), entries=prefixed)
    assert config.rope == rope
    assert config.max_position == window


def llama3_divisors(head_dim: int, theta: float, **rule: float) -> np.ndarray:
    """What transformers divides the frequencies by, as llama.cpp's converter stores it."""
    base = {"rope_theta": theta, "rope_type": "default"}
    scaled = {"rope_theta": theta, "rope_type": "llama3", **rule}
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters=scaled)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = base["rope_theta"] ** -(torch.arange(0, head_dim, 2).double() / head_dim)
    return (plain / frequencies.double()).float().numpy()


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_bands_of_llama3_are_recognised(tmp_path: Path, factor: float) -> None:
    divisors = llama3_divisors(
        64,
        5e5,
        factor=factor,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    assert 1.0 in divisors
    config = written(
        tmp_path,
        tiny_config(rope=RopeConfig(theta=5e5)),
        extra={"rope_freqs.weight": divisors},
    )
    assert config.rope == RopeConfig(5e5, "llama3", factor, 8192)


def test_divisors_of_one_change_nothing(tmp_path: Path) -> None:
    ones = np.ones(32, np.float32)
    config = written(tmp_path, tiny_config(), extra={"rope_freqs.weight": ones})
    assert config.rope == RopeConfig()


@pytest.mark.parametrize(
    "divisors",
    [
        np.linspace(1, 8, 32, dtype=np.float32),
        np.full(32, math.nan, np.float32),
        np.full(32, math.inf, np.float32),
        llama3_divisors(
            64,
            10_000.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=4096,
        ),
    ],
)
def test_other_divisors_are_refused(tmp_path: Path, divisors: np.ndarray) -> None:
    with pytest.raises(UnsupportedError, match="another rule than Llama 3"):
        written(tmp_path, tiny_config(), extra={"rope_freqs.weight": divisors})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"general.architecture": "gemma3"}, "supported in GGUF files: llama, qwen2, qwen3"),
        ({"llama.expert_count": 8}, "mixtures of experts"),
        ({"llama.attention.value_length": 32}, "value_length other than 64"),
        ({"llama.rope.dimension_count": 32}, "dimension_count other than 64"),
        ({"llama.attention.sliding_window": 16}, "sliding windows"),
        ({"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0}, "'longrope'"),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": 2.0,
                "llama.rope.scaling.attn_factor": 1.5,
            },
            "yarn with attn_factor",
        ),
    ],
)
def test_what_is_not_implemented_is_refused(
    tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        written(tmp_path, tiny_config(), entries=entries)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"llama.block_count": 2**32 - 1}, "from 1 to 4096"),
        ({"llama.embedding_length": "256"}, "must be a whole number"),
        ({"llama.attention.head_count": 0}, "must be a whole number from 1"),
        ({"llama.attention.head_count_kv": 3}, "multiple of"),
        ({"llama.attention.layer_norm_rms_epsilon": math.nan}, "must be a finite number"),
        ({"llama.rope.freq_base": math.inf}, "must be a finite number"),
        ({"llama.rope.scaling.factor": 0.5}, "factor must be at least 1"),
    ],
)
def test_values_that_cannot_be_are_named(
    tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        written(tmp_path, tiny_config(), entries=entries)


def test_smollm2() -> None:
    assert config_from_gguf(GGUFFile(smollm2_path())) == ModelConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        max_position=8192,
        norm_eps=1e-5,
        rope=RopeConfig(theta=100_000.0),
        tied_head=True,
        family="llama",
    )


def test_qwen() -> None:
    config = config_from_gguf(GGUFFile(qwen_path()))
    assert config.family == "qwen2"
    assert config.qkv_bias
    assert config.norm_eps == 1e-6
    assert config.rope.theta == 1e6
