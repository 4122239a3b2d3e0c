from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everlong.errors import ConfigError
from everlong.model.config import ModelConfig, ResidualKind
from everlong.model.growth import grow, grown_config, grown_layers, renamed_layers
from everlong.model.transformer import Transformer

SMALL = ModelConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    max_position=64,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    qk_norm=True,
    windows=(4, None, 8),
)


@given(st.integers(1, 40), st.integers(0, 100))
def test_layers_keep_their_order_and_are_spread(before: int, more: int) -> None:
    layers = grown_layers(before, before + more)
    assert len(layers) == before + more
    assert [one.source for one in layers if not one.new] == [*range(before)]
    assert [one.source for one in layers] == sorted(one.source for one in layers)
    behind = [sum(one.source == i for one in layers) for i in range(before)]
    assert max(behind) - min(behind) <= 1


def grown(model: Transformer, config: ModelConfig) -> Transformer:
    larger = Transformer(config)
    larger.load_state_dict(grow(model.config, model.state_dict(), config))
    return larger


@pytest.mark.parametrize("residual", ["pre", "scaled"])
@pytest.mark.parametrize("steps", [[(7, None)], [(None, 8)], [(4, 6), (9, 10), (20, None)]])
def test_a_grown_model_computes_the_same_and_learns(
    steps: list[tuple[int | None, int | None]], residual: ResidualKind
) -> None:
    torch.manual_seed(0)
    model = Transformer(replace(SMALL, residual=residual))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(50, (2, 20))
    expected = model(tokens)
    larger = model
    for layers, heads in steps:
        larger = grown(larger, grown_config(larger.config, layers, heads))
    assert larger.config.num_layers == (steps[-1][0] or 3)
    found = larger(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.square().mean().backward()
    idle = [name for name, p in larger.named_parameters() if p.grad is None]
    assert not idle
    for number, layer in enumerate(grown_layers(3, larger.config.num_layers)):
        if layer.new and len(steps) == 1:
            block = larger.block(number)
            assert block.self_attn.o_proj.weight.grad.abs().max() > 0
            assert block.mlp.down_proj.weight.grad.abs().max() > 0


def test_windows_go_with_their_layers() -> None:
    assert grown_config(SMALL, 6, None).windows == (4, 4, None, None, 8, 8)
    assert grown_config(replace(SMALL, windows=()), 6, None).windows == ()


def test_names_of_what_stays() -> None:
    names = ["norm.weight", "layers.0.mlp.up_proj.weight", "layers.2.mlp.up_proj.weight"]
    assert renamed_layers(names, 3, 7) == {
        "norm.weight": "norm.weight",
        "layers.0.mlp.up_proj.weight": "layers.0.mlp.up_proj.weight",
        "layers.2.mlp.up_proj.weight": "layers.4.mlp.up_proj.weight",
    }


@pytest.mark.parametrize(
    ("layers", "heads", "told"),
    [(2, None, "3 layers cannot grow to 2"), (None, 2, "not to 2"), (None, 7, "not to 7")],
)
def test_a_model_does_not_shrink(layers: int | None, heads: int | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        grown_config(SMALL, layers, heads)
