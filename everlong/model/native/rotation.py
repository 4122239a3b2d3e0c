"""Heads turned by their positions, with gradients; see ``rotation.h``.

Letters: N tokens, H heads, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from everlong.model.native.library import NARROW, WIDE, kernels, library


def computes(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether heads [..., H, D] are turned here, into ``dtype``."""
    return (
        dtype == torch.bfloat16
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[-1] in NARROW | WIDE
        and x.device.type == "cpu"
        and library() is not None
    )


def rotated(x: Tensor, rope: Tensor) -> Tensor:
    """Heads turned by their positions, in bfloat16, computed in float32.

    Args:
        x: [..., H, D], of a kind that is computed here.
        rope: float32 [..., D]: cosines in the first half, sines in the second.
    """
    found: Tensor = _Rotation.apply(x.contiguous(), rope.contiguous())  # type: ignore[no-untyped-call]
    return found


class _Rotation(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rope: Tensor) -> Tensor:
        ctx.save_for_backward(rope)
        ctx.dtype = x.dtype
        return _turn(x, rope, torch.bfloat16, x.dtype == torch.bfloat16, back=False)

    @staticmethod
    def backward(ctx: Any, of_turned: Tensor) -> Any:
        (rope,) = ctx.saved_tensors
        half = ctx.dtype == torch.bfloat16
        return _turn(of_turned.contiguous(), rope, ctx.dtype, half, back=True), None


def _turn(x: Tensor, rope: Tensor, dtype: torch.dtype, half: bool, *, back: bool) -> Tensor:
    y = torch.empty_like(x, dtype=dtype)
    *_, heads, size = x.shape
    rows = x.numel() // (heads * size)
    tensors = (one.data_ptr() for one in (x, rope, y))
    kernels().everlong_rotate(*tensors, rows, heads, size, half, back, torch.get_num_threads())
    return y
