"""The arithmetic of costs against what is published, counted and allocated."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from everlong.device import has_packed_bf16
from everlong.model.assemble import assemble
from everlong.model.config import ModelConfig
from everlong.model.cost import (
    forward_flops,
    kv_bytes_per_token,
    parameters,
    token_flops,
    training_activation_bytes,
    training_flops,
    weight_bytes,
)
from everlong.model.native.library import library
from everlong.model.norm import RMSNorm
from everlong.model.packed_attention import PackedAttention
from everlong.model.quantization import PackedLinear, Precision
from everlong.model.transformer import Transformer, projections
from tests.model.random_models import random_weights

SMOLLM2_135M = ModelConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    max_position=8192,
    tied_head=True,
)
QWEN25_05B = ModelConfig(
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_layers=24,
    num_heads=14,
    num_kv_heads=2,
    head_dim=64,
    max_position=32768,
    qkv_bias=True,
    tied_head=True,
    family="qwen2",
)


def tiny(**changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 32,
        "max_position": 256,
    }
    return ModelConfig(**{**fields, **changes})


VARIANTS = [
    tiny(),
    tiny(tied_head=True),
    tiny(qkv_bias=True, output_bias=True, mlp_bias=True),
    tiny(qk_norm=True, num_kv_heads=1, family="qwen3"),
    tiny(num_kv_heads=4, head_dim=16, num_layers=3),
]


def test_published_sizes() -> None:
    """The model cards: 134.5 and 494 million, of which 358 million without the embedding."""
    assert parameters(SMOLLM2_135M).total == 134_515_008
    qwen = parameters(QWEN25_05B)
    assert qwen.total == 494_032_768
    assert round((qwen.total - qwen.embedding) / 1e6) == 358


@pytest.mark.parametrize("config", VARIANTS)
def test_parameters_are_those_of_the_module(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = Transformer(config)
    assert parameters(config).total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_transformers(family: str, tied: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    config = tiny(tied_head=tied, qkv_bias=family == "qwen2", qk_norm=family == "qwen3")
    name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family]
    theirs = getattr(transformers, f"{name}Config")(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForCausalLM")(theirs)
    assert parameters(config).total == model.num_parameters()


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("length", [1, 48])
def test_operations_are_those_that_pytorch_counts(config: ModelConfig, length: int) -> None:
    """PyTorch counts products of attention in their plain form only, and all pairs of tokens."""
    model = Transformer(config)
    tokens = torch.zeros(1, length, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model(tokens, sight="bidirectional").sum()
        forward = counter.get_total_flops()
        loss.backward()
    assert forward == forward_flops(config, length, causal=False)
    assert counter.get_total_flops() == 3 * forward


@given(
    start=st.integers(0, 40),
    tokens=st.integers(1, 40),
    windows=st.tuples(*[st.none() | st.integers(1, 50)] * 2),
)
def test_operations_of_a_sequence_are_the_sum_over_its_tokens(
    start: int, tokens: int, windows: tuple[int | None, int | None]
) -> None:
    config = tiny(windows=windows)
    total = sum(token_flops(config, start + i + 1) for i in range(tokens))
    assert forward_flops(config, tokens, start=start) == total
    # One pair of tokens: a product of each query head with a key, and of its weight with a value.
    pairs = sum(min(start + i + 1, w or start + i + 1) for i in range(tokens) for w in windows)
    attention = pairs * config.num_heads * config.head_dim * 2 * 2
    matrices = 2 * (parameters(config).layers + parameters(config).embedding) * tokens
    assert total == matrices + attention


def test_logits_that_are_not_wanted_cost_nothing() -> None:
    prompt = forward_flops(SMOLLM2_135M, 1000, logits=1)
    saved = forward_flops(SMOLLM2_135M, 1000) - prompt
    assert saved == 2 * 999 * 49152 * 576


def test_rule_of_thumb() -> None:
    """Training takes about 6 operations per parameter and token (Kaplan et al. 2020)."""
    per_token = training_flops(SMOLLM2_135M, 512) / 512
    assert per_token == pytest.approx(6 * parameters(SMOLLM2_135M).total, rel=0.12)


def test_keys_and_values() -> None:
    # Two tensors of 3 heads of 64 in 30 layers, 2 bytes each: 23,040 bytes.
    assert kv_bytes_per_token(SMOLLM2_135M) == 23_040
    assert kv_bytes_per_token(QWEN25_05B, 4) == 24 * 2 * 2 * 64 * 4


@pytest.mark.parametrize("precision", ["float32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("config", VARIANTS)
def test_weight_bytes_are_those_in_memory(config: ModelConfig, precision: Precision) -> None:
    weights = random_weights(config)
    model = assemble(config, weights.__getitem__, precision)

    def held() -> int:
        packed = {id(m): m.nbytes for m in model.modules() if isinstance(m, PackedLinear)}
        norms = sum(m.weight.nbytes for m in model.modules() if isinstance(m, RMSNorm))
        if precision == "float32":
            return sum(p.nbytes for p in model.parameters())
        return sum(packed.values()) + norms

    assert held() == weight_bytes(config, precision)
    if precision != "bf16" or library() is None or not has_packed_bf16():
        return  # no second copy is ever made
    for owner, name in projections(model):
        layer = getattr(owner, name)
        layer._without_kernels(torch.zeros(64, layer.in_features, dtype=torch.bfloat16))
    assert held() == weight_bytes(config, precision, many_rows=True)


@pytest.mark.skipif(library() is None, reason="no native kernels here")
@pytest.mark.parametrize("config", [tiny(), tiny(qk_norm=True, num_layers=3), tiny(head_dim=64)])
def test_activations_are_those_that_autograd_keeps(config: ModelConfig) -> None:
    model = Transformer(config)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    lengths = (100, 151)
    tokens = torch.zeros(251, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        states = model.states(tokens, attend=PackedAttention(lengths))
    measured = sum(
        tensor.untyped_storage().nbytes()
        for tensor in kept.values()
        if len(tensor) == 251 and tensor.is_floating_point()  # not weights, nor ids and ranges
    )
    measured -= 4 * 251 * config.head_dim  # positions, of all layers together
    measured += states.nbytes  # whose gradients the loss keeps
    assert measured == pytest.approx(training_activation_bytes(config, 251), rel=0.02)
