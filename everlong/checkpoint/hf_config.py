"""``config.json`` of the Hugging Face layout <-> ModelConfig."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from everlong.checkpoint.fields import (
    MAX_LAYERS,
    MAX_POSITION,
    MAX_WIDTH,
    Fields,
    shown,
    trained_window,
)
from everlong.errors import CheckpointError, ConfigError, UnsupportedError
from everlong.model.config import ModelConfig, RopeConfig, RopeScaling


@dataclass(frozen=True)
class _Architecture:
    """What the architectures that are read do not have in common."""

    model_type: str
    family: Literal["llama", "qwen2", "qwen3"]
    head_dim: int | None = None
    """Where the configuration names none; None is hidden_size / num_attention_heads."""
    windowed_from: bool = False
    """Sliding windows are switched on by use_sliding_window, from layer max_window_layers."""


_ARCHITECTURES = {
    "LlamaForCausalLM": _Architecture("llama", "llama"),
    "MistralForCausalLM": _Architecture("mistral", "llama"),
    "Qwen2ForCausalLM": _Architecture("qwen2", "qwen2", windowed_from=True),
    "Qwen3ForCausalLM": _Architecture("qwen3", "qwen3", head_dim=128, windowed_from=True),
}

_SCALINGS: dict[str, RopeScaling] = {
    "default": "none",
    "linear": "linear",
    "dynamic": "dynamic",
    "yarn": "yarn",
    "llama3": "llama3",
}


def config_from_json(values: dict[str, Any], where: str) -> ModelConfig:
    """The architecture that a ``config.json`` describes.

    Args:
        values: the file's content.
        where: its name, for messages.

    Raises:
        UnsupportedError: an architecture, or an option of one, that is not implemented.
        CheckpointError: a value is missing or cannot be.
    """
    architecture = _architecture(values, where)
    fields = Fields(values, where)
    for name, allowed in (("hidden_act", "silu"), ("partial_rotary_factor", 1)):
        if fields.has(name) and values[name] != allowed:
            raise UnsupportedError(f"{where}: {name} {shown(values[name])} is not supported")
    if fields.has("quantization_config"):
        raise UnsupportedError(
            f"{where}: weights with a quantization_config are not read; "
            "use the original checkpoint, or a GGUF file"
        )
    num_layers = fields.integer("num_hidden_layers", most=MAX_LAYERS)
    num_heads = fields.integer("num_attention_heads", most=MAX_WIDTH)
    hidden_size = fields.integer("hidden_size", most=MAX_WIDTH)
    kv_default = num_heads if architecture.model_type == "llama" else None
    rope = _rope(fields, fields.integer("max_position_embeddings", most=MAX_POSITION))
    qwen2, llama = architecture.family == "qwen2", architecture.model_type == "llama"
    attention_bias = not qwen2 and fields.flag("attention_bias", False)
    try:
        return ModelConfig(
            vocab_size=fields.integer("vocab_size", most=MAX_WIDTH),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("intermediate_size", most=MAX_WIDTH),
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=fields.integer("num_key_value_heads", kv_default, most=MAX_WIDTH),
            head_dim=fields.integer(
                "head_dim", architecture.head_dim or hidden_size // num_heads, most=MAX_WIDTH
            ),
            max_position=trained_window(fields, "max_position_embeddings", rope),
            norm_eps=fields.number("rms_norm_eps", 1e-6, above=0.0),
            rope=rope,
            qkv_bias=qwen2 or attention_bias,
            output_bias=attention_bias,
            mlp_bias=llama and fields.flag("mlp_bias", False),
            qk_norm=architecture.family == "qwen3",
            windows=_windows(fields, values, architecture, num_layers),
            tied_head=fields.flag("tie_word_embeddings", False),
            family=architecture.family,
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _architecture(values: dict[str, Any], where: str) -> _Architecture:
    names = values.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name is None:  # written by tools that save a bare configuration
        for architecture in _ARCHITECTURES.values():
            if values.get("model_type") == architecture.model_type:
                return architecture
        name = values.get("model_type")
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise UnsupportedError(
            f"{where}: the architecture {shown(name)} is not supported; "
            f"supported: {', '.join(_ARCHITECTURES)}"
        )
    return _ARCHITECTURES[name]


def _rope(fields: Fields, max_position: int) -> RopeConfig:
    """Rotary positions, in any of the spellings that transformers has written.

    Version 5 keeps everything in ``rope_parameters``; before, ``rope_theta`` stood beside
    ``rope_scaling``, whose kind was called ``type`` at first and ``rope_type`` later.
    """
    where = "rope_scaling" if fields.has("rope_scaling") else "rope_parameters"
    values = fields.table(where)
    nested = [value for value in values.values() if isinstance(value, dict)]
    if nested:  # one per kind of layer
        if any(value != nested[0] for value in nested):
            raise fields.invalid(where, "the same for every kind of layer")
        values = nested[0]
    rope = fields.within(where, values)
    kind = rope.text("rope_type", rope.text("type", "default"))
    if kind not in _SCALINGS or rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedError(
            f"rotary positions of type {shown(kind)} are not supported, nor partial ones; "
            f"supported: {', '.join(_SCALINGS)}"
        )
    scaling = _SCALINGS[kind]
    theta = rope.number("rope_theta", fields.number("rope_theta", 10_000.0, above=1.0), above=1.0)
    if scaling == "none":
        return RopeConfig(theta=theta)
    for name in ("mscale", "mscale_all_dim", "alpha"):
        if rope.has(name):
            raise UnsupportedError(f"rotary positions with {name} are not supported")
    if not rope.flag("truncate", True):
        raise UnsupportedError("yarn without truncation is not supported")
    original = rope.integer("original_max_position_embeddings", max_position, most=MAX_POSITION)
    if scaling == "dynamic":  # reads the stated window in transformers, whatever else is said
        original = max_position
    low = rope.number("low_freq_factor", 1.0, above=0.0)
    try:
        return RopeConfig(
            theta=theta,
            scaling=scaling,
            factor=rope.number("factor", above=0.0),
            original_max_position=0 if scaling == "linear" else original,
            beta_fast=rope.number("beta_fast", 32.0, above=0.0),
            beta_slow=rope.number("beta_slow", 1.0, above=0.0),
            attention_factor=(
                rope.number("attention_factor", above=0.0) if rope.has("attention_factor") else None
            ),
            low_freq_factor=low,
            high_freq_factor=rope.number("high_freq_factor", max(4.0, 2 * low), above=low),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _windows(
    fields: Fields, values: dict[str, Any], architecture: _Architecture, num_layers: int
) -> tuple[int | None, ...]:
    """Sliding window of each layer, empty where no layer has one."""
    if architecture.model_type == "llama" or not fields.has("sliding_window"):
        return ()
    if architecture.windowed_from and not fields.flag("use_sliding_window", False):
        return ()
    window = fields.integer("sliding_window", most=MAX_POSITION)
    if not architecture.windowed_from:
        return (window,) * num_layers
    kinds = values.get("layer_types")
    if kinds is None:
        first = fields.integer("max_window_layers", 28, least=0, most=MAX_LAYERS)
        kinds = ["full_attention"] * min(first, num_layers)
        kinds += ["sliding_attention"] * (num_layers - len(kinds))
    known = {"full_attention": None, "sliding_attention": window}
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise fields.invalid("layer_types", f"a list of {num_layers} kinds")
    if any(not isinstance(kind, str) or kind not in known for kind in kinds):
        raise fields.invalid("layer_types", f"a list of {' and '.join(known)}")
    windows = tuple(known[kind] for kind in kinds)
    return windows if any(windows) else ()


def config_to_json(config: ModelConfig, torch_dtype: str) -> dict[str, Any]:
    """The ``config.json`` of an architecture, in the spelling that transformers 4 and 5 read.

    Args:
        config: the architecture.
        torch_dtype: type of the stored weights, such as ``bfloat16``.

    Raises:
        UnsupportedError: no architecture of transformers has this combination of options.
    """
    name, extra = _architecture_for(config)
    values: dict[str, Any] = {
        "architectures": [name],
        "model_type": _ARCHITECTURES[name].model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": torch_dtype,
        **extra,
    }
    if config.rope.scaling != "none":
        values["rope_scaling"] = _rope_scaling(config.rope)
    return values


def _architecture_for(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """The architecture of transformers that computes ``config``, and its own options."""
    if config.residual != "pre":
        raise UnsupportedError(
            f"transformers has no architecture whose layers are joined as {config.residual!r}; "
            "train with residual: pre or scaled for a model that other programs read"
        )
    windows = set(config.windows)
    sliding: dict[str, Any] = {}
    if any(windows):
        sliding = {
            "use_sliding_window": True,
            "sliding_window": next(window for window in config.windows if window),
            "max_window_layers": next(i for i, w in enumerate(config.windows) if w),
            "layer_types": [
                "sliding_attention" if window else "full_attention" for window in config.windows
            ],
        }
    one_window = len(windows - {None}) <= 1
    same_bias = config.qkv_bias == config.output_bias
    if config.qk_norm:
        if same_bias and one_window and not config.mlp_bias:
            return "Qwen3ForCausalLM", {"attention_bias": config.qkv_bias, **sliding}
    elif config.qkv_bias and not config.output_bias:
        if one_window and not config.mlp_bias:
            return "Qwen2ForCausalLM", sliding
    elif not any(windows):
        if same_bias:
            options = {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
            return "LlamaForCausalLM", options
    elif len(windows) == 1 and not (config.qkv_bias or config.output_bias or config.mlp_bias):
        return "MistralForCausalLM", {"sliding_window": config.windows[0]}
    raise UnsupportedError(
        "transformers has no architecture with this combination of biases, norms and windows: "
        f"qkv_bias={config.qkv_bias}, output_bias={config.output_bias}, "
        f"mlp_bias={config.mlp_bias}, qk_norm={config.qk_norm}, windows={config.windows}"
    )


def _rope_scaling(rope: RopeConfig) -> dict[str, Any]:
    values: dict[str, Any] = {"rope_type": rope.scaling, "factor": rope.factor}
    if rope.scaling in ("yarn", "llama3"):
        values["original_max_position_embeddings"] = rope.original_max_position
    if rope.scaling == "yarn":
        values |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow}
        if rope.attention_factor is not None:
            values["attention_factor"] = rope.attention_factor
    if rope.scaling == "llama3":
        values |= {
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
        }
    return values
