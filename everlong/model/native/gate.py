"""``silu(gate) * up`` with gradients; see ``gate.h``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from everlong.model.native.library import kernels, library


def computes(gate: Tensor) -> bool:
    """Whether numbers of this kind are computed here."""
    kind = gate.dtype == torch.bfloat16 and gate.device.type == "cpu"
    return kind and library() is not None


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``, computed in float32 and rounded once; both bfloat16, of one shape."""
    found: Tensor = _Gate.apply(gate.contiguous(), up.contiguous())  # type: ignore[no-untyped-call]
    return found


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        out = torch.empty_like(gate)
        tensors = (one.data_ptr() for one in (gate, up, out))
        kernels().everlong_gate_forward(*tensors, out.numel(), torch.get_num_threads())
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> Any:
        gate, up = ctx.saved_tensors
        of_out = of_out.contiguous()
        gradients = torch.empty_like(gate), torch.empty_like(up)
        tensors = (one.data_ptr() for one in (gate, up, of_out, *gradients))
        kernels().everlong_gate_backward(*tensors, gate.numel(), torch.get_num_threads())
        return gradients
