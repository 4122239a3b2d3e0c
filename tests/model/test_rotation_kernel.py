from __future__ import annotations

import pytest
import torch

from everlong.model.config import RopeConfig
from everlong.model.native.library import HEAD_SIZES, NARROW, library
from everlong.model.rope import Rope, rotate, turned

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels here")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", sorted(HEAD_SIZES | NARROW))
def test_heads_and_their_gradients_turn_as_by_the_operators(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    rope = Rope(RopeConfig(), size, 100)(torch.arange(50, 57))
    x = torch.randn(7, 3, size).to(dtype).requires_grad_()
    of_turned = torch.randn(7, 3, size).bfloat16()
    plain = x.detach().float().requires_grad_()
    exact = rotate(plain, rope)
    found = turned(x, rope, torch.bfloat16)
    assert found.dtype == torch.bfloat16
    # Both round the same sums once, whose last bits may differ.
    torch.testing.assert_close(found.float(), exact, rtol=2**-8, atol=1e-6)
    (of_x,) = torch.autograd.grad(found, x, of_turned)
    (wanted,) = torch.autograd.grad(exact, plain, of_turned.float())
    assert of_x.dtype == dtype
    near = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(of_x.float(), wanted, rtol=near, atol=1e-6)


def test_what_is_no_number_stays_so() -> None:
    rope = Rope(RopeConfig(), 8, 100)(torch.arange(1))
    x = torch.tensor([[[float("nan"), float("inf"), 3e38, 0, 0, 0, 0, 1e-45]]])
    found = turned(x, rope, torch.bfloat16)[0, 0]
    assert found[0].isnan()
    assert found[2].isfinite()
