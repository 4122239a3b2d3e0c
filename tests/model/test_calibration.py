"""What the index keeps of keys: what tells most about scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.errors import ConfigError
from everlong.model.attention import SequenceAttention
from everlong.model.calibration import calibrate
from tests.engine.tiny import model


def test_calibration_keeps_what_tells_most_about_scores() -> None:
    text = torch.randint(10, 300, (1500,), generator=torch.Generator().manual_seed(1)).tolist()
    with pytest.raises(ConfigError, match="too few"):
        calibrate(model("float32"), text[:100])
    with pytest.raises(ConfigError, match="1 to 32 directions, not 40"):
        calibrate(model("float32"), text, 40)
    kept = 8
    found = calibrate(model("float32"), text, kept)
    config = model("float32").config
    shape = (config.num_layers, config.num_kv_heads, config.head_dim, kept)
    assert found.encoder.shape == found.decoder.shape == shape
    seen: list[tuple[Tensor, Tensor]] = []

    class Seen(SequenceAttention):
        def __call__(
            self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None
        ) -> Tensor:
            seen.append((q[0].float(), k[0].float()))
            return super().__call__(layer, q, k, v, window)

    with torch.inference_mode():
        model("float32").states(torch.tensor([text]), attend=Seen())
    for layer, (q, k) in enumerate(seen):
        codes = found.codes(layer, k)
        assert (codes.abs() <= 8).all()
        grouped = q.unflatten(1, (config.num_kv_heads, -1))
        scores = torch.einsum("nkgd,tkd->kgnt", grouped, k)
        lost = (found.scores(layer, q, codes) - scores).square().mean((1, 2, 3))
        for head in range(config.num_kv_heads):
            rest = k[:, head] - k[:, head].mean(0)
            asked = grouped[:, head].flatten(0, 1)
            # No matrix of rank 8 has less of an error: that of the other singular values.
            product = torch.linalg.eigvals(asked.T @ asked @ rest.T @ rest).real
            least = product.sort(descending=True).values[kept:].sum() / len(asked) / len(rest)
            assert 0.9 * least < lost[head] < 1.2 * least
            # Directions in which keys merely differ most lose more.
            differ = torch.linalg.svd(rest, full_matrices=False).Vh[:kept]
            plain = (asked @ (rest - rest @ differ.T @ differ).T).square().mean()
            assert lost[head] < plain
