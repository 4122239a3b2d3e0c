"""Root-mean-square norms whose results are read by products; see ``normalization.h``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from everlong.model.native.library import kernels, library


def computes(x: Tensor) -> bool:
    """Whether what products read of ``x`` is computed here: where they read bfloat16."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and library() is not None
    )


def normalized(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / rms(x) * weight``, computed in float32 and rounded once.

    Args:
        x: float32 [..., size].
        weight: float32 [size].
        eps: added to the mean square.

    Returns:
        bfloat16 [..., size].
    """
    found: Tensor = _Norm.apply(x.contiguous(), weight.contiguous(), eps)  # type: ignore[no-untyped-call]
    return found


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y = torch.empty_like(x, dtype=torch.bfloat16)
        factors = x.new_empty(x.shape[:-1])
        tensors = (one.data_ptr() for one in (x, weight, y, factors))
        sizes = factors.numel(), x.shape[-1]
        kernels().everlong_norm_forward(*tensors, *sizes, eps, torch.get_num_threads())
        ctx.save_for_backward(x, weight, factors)
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> Any:
        x, weight, factors = ctx.saved_tensors
        of_y = of_y.contiguous()
        of_x, of_weight = torch.empty_like(x), torch.empty_like(weight)
        tensors = (one.data_ptr() for one in (x, weight, factors, of_y, of_x, of_weight))
        sizes = factors.numel(), x.shape[-1]
        kernels().everlong_norm_backward(*tensors, *sizes, torch.get_num_threads())
        return of_x, of_weight if ctx.needs_input_grad[1] else None, None
