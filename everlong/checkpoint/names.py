"""What a model's tensors are called and how large they are, in either format."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from everlong.checkpoint.fields import shown
from everlong.errors import CheckpointError
from everlong.model.config import ModelConfig

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")

_GGUF_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_GGUF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

# Written by older tools and recomputed here.
_HARMLESS = re.compile(r"(.*\.)?rotary_emb\.inv_freq|blk\.\d+\.attn_rot_embd\.weight")


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a model by their Hugging Face names, in order of use."""
    hidden, inner = config.hidden_size, config.intermediate_size
    linear = {
        "self_attn.q_proj": (config.query_size, hidden, config.qkv_bias),
        "self_attn.k_proj": (config.kv_size, hidden, config.qkv_bias),
        "self_attn.v_proj": (config.kv_size, hidden, config.qkv_bias),
        "self_attn.o_proj": (hidden, config.query_size, config.output_bias),
        "mlp.gate_proj": (inner, hidden, config.mlp_bias),
        "mlp.up_proj": (inner, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, inner, config.mlp_bias),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if config.qk_norm:
        norms |= {"self_attn.q_norm": config.head_dim, "self_attn.k_norm": config.head_dim}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}."
        for name, size in norms.items():
            shapes[f"{prefix}{name}.weight"] = (size,)
        for name, (rows, columns, bias) in linear.items():
            shapes[f"{prefix}{name}.weight"] = (rows, columns)
            if bias:
                shapes[f"{prefix}{name}.bias"] = (rows,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tied_head:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def gguf_name(name: str) -> str:
    """What GGUF calls the tensor with the Hugging Face name ``name``."""
    if name in _GGUF_TOP:
        return _GGUF_TOP[name]
    match = _LAYER.fullmatch(name)
    assert match is not None, f"{name} is not the name of a tensor of a supported model"
    module, _, kind = match[2].rpartition(".")
    return f"blk.{match[1]}.{_GGUF_LAYER[module]}.{kind}"


def check_tensors(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Compare the tensors of a file with those that its configuration implies.

    Args:
        expected: shapes by name.
        found: the same of the file; buffers that are known not to matter may be among them.
        where: the file, for messages.

    Raises:
        CheckpointError: tensors are missing, unexpected, or of another shape.
    """
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(f"{where} lacks {_some(missing)} that its configuration implies")
    unexpected = [n for n in found if n not in expected and not _HARMLESS.fullmatch(n)]
    if unexpected:
        raise CheckpointError(
            f"{where} has {_some(unexpected)} that its configuration does not imply"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise CheckpointError(
                f"{where}: the tensor {name} has the shape {found[name]}, "
                f"but its configuration implies {shape}"
            )


def interleaved_heads(name: str, config: ModelConfig) -> int:
    """In how many heads llama.cpp's converter reorders the rows of a tensor; 0 if it does not.

    It does so for the architecture "llama" only, in queries and keys, to turn pairs (i, i + D/2)
    of the rotation into neighbours.
    """
    if config.family != "llama":
        return 0
    if ".self_attn.q_proj." in name:
        return config.num_heads
    return config.num_kv_heads if ".self_attn.k_proj." in name else 0


def uninterleave(rows: int, heads: int) -> Tensor:
    """Where each row lies after llama.cpp's reordering, int64 [rows].

    Row ``D * h + i`` with ``i < D / 2`` was put at ``D * h + 2 * i``, and the row of the other
    half that it rotates with, ``D * h + i + D / 2``, just behind it.
    """
    order = torch.arange(rows).view(heads, -1, 2)  # [heads, D / 2, 2]
    return order.transpose(1, 2).reshape(rows)


def _some(names: list[str]) -> str:
    first = ", ".join(map(shown, names[:3]))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{'tensors' if len(names) > 1 else 'the tensor'} {first}{more}"
