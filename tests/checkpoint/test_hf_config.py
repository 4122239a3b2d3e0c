"""config.json in the spellings of transformers 4 and 5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from everlong.checkpoint.hf_config import config_from_json, config_to_json
from everlong.errors import CheckpointError, UnsupportedError
from everlong.model.config import ModelConfig, RopeConfig
from tests.checkpoint.samples import tiny_config

SIZES = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA = {"architectures": ["LlamaForCausalLM"], **SIZES}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], **SIZES}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], **SIZES}
MISTRAL = {"architectures": ["MistralForCausalLM"], **SIZES}


def parsed(values: dict[str, Any], **changes: Any) -> ModelConfig:
    return config_from_json({**values, **changes}, "config.json")


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        (LlamaConfig, "LlamaForCausalLM"),
        (MistralConfig, "MistralForCausalLM"),
        (Qwen2Config, "Qwen2ForCausalLM"),
        (Qwen3Config, "Qwen3ForCausalLM"),
    ],
)
def test_what_transformers_writes_is_read_as_it_means_it(
    tmp_path: Path, kind: Any, architecture: str
) -> None:
    theirs = kind(**SIZES, architectures=[architecture], rms_norm_eps=1e-5, sliding_window=7)
    theirs.save_pretrained(tmp_path)
    ours = config_from_json(json.loads((tmp_path / "config.json").read_text()), "config.json")
    assert ours.vocab_size == 100
    assert ours.num_layers == 4
    assert ours.num_kv_heads == 2
    assert ours.norm_eps == 1e-5
    assert ours.tied_head is theirs.tie_word_embeddings
    assert ours.head_dim == (theirs.head_dim if hasattr(theirs, "head_dim") else 16)
    assert ours.rope == RopeConfig(theta=theirs.rope_parameters["rope_theta"])
    assert ours.qkv_bias is (kind is Qwen2Config)
    assert ours.qk_norm is (kind is Qwen3Config)
    assert ours.windows == ((7,) * 4 if kind is MistralConfig else ())


def test_a_configuration_without_architectures_is_known_by_its_type() -> None:
    values = {"model_type": "qwen2", **SIZES}
    assert parsed(values) == parsed(QWEN2)


def test_biases_and_widths_of_the_families() -> None:
    llama = parsed(LLAMA, attention_bias=True, mlp_bias=True, head_dim=32)
    assert (llama.qkv_bias, llama.output_bias, llama.mlp_bias) == (True, True, True)
    assert llama.head_dim == 32
    assert parsed(LLAMA, head_dim=None).head_dim == 16
    assert parsed({k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}).num_kv_heads == 4
    qwen2 = parsed(QWEN2)
    assert (qwen2.qkv_bias, qwen2.output_bias) == (True, False)
    assert parsed(QWEN3).head_dim == 128
    assert parsed(QWEN3, attention_bias=True).output_bias is True
    assert parsed(LLAMA, tie_word_embeddings=True).tied_head is True


@pytest.mark.parametrize("architecture", [Qwen2Config, Qwen3Config])
@pytest.mark.parametrize(
    "options",
    [
        {"use_sliding_window": False, "sliding_window": 9, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 9},
        {"use_sliding_window": True, "sliding_window": None},
        {
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ],
)
def test_windows_are_those_of_transformers(architecture: Any, options: dict[str, Any]) -> None:
    theirs = architecture(**SIZES, **options)
    expected = tuple(9 if kind == "sliding_attention" else None for kind in theirs.layer_types)
    base = QWEN2 if architecture is Qwen2Config else QWEN3
    assert parsed(base, **options).windows == (expected if any(expected) else ())


def test_llama_has_no_windows_and_mistral_may_have_none() -> None:
    assert parsed(LLAMA, sliding_window=9).windows == ()
    assert parsed(MISTRAL, sliding_window=None).windows == ()


YARN = {"factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, RopeConfig()),
        ({"rope_theta": 5e5, "rope_scaling": None}, RopeConfig(theta=5e5)),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, RopeConfig(theta=5e5)),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            RopeConfig(scaling="linear", factor=2.0),
        ),
        (
            {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            RopeConfig(scaling="dynamic", factor=2.0, original_max_position=512),
        ),
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", **YARN}},
            RopeConfig(theta=1e6, scaling="yarn", factor=4.0, original_max_position=512),
        ),
        (
            {
                "rope_parameters": {
                    "rope_theta": 1e6, "rope_type": "yarn", "attention_factor": 1.25,
                    "beta_fast": 16.0, "beta_slow": 2.0, **YARN,
                }
            },
            RopeConfig(
                theta=1e6, scaling="yarn", factor=4.0, original_max_position=512,
                attention_factor=1.25, beta_fast=16.0, beta_slow=2.0,
            ),
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            RopeConfig(theta=5e5, scaling="llama3", factor=8.0, original_max_position=256),
        ),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 2e4, "rope_type": "default"},
                    "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
                }
            },
            RopeConfig(theta=2e4),
        ),
    ],
)  # fmt: skip
def test_rotary_positions_in_every_spelling(options: dict[str, Any], expected: RopeConfig) -> None:
    config = parsed(LLAMA, **options)
    assert config.rope == expected
    assert config.max_position == (2048 if expected.scaling == "yarn" else 512)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "supported: LlamaForCausalLM, MistralForCausalLM"),
        ({"architectures": [], "model_type": "mamba"}, "'mamba' is not supported"),
        ({"architectures": [{}]}, "is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"rope_scaling": {"type": "longrope", "factor": 2}}, "'longrope'"),
        ({"rope_scaling": {"type": "yarn", **YARN, "mscale": 0.7}}, "mscale"),
        ({"rope_scaling": {"type": "yarn", **YARN, "truncate": False}}, "truncation"),
    ],
)
def test_what_is_not_implemented_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        parsed(LLAMA, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number"),
        ({"hidden_size": True}, "hidden_size must be a whole number"),
        ({"hidden_size": 64.0}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": 10**12}, "from 1 to 4096"),
        ({"num_attention_heads": 0}, "num_attention_heads must be"),
        ({"num_attention_heads": 1000}, "head_dim must be"),
        ({"num_key_value_heads": 3}, "multiple of"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps must be a finite number"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps must be a finite number"),
        ({"rope_theta": 1.0}, "rope_theta must be a finite number above 1"),
        ({"rope_scaling": [1]}, "rope_scaling must be an object"),
        ({"rope_scaling": {"type": "linear"}}, "lacks factor"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor must be at least 1"),
        ({"rope_scaling": {"type": "yarn", "factor": 1e18}}, "after stretching"),
        (
            {"rope_parameters": {"a": {"rope_theta": 2.0}, "b": {"rope_theta": 3.0}}},
            "the same for every kind of layer",
        ),
        ({"tie_word_embeddings": 1}, "true or false"),
    ],
)
def test_values_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        parsed(LLAMA, **options)


@pytest.mark.parametrize("kinds", ["full_attention", ["full_attention"], ["x"] * 4, [[]] * 4])
def test_kinds_of_layers_that_cannot_be_are_named(kinds: Any) -> None:
    with pytest.raises(CheckpointError, match="layer_types must be a list of"):
        parsed(QWEN2, use_sliding_window=True, sliding_window=9, layer_types=kinds)


@pytest.mark.parametrize(
    "config",
    [
        tiny_config("llama"),
        tiny_config("llama", qkv_bias=True, output_bias=True, mlp_bias=True, tied_head=False),
        tiny_config("llama", windows=(5, 5)),
        tiny_config("qwen2"),
        tiny_config("qwen2", windows=(None, 5)),
        tiny_config("qwen3", head_dim=32),
        tiny_config("qwen3", qkv_bias=True, output_bias=True, windows=(5, None)),
        tiny_config(rope=RopeConfig(1e6, "yarn", 4.0, 32, beta_fast=16.0, attention_factor=1.2)),
        tiny_config(rope=RopeConfig(5e5, "llama3", 8.0, 32, low_freq_factor=2.0)),
        tiny_config(rope=RopeConfig(1e4, "linear", 2.0)),
        tiny_config(rope=RopeConfig(1e4, "dynamic", 2.0, 128)),
    ],
)
def test_what_is_written_is_read_back(config: ModelConfig) -> None:
    values = json.loads(json.dumps(config_to_json(config, "bfloat16")))
    assert values["torch_dtype"] == "bfloat16"
    assert config_from_json(values, "config.json") == config


@pytest.mark.parametrize(
    "changes",
    [
        {"qkv_bias": True, "mlp_bias": True},
        {"windows": (5, None)},
        {"qk_norm": True, "mlp_bias": True},
        {"qk_norm": True, "windows": (5, 6)},
    ],
)
def test_what_no_architecture_computes_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="no architecture with this combination"):
        config_to_json(tiny_config(**changes), "float32")
