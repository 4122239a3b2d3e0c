from __future__ import annotations

import pytest
import torch

from everlong.model.attention import SequenceAttention
from everlong.model.cache import Sight
from everlong.model.packed_attention import PackedAttention


@pytest.mark.parametrize("sight", ["causal", "bidirectional", 3])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("lengths", [(9,), (9, 5, 5, 5, 1), (1, 1, 2)])
@pytest.mark.parametrize("size", [8, 32])  # narrow heads have kernels of their own
def test_each_sequence_is_computed_as_if_alone(
    sight: Sight, window: int | None, lengths: tuple[int, ...], size: int
) -> None:
    torch.manual_seed(size)
    q, k, v = (torch.randn(sum(lengths), heads, size, requires_grad=True) for heads in (6, 2, 2))
    out = PackedAttention(lengths, sight)(0, q, k, v, window)
    alone, at = [], 0
    for length in lengths:
        own = slice(at, at + length)
        one = SequenceAttention(sight)(0, q[None, own], k[None, own], v[None, own], window)
        alone.append(one[0])
        at += length
    torch.testing.assert_close(out, torch.cat(alone), rtol=1e-4, atol=1e-5)
    towards = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), towards)
    expected = torch.autograd.grad(torch.cat(alone), (q, k, v), towards)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
