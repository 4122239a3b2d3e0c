"""The encoder beside transformers' BERT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from everlong.errors import ConfigError
from everlong.model.sentence_encoder import EncoderConfig, Pooling, assemble_encoder, encoder_names

transformers = pytest.importorskip("transformers", reason="the reference is in the dev extra")

CONFIG = EncoderConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_layers=3,
    num_heads=4,
    max_position=40,
)


def reference() -> Any:
    """The same architecture in transformers, with weights large enough that all parts matter."""
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=CONFIG.vocab_size,
            hidden_size=CONFIG.hidden_size,
            intermediate_size=CONFIG.intermediate_size,
            num_hidden_layers=CONFIG.num_layers,
            num_attention_heads=CONFIG.num_heads,
            max_position_embeddings=CONFIG.max_position,
            layer_norm_eps=CONFIG.norm_eps,
        ),
        add_pooling_layer=False,
    )
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 97, (4, 40)), torch.tensor([40, 3, 1, 22])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_equal_the_reference(pooling: Pooling) -> None:
    model = reference()
    config = EncoderConfig(**{**CONFIG.__dict__, "pooling": pooling})
    weights = model.state_dict()
    tokens, lengths = batch()
    inside = (torch.arange(40) < lengths[:, None]).float()
    with torch.inference_mode():
        states = model(tokens, attention_mask=inside).last_hidden_state
        exact = assemble_encoder(config, weights.__getitem__, torch.float32)(tokens, lengths)
        rounded = assemble_encoder(config, weights.__getitem__, torch.bfloat16)(tokens, lengths)
    wanted = states[:, 0] if pooling == "cls" else (states * inside[:, :, None]).sum(1)
    wanted = normalize(wanted, dim=-1)
    assert torch.allclose(exact, wanted, atol=2e-6)
    assert (rounded * wanted).sum(-1).min() > 0.999
    assert rounded.dtype == torch.float32


def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    encoder = assemble_encoder(CONFIG, reference().state_dict().__getitem__, torch.float32)
    tokens, lengths = batch()
    with torch.inference_mode():
        together = encoder(tokens, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = encoder(tokens[i : i + 1, :length], lengths[i : i + 1])
            assert torch.allclose(together[i], alone[0], atol=2e-6)


def test_every_weight_is_used() -> None:
    weights = reference().state_dict()
    tokens, lengths = batch()
    with torch.inference_mode():
        before = assemble_encoder(CONFIG, weights.__getitem__, torch.float32)(tokens, lengths)
        for name in encoder_names(CONFIG).values():
            if name.endswith("key.bias"):
                continue  # softmax does not see what is added to all scores of a query
            changed = {**weights, name: weights[name] + torch.randn_like(weights[name])}
            encoder = assemble_encoder(CONFIG, changed.__getitem__, torch.float32)
            assert not torch.allclose(encoder(tokens, lengths), before, atol=1e-4), name


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden_size \(48\) must be a multiple of"):
        EncoderConfig(**{**CONFIG.__dict__, "num_heads": 5})
    with pytest.raises(ConfigError, match="num_layers must be at least 1, not 0"):
        EncoderConfig(**{**CONFIG.__dict__, "num_layers": 0})
