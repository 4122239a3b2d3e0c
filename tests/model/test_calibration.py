"""The directions in which keys differ: found as they are defined."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.calibration import calibrate
from tests.engine.tiny import model


def test_calibration_finds_where_keys_differ() -> None:
    text = torch.randint(10, 300, (1500,), generator=torch.Generator().manual_seed(1)).tolist()
    with pytest.raises(ConfigError, match="too few"):
        calibrate(model("float32"), text[:100])
    with pytest.raises(ConfigError, match="1 to 32 directions, not 40"):
        calibrate(model("float32"), text, 40)
    found = calibrate(model("float32"), text, 8)
    config = model("float32").config
    assert found.directions.shape == (config.num_layers, config.num_kv_heads, config.head_dim, 8)
    product = found.directions.transpose(2, 3) @ found.directions
    torch.testing.assert_close(product, torch.eye(8).expand_as(product), rtol=0, atol=1e-4)
    keys: list[Tensor] = []

    class Seen(SequenceAttention):
        def __call__(
            self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None
        ) -> Tensor:
            keys.append(k[0].float())
            return super().__call__(layer, q, k, v, window)

    with torch.inference_mode():
        model("float32").states(torch.tensor([text]), attend=Seen())
    for layer, of in enumerate(keys):
        rest = of - found.centre[layer]
        along = torch.einsum("tkd,kdr->tkr", rest, found.directions[layer])
        explained = along.square().sum((0, 2)) / rest.square().sum((0, 2))
        # No other 8 directions have more: those of the largest singular values.
        values = torch.linalg.svdvals(rest.transpose(0, 1)).square()
        torch.testing.assert_close(
            explained, values[:, :8].sum(1) / values.sum(1), rtol=1e-3, atol=1e-3
        )
        assert (found.codes(layer, of).abs() <= 8).all()
