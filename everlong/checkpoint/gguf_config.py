"""GGUF metadata -> ModelConfig."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from everlong.checkpoint.fields import (
    MAX_LAYERS,
    MAX_POSITION,
    MAX_WIDTH,
    Fields,
    shown,
    trained_window,
)
from everlong.checkpoint.gguf import GGUFFile
from everlong.errors import CheckpointError, ConfigError, UnsupportedError
from everlong.model.config import ModelConfig, RopeConfig

ROPE_FACTORS = "rope_freqs.weight"
"""The tensor by which llama.cpp's converter spells the frequency bands of Llama 3.1."""

_FAMILIES = ("llama", "qwen2", "qwen3")


def config_from_gguf(file: GGUFFile) -> ModelConfig:
    """The architecture that a GGUF file describes.

    What its metadata leaves open, the tensors say: whether there are biases, and whether the
    output projection is the embedding.

    Raises:
        UnsupportedError: an architecture, or an option of one, that is not implemented.
        CheckpointError: an entry or a tensor is missing or cannot be.
    """
    where = str(file.path)
    family = file.metadata.get("general.architecture")
    if family not in _FAMILIES:
        raise UnsupportedError(
            f"{where}: the architecture {shown(family)} is not supported; "
            f"supported in GGUF files: {', '.join(_FAMILIES)}"
        )
    fields = Fields(file.metadata, where, f"{family}.")
    if fields.has("expert_count") and fields.integer("expert_count", least=0, most=MAX_WIDTH):
        raise UnsupportedError(f"{where}: mixtures of experts are not supported")
    num_layers = fields.integer("block_count", most=MAX_LAYERS)
    hidden_size = fields.integer("embedding_length", most=MAX_WIDTH)
    num_heads = fields.integer("attention.head_count", most=MAX_WIDTH)
    head_dim = fields.integer("attention.key_length", hidden_size // num_heads, most=MAX_WIDTH)
    for name in ("attention.value_length", "rope.dimension_count"):
        if fields.integer(name, head_dim, most=MAX_WIDTH) != head_dim:
            raise UnsupportedError(f"{where}: {family}.{name} other than {head_dim}, the key's")
    rope = _rope(fields, file)
    max_position = trained_window(fields, "context_length", rope)
    if fields.has("attention.sliding_window"):
        window = fields.integer("attention.sliding_window", least=0, most=2**32)
        if 0 < window < max_position:
            raise UnsupportedError(f"{where}: sliding windows in GGUF files are not supported")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{where} lacks the tensor token_embd.weight")
    try:
        return ModelConfig(
            vocab_size=embedding.shape[0],
            hidden_size=hidden_size,
            intermediate_size=fields.integer("feed_forward_length", most=MAX_WIDTH),
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=fields.integer("attention.head_count_kv", num_heads, most=MAX_WIDTH),
            head_dim=head_dim,
            max_position=max_position,
            norm_eps=_shortest(fields.number("attention.layer_norm_rms_epsilon", above=0.0)),
            rope=rope,
            qkv_bias=family == "qwen2" or "blk.0.attn_q.bias" in file.tensors,
            output_bias="blk.0.attn_output.bias" in file.tensors,
            mlp_bias="blk.0.ffn_up.bias" in file.tensors,
            qk_norm=family == "qwen3",
            tied_head="output.weight" not in file.tensors,
            family=family,
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _rope(fields: Fields, file: GGUFFile) -> RopeConfig:
    where = str(file.path)
    theta = _shortest(fields.number("rope.freq_base", 10_000.0, above=1.0))
    plain = RopeConfig(theta=theta)
    if ROPE_FACTORS in file.tensors:
        return _llama3(plain, file)
    # llama.cpp reads a missing type as linear, and a missing or zero factor as none.
    kind = fields.text("rope.scaling.type", "linear")
    old = fields.number("rope.scale_linear", 0.0)
    factor = _shortest(fields.number("rope.scaling.factor", old))
    if kind == "none" or factor in (0.0, 1.0):
        return plain
    if kind not in ("linear", "yarn"):
        raise UnsupportedError(
            f"{where}: rotary positions of type {shown(kind)} are not supported in GGUF files; "
            "supported: none, linear, yarn, and the frequency bands of Llama 3.1"
        )
    try:
        if kind == "linear":
            return replace(plain, scaling="linear", factor=factor)
        for name, neutral in (
            ("attn_factor", (1.0,)),
            ("yarn_attn_factor", (1.0,)),
            ("yarn_ext_factor", (1.0, -1.0)),
            ("yarn_log_multiplier", (0.0,)),
        ):
            if fields.number(f"rope.scaling.{name}", neutral[0]) not in neutral:
                raise UnsupportedError(
                    f"{where}: yarn with {name} is not supported in GGUF files; "
                    "use the model's Hugging Face folder"
                )
        return replace(
            plain,
            scaling="yarn",
            factor=factor,
            original_max_position=fields.integer(
                "rope.scaling.original_context_length", most=MAX_POSITION
            ),
            beta_fast=_shortest(fields.number("rope.scaling.yarn_beta_fast", 32.0, above=0.0)),
            beta_slow=_shortest(fields.number("rope.scaling.yarn_beta_slow", 1.0, above=0.0)),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _llama3(plain: RopeConfig, file: GGUFFile) -> RopeConfig:
    """Find the rule whose divisors of the frequencies the file stores as a tensor.

    All published models with such a tensor (Llama 3.1, 3.2, 3.3) have the same bands over an
    original window of 8,192 tokens and differ in the factor, which is the largest divisor.
    """
    tensor = file.tensors[ROPE_FACTORS]
    if tensor.type != "F32" or len(tensor.shape) != 1:
        raise CheckpointError(f"{file.path}: {ROPE_FACTORS} is not a vector of F32")
    stored = file.raw(ROPE_FACTORS).view(torch.float32)
    largest = float(stored.max())
    if 1.0 < largest < math.inf:
        rule = replace(
            plain,
            scaling="llama3",
            factor=_shortest(largest),
            original_max_position=8192,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        )
        if torch.allclose(stored, _divisors(rule, len(stored)), rtol=1e-4, atol=0.0):
            return rule
    elif torch.equal(stored, torch.ones_like(stored)):
        return plain
    raise UnsupportedError(
        f"{file.path}: {ROPE_FACTORS} follows another rule than Llama 3.1's with an original "
        "window of 8192; use the model's Hugging Face folder"
    )


def _divisors(rule: RopeConfig, count: int) -> Tensor:
    """What Llama 3.1's rule divides each of ``count`` frequencies by, float32 [count]."""
    frequency = rule.theta ** (-torch.arange(count, dtype=torch.float64) / count)
    turns = rule.original_max_position * frequency / (2 * math.pi)  # in the original window
    blend = (turns - rule.low_freq_factor) / (rule.high_freq_factor - rule.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1.0 / ((1.0 - blend) / rule.factor + blend)).float()


def _shortest(value: float) -> float:
    """The shortest decimal that is ``value`` in float32: 1e-05 for what was stored from 1e-05.

    GGUF stores such numbers in 32 bits; a double with the exact value would print as
    9.99999974737875e-06 and compare unequal to the original configuration.
    """
    single = np.float32(value)
    return float(str(single)) if np.isfinite(single) and float(single) == value else value
