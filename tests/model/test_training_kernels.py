"""Norms, gates and rotations in training: results and gradients beside exact ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from everlong.model.config import RopeConfig
from everlong.model.native.gate import gated
from everlong.model.native.library import NARROW, WIDE, library
from everlong.model.norm import RMSNorm
from everlong.model.rope import Rope, rotate, turned

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels here")

ROUNDED = 2**-8
"""Relative error of a number in bfloat16."""


def assert_same(out: Tensor, exact: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Results are those of float64 but for one rounding, and gradients of pairs of leaves too."""
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, rtol=ROUNDED, atol=1e-6)
    back = torch.randn(out.shape).bfloat16()
    found = torch.autograd.grad(out, [one for one, _ in pairs], back)
    wanted = torch.autograd.grad(exact, [one for _, one in pairs], back.double())
    for one, other, (leaf, _) in zip(found, wanted, pairs, strict=True):
        assert one.dtype == leaf.dtype
        near = 1e-5 if one.dtype == torch.float32 else ROUNDED
        torch.testing.assert_close(one.double(), other, rtol=near, atol=near)


def leaves(*tensors: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each as it is, and in float64."""
    return [(one.requires_grad_(), one.detach().double().requires_grad_()) for one in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", sorted(NARROW | WIDE))
def test_heads_turn(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    rope = Rope(RopeConfig(), size, 100)(torch.arange(50, 57))
    ((x, exact),) = pairs = leaves(torch.randn(7, 3, size).to(dtype))
    assert_same(turned(x, rope, torch.bfloat16), rotate(exact, rope.double()), pairs)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize(("rows", "size"), [(1, 1), (5, 7), (64, 64), (129, 576)])
def test_norms_that_products_read(rows: int, size: int, scale: float) -> None:
    torch.manual_seed(rows)
    norm = RMSNorm(size, 1e-5)
    torch.nn.init.normal_(norm.weight)
    exact_norm = RMSNorm(size, 1e-5).double()
    exact_norm.weight.data.copy_(norm.weight)
    ((x, exact),) = leaves(10 * torch.randn(rows, size))
    rms = exact.square().mean(-1, keepdim=True).add(1e-5).sqrt()
    with torch.autocast("cpu", torch.bfloat16):
        out = norm.read(x, scale)
    assert norm.read(x, scale).dtype == torch.float32  # outside
    pairs: list[tuple[Tensor, Tensor]] = [(x, exact), (norm.weight, exact_norm.weight)]
    assert_same(out, scale * exact / rms * exact_norm.weight, pairs)


@pytest.mark.parametrize("shape", [(1,), (15,), (3, 16), (7, 33), (64, 128)])
def test_gates(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    pairs = leaves(*(4 * torch.randn(shape).bfloat16() for _ in range(2)))
    (gate, exact_gate), (up, exact_up) = pairs
    assert_same(gated(gate, up), silu(exact_gate) * exact_up, pairs)


def test_gates_far_from_zero() -> None:
    gate = torch.tensor([-1e30, -100, 100, 1e30, 0]).bfloat16().requires_grad_()
    up = torch.ones(5).bfloat16().requires_grad_()
    out = gated(gate, up)
    of_gate, of_up = torch.autograd.grad(out, (gate, up), torch.ones_like(out))
    for one, wanted in ((out, [0, 0, 100, 1e30, 0]), (of_gate, [0, 0, 1, 1, 0.5]), (of_up, out)):
        torch.testing.assert_close(
            one.float(), torch.as_tensor(wanted).float(), rtol=ROUNDED, atol=1e-30
        )


def test_what_is_no_number_stays_so() -> None:
    rope = Rope(RopeConfig(), 8, 100)(torch.arange(1))
    x = torch.tensor([[[float("nan"), float("inf"), 3e38, 0, 0, 0, 0, 1e-45]]])
    found = turned(x, rope, torch.bfloat16)[0, 0]
    assert found[0].isnan()
    assert found[2].isfinite()


def test_sums_do_not_depend_on_threads() -> None:
    torch.manual_seed(0)
    norm, x = RMSNorm(96, 1e-5), torch.randn(300, 96)
    back = torch.randn(300, 96).bfloat16()

    def gradient() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out = norm.read(x)
        return torch.autograd.grad(out, norm.weight, back)[0]

    one, before = gradient(), torch.get_num_threads()
    torch.set_num_threads(before + 2)
    try:
        assert torch.equal(gradient(), one)
    finally:
        torch.set_num_threads(before)
