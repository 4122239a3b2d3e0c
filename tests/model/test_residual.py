"""How layers are joined: the formulas, folding, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from everlong.checkpoint.hf_config import config_to_json
from everlong.errors import ConfigError, UnsupportedError
from everlong.model.attention import SequenceAttention
from everlong.model.config import ModelConfig, ResidualKind
from everlong.model.cost import parameters
from everlong.model.growth import grown_config
from everlong.model.init import initialized
from everlong.model.residual import folded
from everlong.model.transformer import Transformer

SMALL = ModelConfig(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=48,
    num_layers=5,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position=64,
)
KINDS: tuple[ResidualKind, ...] = ("pre", "scaled", "deepnorm", "keel")


def unlike_at_the_start(kind: ResidualKind) -> Transformer:
    model = initialized(replace(SMALL, residual=kind), seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.2 * noise)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_formulas(kind: ResidualKind) -> None:
    model = unlike_at_the_start(kind)
    tokens = torch.arange(20)[None]
    rope, attend = model.rope(torch.arange(20)[None]), SequenceAttention()

    def part(block: torch.nn.Module, name: str, read: Tensor) -> Tensor:
        found: Tensor = (
            block.self_attn(read, rope, attend) if name == "attention" else block.mlp(read)
        )
        return found

    x = model.embed_tokens(tokens)
    for number in range(SMALL.num_layers):
        block = model.block(number)
        for name, norm, joined in (
            ("attention", block.input_layernorm, block.attention_joined),
            ("mlp", block.post_attention_layernorm, block.mlp_joined),
        ):
            if kind == "pre":
                x = x + part(block, name, norm(x))
            elif kind == "scaled":
                x = x + part(block, name, norm(x) / (number + 1) ** 0.5)
            elif kind == "deepnorm":
                x = norm(10**0.25 * x + part(block, name, x))
            else:
                assert joined.norm is not None
                x = joined.norm(10 * x + part(block, name, norm(x)))
    torch.testing.assert_close(model.states(tokens), model.norm(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_and_learn(kind: ResidualKind) -> None:
    model = initialized(replace(SMALL, residual=kind), seed=0)
    assert sum(one.numel() for one in model.parameters()) == parameters(model.config).total
    model(torch.arange(20)[None]).square().mean().backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in model.parameters())


def test_scaled_layers_fold_into_norms() -> None:
    model = unlike_at_the_start("scaled")
    config, weights = folded(model.config, model.state_dict())
    assert config == SMALL
    plain = Transformer(config)
    plain.load_state_dict(weights)
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(plain(tokens), model(tokens), rtol=1e-5, atol=1e-5)
    assert config_to_json(config, "float32")["num_hidden_layers"] == 5


@pytest.mark.parametrize("kind", ["deepnorm", "keel"])
def test_what_other_programs_do_not_know_is_not_written(kind: ResidualKind) -> None:
    config, _ = folded(replace(SMALL, residual=kind), {})
    with pytest.raises(UnsupportedError, match=f"joined as '{kind}'"):
        config_to_json(config, "float32")
    with pytest.raises(ConfigError, match="residual: pre or scaled"):
        grown_config(config, 10, None)
    assert grown_config(config, None, 8).num_heads == 8


def test_unknown() -> None:
    with pytest.raises(ConfigError, match="allowed: pre, scaled, deepnorm, keel"):
        replace(SMALL, residual="post")  # type: ignore[arg-type]
