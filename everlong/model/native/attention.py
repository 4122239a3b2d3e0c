"""Attention of packed sequences, with gradients.

See ``narrow_attention.h`` and ``packed_attention.h``.

Letters: N tokens of all sequences together, H query heads, K kv heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from everlong.device import cpu_features
from everlong.model.native.library import NARROW, WIDE, PackedRows, kernels, library


def computes(q: Tensor) -> bool:
    """Whether queries [N, H, D] of this kind have their attention computed here.

    Where the processor has matrix units for bfloat16, wide heads stay with PyTorch, which uses
    them.
    """
    wide = q.shape[-1] in WIDE and q.dtype == torch.bfloat16 and not cpu_features().amx_bf16
    narrow = q.shape[-1] in NARROW and q.dtype in (torch.float32, torch.bfloat16)
    return (wide or narrow) and q.device.type == "cpu" and library() is not None


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], first: Tensor, last: Tensor
) -> Tensor:
    """Attention of packed sequences, each row to a range of the rows of its own sequence.

    Args:
        q: [N, H, D]; k, v: [N, K, D]; of a kind that is computed here.
        lengths: of the sequences, in their order; they sum to N.
        first, last: int32 [N]: each row sees the rows [first, last), itself among them.

    Returns:
        [N, H, D].
    """
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    found: Tensor = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        q.contiguous(), k.contiguous(), v.contiguous(), starts, first, last
    )
    return found


class _PackedAttention(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, first: Tensor, last: Tensor
    ) -> Tensor:
        rows = _rows(q, k, starts, first, last)
        out = torch.empty_like(q)
        sums = q.new_empty(q.shape[:2], dtype=torch.float32)
        tensors = (one.data_ptr() for one in (q, k, v, out, sums))
        kernels().everlong_attention_forward(rows, *tensors, torch.get_num_threads())
        ctx.save_for_backward(q, k, v, out, sums, starts, first, last)
        return out

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> Any:
        q, k, v, out, sums, starts, first, last = ctx.saved_tensors
        of_out = of_out.contiguous()
        gradients = tuple(torch.empty_like(one) for one in (q, k, v))
        tensors = (one.data_ptr() for one in (q, k, v, out, sums, of_out, *gradients))
        kernels().everlong_attention_backward(
            _rows(q, k, starts, first, last), *tensors, torch.get_num_threads()
        )
        return (*gradients, None, None, None)


def _rows(q: Tensor, k: Tensor, starts: Tensor, first: Tensor, last: Tensor) -> PackedRows:
    return PackedRows(
        starts.data_ptr(),
        first.data_ptr(),
        last.data_ptr(),
        len(starts) - 1,
        q.shape[1],
        k.shape[1],
        q.shape[2],
        q.dtype == torch.bfloat16,
    )
