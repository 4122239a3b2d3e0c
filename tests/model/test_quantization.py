"""Rounding to integers, and the packings that PyTorch reads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from everlong.errors import ConfigError
from everlong.model import quantization
from everlong.model.assemble import assemble
from everlong.model.config import ModelConfig
from everlong.model.quantization import PackedEmbedding, PackedLinear, quantize
from tests.model.random_models import random_weights


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_error_is_within_half_a_step(bits: int) -> None:
    weight = torch.randn(33, 128) * torch.logspace(-6, 3, 33)[:, None]
    groups = quantize(weight, bits)  # type: ignore[arg-type]
    step = groups.scale.repeat_interleave(32, 1)
    # Four bits trade the largest errors for the sum of all.
    worst = 0.51 if bits == 8 else 1.6
    assert ((groups.dense() - weight).abs() <= worst * step + 1e-7).all()
    assert groups.codes.min() >= (0 if bits == 4 else -127)


def test_search_beats_the_plain_range() -> None:
    weight = torch.randn(64, 256)
    groups = quantize(weight, 4)
    x = weight.view(64, -1, 32)
    low, step = x.amin(-1, keepdim=True), (x.amax(-1) - x.amin(-1))[..., None] / 15
    plain = ((x - low) / step).round() * step + low
    searched = (groups.dense() - weight).square().mean()
    assert searched < 0.93 * (plain.view_as(weight) - weight).square().mean()


@pytest.mark.parametrize("bits", [4, 8])
def test_constant_and_zero_groups_are_exact_enough(bits: int) -> None:
    weight = torch.zeros(2, 64)
    weight[1] = 0.625
    dense = quantize(weight, bits).dense()  # type: ignore[arg-type]
    assert torch.allclose(dense, weight, atol=1e-3)


def test_many_rows_in_bfloat16_may_go_to_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = PackedLinear(torch.randn(48, 96), torch.randn(48))
    x = torch.randn(70, 96)
    few = torch.cat([layer(row[None]) for row in x])
    monkeypatch.setattr(quantization, "native_rows", lambda: 48)
    many = layer(x)
    # oneDNN gives its result in bfloat16.
    assert not torch.equal(few, many)
    assert torch.allclose(few, many, rtol=2**-8, atol=0.03)
    assert layer.nbytes > 0
    monkeypatch.setattr(quantization, "has_packed_bf16", lambda: False)
    assert torch.allclose(layer(x), many, rtol=2**-8, atol=0.03)


def test_embedding_reads_rows_of_the_packed_table() -> None:
    table = PackedLinear(quantize(torch.randn(40, 64), 8))
    index = torch.tensor([[3, 39], [0, 3]])
    assert torch.equal(PackedEmbedding(table)(index), table.dense().float()[index])


def test_a_width_without_kernels_runs_in_pytorch() -> None:
    weight = torch.randn(8, 40).bfloat16()
    x = torch.randn(3, 40)
    expected = x.bfloat16().float() @ weight.float().T
    assert torch.allclose(PackedLinear(weight)(x), expected, atol=0.1)


def test_weights_that_cannot_be_are_refused() -> None:
    config = ModelConfig(40, 48, 80, 1, 4, 2, 12, 64)
    source = random_weights(config).__getitem__
    with pytest.raises(ConfigError, match="weights='int5' is unknown; allowed: auto"):
        assemble(config, source, "int5")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"multiples of 32.* has 48 inputs; use auto"):
        assemble(config, source, "int4")


SCRIPT = """
import torch, warnings
from everlong.model.native.library import library
from tests.engine.tiny import tiny_llm
assert library() is None
for weights in ("bf16", "int8", "int4"):
    with tiny_llm(weights, max_num_seqs=4) as llm:
        prompts = [list(range(20, 20 + n)) for n in (5, 70, 33)]
        greedy = dict(temperature=0, max_tokens=8, ignore_eos=True)
        for p, c in zip(prompts, llm.generate(prompts, **greedy)):
            logits = llm.logits([*p, *c.token_ids])[len(p) - 1 : -1]
            top = logits.topk(2).values
            sure = top[:, 0] - top[:, 1] > 0.05
            assert (logits.argmax(-1) == torch.tensor(c.token_ids))[sure].all()
    with tiny_llm(weights, deterministic=True, max_num_seqs=4) as llm:
        together = [c.token_ids for c in llm.generate(prompts, **greedy)]
        assert together == [llm.generate([p], **greedy)[0].token_ids for p in prompts]
"""


def test_everything_runs_without_native_kernels() -> None:
    """A machine without a compiler has the plain path, deterministic too."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"EVERLONG_NATIVE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
