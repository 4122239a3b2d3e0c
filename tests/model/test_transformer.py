"""The backbone beside the reference implementation of each family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from everlong.model.assemble import assemble
from everlong.model.cache import Batch, BlockTable, Sight, Span, block_shape
from everlong.model.config import ModelConfig, RopeConfig
from everlong.model.transformer import Transformer, compile_rows
from tests.model.random_models import random_weights

transformers = pytest.importorskip("transformers", reason="the reference is in the dev extra")

BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 12,
    "max_position": 256,
}

CASES: dict[str, ModelConfig] = {
    "llama": ModelConfig(**BASE),
    "llama-mha-tied": ModelConfig(**BASE | {"num_kv_heads": 4}, tied_head=True, norm_eps=1e-5),
    "llama-bias": ModelConfig(**BASE, qkv_bias=True, output_bias=True, mlp_bias=True),
    "llama-head-dim": ModelConfig(**BASE | {"head_dim": 20}),
    "llama-linear": ModelConfig(**BASE, rope=RopeConfig(scaling="linear", factor=4.0)),
    "llama-dynamic": ModelConfig(
        **BASE, rope=RopeConfig(scaling="dynamic", factor=2.0, original_max_position=64)
    ),
    "llama-yarn": ModelConfig(
        **BASE, rope=RopeConfig(scaling="yarn", factor=4.0, original_max_position=64)
    ),
    "llama3": ModelConfig(
        **BASE,
        rope=RopeConfig(
            theta=500_000.0,
            scaling="llama3",
            factor=8.0,
            original_max_position=64,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        ),
    ),
    "qwen2": ModelConfig(**BASE, family="qwen2", qkv_bias=True, rope=RopeConfig(1e6)),
    "qwen2-window": ModelConfig(
        **BASE, family="qwen2", qkv_bias=True, windows=(None, 20, 20), tied_head=True
    ),
    "qwen2-yarn": ModelConfig(
        **BASE,
        family="qwen2",
        qkv_bias=True,
        rope=RopeConfig(1e6, scaling="yarn", factor=4.0, original_max_position=64),
    ),
    "qwen3": ModelConfig(**BASE, family="qwen3", qk_norm=True, rope=RopeConfig(1e6)),
    "qwen3-window": ModelConfig(
        **BASE | {"num_kv_heads": 1}, family="qwen3", qk_norm=True, windows=(None, 20, 20)
    ),
}

LENGTH = 90
SIGHTS: tuple[Sight, ...] = ("causal", "bidirectional", 30)


def reference(config: ModelConfig, weights: dict[str, Tensor]) -> Any:
    """The same model in transformers."""
    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[config.family]
    rope: dict[str, Any] = {"rope_theta": config.rope.theta, "rope_type": "default"}
    if config.rope.scaling != "none":
        rope |= {"rope_type": config.rope.scaling, "factor": config.rope.factor}
        if config.rope.original_max_position:
            rope["original_max_position_embeddings"] = config.rope.original_max_position
        if config.rope.scaling == "llama3":
            rope["low_freq_factor"] = config.rope.low_freq_factor
            rope["high_freq_factor"] = config.rope.high_freq_factor
    options: dict[str, Any] = {}
    if config.family == "llama":
        options = {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
    elif any(config.windows):
        options = {
            "use_sliding_window": True,
            "sliding_window": config.windows[-1],
            "max_window_layers": config.windows.index(config.windows[-1]),
        }
    # transformers' dynamic rule takes the original window from the configuration itself.
    window = config.max_position
    if config.rope.scaling == "dynamic":
        window = config.rope.original_max_position
    made = getattr(transformers, f"{kind}Config")(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=window,
        rms_norm_eps=config.norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=config.tied_head,
        attn_implementation="eager",
        **options,
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(made).eval()
    named = {k if k.startswith("lm_head") else f"model.{k}": v for k, v in weights.items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if config.tied_head else set())
    return model


def seen(config: ModelConfig, layer_window: int | None, sight: Sight) -> Tensor:
    """The mask of a sight, written out by its definition: bool [LENGTH, LENGTH]."""
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    for row in range(LENGTH):
        for column in range(LENGTH):
            ahead = column > row
            if ahead and not (sight == "bidirectional" or (sight != "causal" and column < sight)):
                continue
            mask[row, column] = layer_window is None or column > row - layer_window
    return mask


def reference_logits(config: ModelConfig, model: Any, tokens: Tensor, sight: Sight) -> Tensor:
    def additive(window: int | None) -> Tensor:
        mask = torch.where(seen(config, window, sight), 0.0, float("-inf"))
        return mask.expand(len(tokens), 1, -1, -1)

    mask: Any = additive(None)
    if any(config.windows):
        mask = {"full_attention": mask, "sliding_attention": additive(config.windows[-1])}
    elif config.family != "llama":
        mask = {"full_attention": mask}
    with torch.no_grad():
        return model(tokens, attention_mask=mask).logits


def plain(config: ModelConfig, weights: dict[str, Tensor]) -> Transformer:
    return assemble(config, weights.__getitem__, "float32")


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_reference(name: str, sight: Sight) -> None:
    config = CASES[name]
    weights = random_weights(config, seed=1)
    model = plain(config, weights)
    tokens = torch.randint(0, config.vocab_size, (2, LENGTH))
    expected = reference_logits(config, reference(config, weights), tokens, sight)
    assert expected.abs().max() > 1
    with torch.no_grad():
        got = model(tokens, sight=sight)
    assert (got - expected).abs().max() < 1e-4

    # The same through blocks. A causal sequence is also cut in pieces; the angles of the
    # "dynamic" rule depend on the length so far, so that it is not cut.
    sizes = [LENGTH] if sight != "causal" or "dynamic" in name else [50, 1, 1, 30, 8]
    assert sum(sizes) == LENGTH
    tables = [BlockTable(), BlockTable()]
    for table in tables:
        for _ in range(2):
            table.append(torch.full(block_shape(config), float("nan")))
    pieces, start = [], 0
    for size in sizes:
        spans = [
            Span(row[start : start + size].tolist(), table, start, sight=sight, logits="all")
            for row, table in zip(tokens, tables, strict=True)
        ]
        with torch.no_grad():
            pieces.append(model.step(Batch(spans)).view(2, size, -1))
        start += size
    assert (torch.cat(pieces, 1) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("sight", SIGHTS)
def test_padding_changes_nothing(sight: Sight) -> None:
    config = CASES["qwen3-window"]
    model = plain(config, random_weights(config))
    short, long = torch.randint(0, 131, (1, 50)), torch.randint(0, 131, (1, LENGTH))
    padded = torch.cat((torch.cat((short, torch.zeros(1, 40, dtype=torch.long)), 1), long))
    with torch.no_grad():
        together = model(padded, sight=sight, lengths=torch.tensor([50, LENGTH]))
        assert (together[0, :50] - model(short, sight=sight)[0]).abs().max() < 1e-4
        assert (together[1] - model(long, sight=sight)[0]).abs().max() < 1e-4


def test_gradients_reach_every_parameter() -> None:
    config = CASES["qwen3"]
    torch.manual_seed(0)
    model = Transformer(config)
    model(torch.randint(0, 131, (2, 17))).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_states_are_what_the_head_reads() -> None:
    config = CASES["qwen2"]
    model = plain(config, random_weights(config))
    tokens = torch.randint(0, 131, (1, 20))
    with torch.no_grad():
        assert torch.equal(model.lm_head(model.states(tokens)), model(tokens))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # that the compiler looks at
def test_compiled_rows_give_the_same_states_and_gradients() -> None:
    config = replace(CASES["qwen3"], residual="keel")
    tokens = torch.randint(0, 131, (2, 17))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Transformer(config)
        names = [*model.state_dict()]
        if compiled:
            counters.clear()
            compile_rows(model, "aot_eager")
        states = model.states(tokens)
        states.square().sum().backward()
        assert [*model.state_dict()] == names
        found.append([states, *(p.grad for p in model.layers.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    # One graph for the norms of all layers, one for what is gated; heads have norms of their own.
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 4
