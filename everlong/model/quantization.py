"""Weights of linear layers: exact integer groups, how they are made, and their packing."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from everlong.device import has_packed_bf16, native_rows, threads
from everlong.model.native.library import Matrix, fits, library

Precision = Literal["float32", "bf16", "int8", "int4"]

GROUP = 32
"""Inputs that share a scale in the groups made here."""

_CHUNK = 1 << 22  # values quantised at a time, so that the working memory is bounded


@dataclass(frozen=True)
class IntegerGroups:
    """A matrix as small integers with a scale (and a minimum) per group along the last axis.

    ``value[n, k] = scale[n, k // group_size] * codes[n, k] + minimum[n, k // group_size]``
    """

    bits: int
    """4 or 8."""
    group_size: int
    """16 or 32 consecutive inputs."""
    codes: Tensor
    """[N, K]: uint8 holding 0..15 for 4 bits, int8 for 8 bits."""
    scale: Tensor
    """float32 [N, K / group_size]."""
    minimum: Tensor | None = None
    """float32 [N, K / group_size]; None is 0."""

    def dense(self) -> Tensor:
        """The matrix in float32, [N, K]."""
        n, k = self.codes.shape
        values = self.codes.view(n, -1, self.group_size) * self.scale[:, :, None]
        if self.minimum is not None:
            values = values + self.minimum[:, :, None]
        return values.view(n, k)


def quantize(weight: Tensor, bits: Literal[4, 8]) -> IntegerGroups:
    """Round a matrix to integer groups of 32.

    8 bits are symmetric around zero. 4 bits have a scale and a minimum in float16, chosen to make
    the squared error small: several ranges inside [min, max] are tried, each with the least
    squares fit of scale and minimum to its codes (the search of llama.cpp's k-quants, restated).

    Args:
        weight: [N, K], K a multiple of 32.
    """
    n, k = weight.shape
    rows = max(1, _CHUNK // k)
    parts = [
        (_quantize8 if bits == 8 else _quantize4)(
            weight[i : i + rows].float().reshape(-1, k // GROUP, GROUP)
        )
        for i in range(0, n, rows)
    ]
    codes = torch.cat([p[0] for p in parts]).view(n, k)
    scale = torch.cat([p[1] for p in parts])
    return IntegerGroups(
        bits, GROUP, codes, scale, None if bits == 8 else torch.cat([p[2] for p in parts])
    )


def _quantize8(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = x.abs().amax(-1) / 127
    codes = (x / scale.clamp_min(1e-30)[..., None]).round().to(torch.int8)
    return codes, scale, scale


def _quantize4(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.amin(-1), x.amax(-1)
    best_error = torch.full_like(low, float("inf"))
    best_scale, best_minimum = torch.zeros_like(low), low.half().float()
    for inset in (0.0, 0.5, 1.0, 1.5, 2.0):
        scale = (high - low) / (15 - inset)
        codes = ((x - low[..., None]) / scale.clamp_min(1e-30)[..., None]).round_().clamp_(0, 15)
        # Least squares: x ~ scale * code + minimum.
        mean_x, mean_c = x.mean(-1), codes.mean(-1)
        centred = codes - mean_c[..., None]
        variance = centred.square().sum(-1)
        scale = (centred * x).sum(-1) / variance.clamp_min(1e-30)
        scale = scale.half().float()
        minimum = (mean_x - scale * mean_c).half().float()
        codes = _codes4(x, scale, minimum)
        error = (codes * scale[..., None] + minimum[..., None] - x).square().sum(-1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
        best_minimum = torch.where(better, minimum, best_minimum)
    codes = _codes4(x, best_scale, best_minimum).to(torch.uint8)
    return codes, best_scale, best_minimum


def _codes4(x: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    steps = (x - minimum[..., None]) / scale.clamp_min(1e-30)[..., None]
    return steps.round_().clamp_(0, 15)


class PackedLinear(nn.Module):
    """A linear layer whose weights never change: bfloat16, or integer groups.

    The values are always bfloat16 ones: a group's value is rounded to bfloat16 after its scale
    and minimum are applied, in whichever packing a product reads it. Where the native kernels
    run, integers stay integers in memory. Elsewhere, and for many rows on processors with matrix
    units, the same values are packed in bfloat16 for oneDNN (2 bytes a weight, made when first
    needed).

    Args:
        weight: [N, K] of any float type, or integer groups. K is a multiple of 32 for the native
            kernels; other widths use PyTorch.
        bias: [N] or None.
    """

    def __init__(self, weight: Tensor | IntegerGroups, bias: Tensor | None = None) -> None:
        super().__init__()
        groups = weight if isinstance(weight, IntegerGroups) else None
        shape = weight.codes.shape if isinstance(weight, IntegerGroups) else weight.shape
        self.out_features: int = shape[0]
        self.in_features: int = shape[1]
        self._native = library() if fits(self.in_features) else None
        self._format, self._scales = 0, None
        self._codes: Tensor
        self._packed: Tensor | None = None
        if groups is None:
            assert isinstance(weight, Tensor)
            self._codes = weight.to(torch.bfloat16).contiguous()
        elif self._native is None:
            kind, codes, scales = _pack(groups)
            self._codes = _unpack(kind, codes, scales).to(torch.bfloat16)
        else:
            self._format, self._codes, self._scales = _pack(groups)
        self._bias = None if bias is None else bias.detach().float().contiguous()

    @property
    def nbytes(self) -> int:
        """Bytes of the weights as they lie in memory, all packings together."""
        parts = (self._codes, self._scales, self._bias, self._packed)
        return sum(p.nbytes for p in parts if p is not None)

    def matrix(self) -> Matrix:
        """The weights as the native kernels read them; valid as long as this module lives."""
        return Matrix(
            self._codes.data_ptr(),
            self._scales.data_ptr() if self._scales is not None else None,
            self._bias.data_ptr() if self._bias is not None else None,
            self._format,
            self.out_features,
            self.in_features,
        )

    def dense(self) -> Tensor:
        """The weights in bfloat16, [N, K]."""
        if self._format == 0:
            return self._codes
        return self.rows(torch.arange(self.out_features)).to(torch.bfloat16)

    def rows(self, index: Tensor) -> Tensor:
        """Rows of the weight matrix: float32 [..., K] for integers of any shape."""
        flat = index.reshape(-1)
        if self._format == 0:
            values = self._codes[flat].float()
        else:
            assert self._scales is not None
            values = _unpack(self._format, self._codes[flat], self._scales[flat])
            values = values.to(torch.bfloat16).float()
        return values.view(*index.shape, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., K] of any float type, rounded to bfloat16; returns float32 [..., N]."""
        flat = x.reshape(-1, self.in_features).to(torch.bfloat16).contiguous()
        if self._native is not None and len(flat) <= native_rows():
            y = torch.empty(len(flat), self.out_features)
            failed = self._native.everlong_linear(
                ctypes.byref(self.matrix()), flat.data_ptr(), y.data_ptr(), len(flat), threads(), 1
            )
            if failed:
                raise MemoryError("no memory for the scratch space of a product")
        else:
            y = self._many_rows(flat).float()
            if self._bias is not None:
                y += self._bias
        return y.view(*x.shape[:-1], self.out_features)

    def _many_rows(self, x: Tensor) -> Tensor:
        if not has_packed_bf16():
            return linear(x, self.dense())
        if self._packed is None:
            # The number of rows only steers the blocking that oneDNN chooses.
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.dense(), 256)
            if self._native is None:
                self._codes = self._codes[:0]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return y


class PackedEmbedding(nn.Module):
    """Embedding whose table is a packed matrix, which the output projection may share."""

    def __init__(self, table: PackedLinear) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens``: integers of any shape; returns float32 [..., hidden]."""
        return self.table.rows(tokens)


# Formats of native/linear.h.
_INT4_HALF, _INT4_FLOAT, _INT8, _INT8_MIN, _INT8_BY16 = 1, 2, 3, 4, 5


def _pack(groups: IntegerGroups) -> tuple[int, Tensor, Tensor]:
    """Format, codes and scales as ``native/linear.h`` describes them."""
    scale, minimum = groups.scale, groups.minimum
    if groups.bits == 4:
        assert groups.group_size == GROUP
        # NumPy: splitting such short operations over threads would cost more than it saves.
        # Two neighbouring codes are a little-endian pair of bytes.
        pair = groups.codes.contiguous().numpy().view("<u2")
        codes = torch.from_numpy((pair | (pair >> 4)).astype(np.uint8))
        pairs = np.zeros((*scale.shape, 2), np.float32)
        pairs[..., 0] = scale.numpy()
        if minimum is not None:
            pairs[..., 1] = minimum.numpy()
        with np.errstate(over="ignore"):
            half = pairs.astype(np.float16)
        if np.array_equal(half.astype(np.float32), pairs):
            return _INT4_HALF, codes, torch.from_numpy(half)
        return _INT4_FLOAT, codes, torch.from_numpy(pairs)
    codes = groups.codes.contiguous()
    if minimum is not None:
        assert groups.group_size == GROUP
        return _INT8_MIN, codes, torch.stack((scale, minimum), -1)
    return (_INT8 if groups.group_size == GROUP else _INT8_BY16), codes, scale.contiguous()


def _unpack(kind: int, codes: Tensor, scales: Tensor) -> Tensor:
    """The float32 values of packed rows, [rows, K]."""
    if kind in (_INT4_HALF, _INT4_FLOAT):
        codes = torch.stack((codes & 15, codes >> 4), -1).flatten(-2)
    size = 16 if kind == _INT8_BY16 else GROUP
    grouped = codes.view(len(codes), -1, size)
    if kind in (_INT8, _INT8_BY16):
        return (grouped * scales[..., None]).flatten(1)
    # One rounding, as the fused multiply and add of the kernels has it.
    scale, minimum = scales.double().unbind(-1)
    return (grouped * scale[..., None] + minimum[..., None]).float().flatten(1)
