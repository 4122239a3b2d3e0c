"""The kernels of attention: their results, their gradients, and what these depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from everlong.device import cpu_features
from everlong.model.attention import sees
from everlong.model.cache import Sight
from everlong.model.native.attention import computes
from everlong.model.native.library import WIDE, library
from everlong.model.packed_attention import PackedAttention

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels here")

LENGTHS = (5, 70, 1, 33, 33)


def inputs(
    size: int, heads: int, kv_heads: int, lengths: Sequence[int] = LENGTHS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size * heads + kv_heads)
    rows = sum(lengths)
    q, out = (torch.randn(rows, heads, size, generator=generator) for _ in range(2))
    k, v = (torch.randn(rows, kv_heads, size, generator=generator) for _ in range(2))
    return 2 * q, k, v, out


def with_gradients(attend: Any, q: Tensor, k: Tensor, v: Tensor, of_out: Tensor) -> list[Tensor]:
    leaves = [one.clone().requires_grad_() for one in (q, k, v)]
    out = attend(*leaves)
    out.backward(of_out.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def plainly(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], sight: Sight, window: int | None
) -> Tensor:
    out, at = [], 0
    for length in lengths:
        own = (one[at : at + length].transpose(0, 1) for one in (q, k, v))
        mask = sees(length, sight, window)
        one = scaled_dot_product_attention(*own, attn_mask=mask, enable_gqa=True)
        out.append(one.transpose(0, 1))
        at += length
    return torch.cat(out)


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 6), (6, 2), (4, 1)])
@pytest.mark.parametrize(
    ("sight", "window"),
    [("causal", None), ("bidirectional", None), (20, None), ("causal", 9), (20, 9)],
)
def test_equals_plain_attention(
    size: int, heads: int, kv_heads: int, sight: Sight, window: int | None
) -> None:
    q, k, v, of_out = (one.double() for one in inputs(size, heads, kv_heads))
    wanted = with_gradients(
        lambda q, k, v: plainly(q, k, v, LENGTHS, sight, window), q, k, v, of_out
    )
    found = with_gradients(
        lambda q, k, v: PackedAttention(LENGTHS, sight)(0, q, k, v, window),
        q.float(),
        k.float(),
        v.float(),
        of_out,
    )
    assert len(found) == 4
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", sorted(WIDE))
@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (6, 2)])
@pytest.mark.parametrize(
    ("sight", "window"),
    [("causal", None), ("bidirectional", None), (100, None), ("causal", 9), (100, 70)],
)
def test_wide_heads_equal_exact_attention_but_for_the_rounding_of_bfloat16(
    size: int, heads: int, kv_heads: int, sight: Sight, window: int | None
) -> None:
    lengths = (64, 5, 200, 1, 129)
    given = [one.bfloat16() for one in inputs(size, heads, kv_heads, lengths)]
    assert computes(given[0]) or cpu_features().amx_bf16

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return plainly(q, k, v, lengths, sight, window)

    exact = with_gradients(plain, *(one.double() for one in given))
    found = with_gradients(lambda *x: PackedAttention(lengths, sight)(0, *x, window), *given)
    assert {one.dtype for one in found} == {torch.bfloat16}
    for one, wanted in zip(found, exact, strict=True):
        assert (one.double() - wanted).norm() < 2**-8 * wanted.norm()


def test_rounds_only_what_it_reads_and_writes_in_bfloat16() -> None:
    q, k, v, of_out = (one.bfloat16() for one in inputs(8, 6, 2))
    attention = PackedAttention(LENGTHS)
    found = with_gradients(lambda q, k, v: attention(0, q, k, v, None), q, k, v, of_out)
    wanted = with_gradients(
        lambda q, k, v: attention(0, q, k, v, None), q.float(), k.float(), v.float(), of_out.float()
    )
    assert {one.dtype for one in found} == {torch.bfloat16}
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=2**-7, atol=0.02)


@pytest.mark.parametrize(("size", "dtype"), [(8, torch.float32), (64, torch.bfloat16)])
def test_a_sequence_does_not_depend_on_its_neighbours_or_on_threads(
    size: int, dtype: torch.dtype
) -> None:
    q, k, v, of_out = (one.to(dtype) for one in inputs(size, 6, 2))
    whole = with_gradients(lambda *x: PackedAttention(LENGTHS)(0, *x, None), q, k, v, of_out)
    part = slice(5, 75)
    alone = with_gradients(
        lambda *x: PackedAttention((70,))(0, *x, None), *(one[part] for one in (q, k, v, of_out))
    )
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    try:
        more = with_gradients(lambda *x: PackedAttention(LENGTHS)(0, *x, None), q, k, v, of_out)
    finally:
        torch.set_num_threads(before)
    for one, other, third in zip(whole, alone, more, strict=True):
        assert torch.equal(one[part], other)
        assert torch.equal(one, third)


@pytest.mark.parametrize(
    ("size", "dtype", "near"), [(8, torch.float32, 1e-4), (64, torch.bfloat16, 0.01)]
)
def test_large_scores_do_not_overflow(size: int, dtype: torch.dtype, near: float) -> None:
    given = [one.to(dtype) for one in inputs(size, 2, 2, (100,))]
    given[0] *= 300
    found = with_gradients(lambda *x: PackedAttention((100,))(0, *x, None), *given)
    wanted = with_gradients(
        lambda *x: plainly(*x, (100,), "causal", None), *(one.double() for one in given)
    )
    for one, other in zip(found, wanted, strict=True):
        assert bool(one.isfinite().all())
        assert (one.double() - other).norm() <= near * other.norm()
