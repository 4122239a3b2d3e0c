"""Attention with narrow heads, of packed sequences, with gradients; see ``narrow_attention.h``.

Letters: N tokens of all sequences together, H query heads, K kv heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from everlong.model.native.library import PackedRows, library

_HEAD_SIZES = frozenset({4, 8, 16})


def computes(q: Tensor) -> bool:
    """Whether queries [N, H, D] of this kind have their attention computed here."""
    return (
        q.shape[-1] in _HEAD_SIZES
        and q.dtype in (torch.float32, torch.bfloat16)
        and q.device.type == "cpu"
        and library() is not None
    )


def narrow_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], first: Tensor, last: Tensor
) -> Tensor:
    """Attention of packed sequences, each row to a range of the rows of its own sequence.

    Args:
        q: [N, H, D]; k, v: [N, K, D]; all float32 or all bfloat16. D is 4, 8 or 16.
        lengths: of the sequences, in their order; they sum to N.
        first, last: int32 [N]: each row sees the rows [first, last), itself among them.

    Returns:
        [N, H, D].
    """
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    found: Tensor = _NarrowAttention.apply(  # type: ignore[no-untyped-call]
        q.contiguous(), k.contiguous(), v.contiguous(), starts, first, last
    )
    return found


class _NarrowAttention(Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, first: Tensor, last: Tensor
    ) -> Tensor:
        kernels = library()
        assert kernels is not None, "asked by `computes` before"
        rows = _rows(q, k, starts, first, last)
        out = torch.empty_like(q)
        sums = q.new_empty(q.shape[:2], dtype=torch.float32)
        tensors = (one.data_ptr() for one in (q, k, v, out, sums))
        kernels.everlong_narrow_forward(rows, *tensors, torch.get_num_threads())
        ctx.save_for_backward(q, k, v, out, sums, starts, first, last)
        return out

    @staticmethod
    def backward(ctx: Any, of_out: Tensor) -> Any:
        q, k, v, out, sums, starts, first, last = ctx.saved_tensors
        kernels = library()
        assert kernels is not None, "asked by `computes` before"
        of_out = of_out.contiguous()
        gradients = tuple(torch.empty_like(one) for one in (q, k, v))
        tensors = (one.data_ptr() for one in (q, k, v, out, sums, of_out, *gradients))
        kernels.everlong_narrow_backward(
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
