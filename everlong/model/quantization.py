"""Weights of linear layers: exact integer groups, how they are made, and their packing."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Literal

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
    highest = x.abs().amax(-1) / 127
    scale = highest.half()
    # Rounded up, so that no code is beyond 127.
    scale = torch.where(scale < highest, torch.nextafter(scale, scale.new_tensor(torch.inf)), scale)
    scale = scale.float()
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

    Where the native kernels run, integers stay integers in memory and are multiplied as such: the
    inputs of a row are rounded to 8 bits, with a scale for every 32 of them, as llama.cpp does.
    Weights in bfloat16 take inputs in bfloat16. Elsewhere integer groups become bfloat16 too.

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
        self._kind = _BFLOAT16
        self._codes: Tensor
        self._scales: Tensor | None = None
        self._packed: Tensor | None = None
        if groups is not None and self._native is not None:
            self._kind, self._codes, self._scales = _pack(groups, self._native)
        else:
            dense = weight if isinstance(weight, Tensor) else weight.dense()
            self._codes = dense.to(torch.bfloat16).contiguous()
        self._bias = None if bias is None else bias.detach().float().contiguous()

    @property
    def integer(self) -> bool:
        """Whether the weights are multiplied as integers."""
        return self._kind.bits < 16

    @property
    def nbytes(self) -> int:
        """Bytes of the weights as they lie in memory, all packings together."""
        parts = (self._codes, self._scales, self._bias, self._packed)
        return sum(p.nbytes for p in parts if p is not None)

    def matrix(self) -> Matrix:
        """The weights as the native kernels read them; valid as long as this module lives."""
        kind = self._kind
        return Matrix(
            codes=self._codes.data_ptr(),
            scales=self._scales.data_ptr() if self._scales is not None else None,
            bias=self._bias.data_ptr() if self._bias is not None else None,
            bits=kind.bits,
            group=kind.group,
            minimum=kind.minimum,
            half=kind.half,
            n=self.out_features,
            k=self.in_features,
        )

    def dense(self) -> Tensor:
        """The weights, [N, K]: bfloat16, or float32 for integers."""
        return self.rows(torch.arange(self.out_features)) if self.integer else self._codes

    def rows(self, index: Tensor) -> Tensor:
        """Rows of the weight matrix: float32 [..., K] for integers of any shape."""
        flat = index.reshape(-1)
        if not self.integer:
            return self._codes[flat].float().view(*index.shape, self.in_features)
        assert self._native is not None
        flat = flat.to(torch.int64).contiguous()
        values = torch.empty(*index.shape, self.in_features)
        self._native.everlong_rows(
            ctypes.byref(self.matrix()), flat.data_ptr(), len(flat), values.data_ptr()
        )
        return values

    def forward(self, x: Tensor) -> Tensor:
        """``x``: [..., K] of any float type; returns float32 [..., N]."""
        flat = x.reshape(-1, self.in_features)
        if self._native is not None and (self.integer or len(flat) <= native_rows()):
            flat = flat.float().contiguous()
            y = torch.empty(len(flat), self.out_features)
            failed = self._native.everlong_linear(
                ctypes.byref(self.matrix()), flat.data_ptr(), y.data_ptr(), len(flat), threads(), 1
            )
            if failed:
                raise MemoryError("no memory for the scratch space of a product")
        else:
            y = self._without_kernels(flat.to(torch.bfloat16)).float()
            if self._bias is not None:
                y += self._bias
        return y.view(*x.shape[:-1], self.out_features)

    def _without_kernels(self, x: Tensor) -> Tensor:
        if not has_packed_bf16():
            return linear(x, self._codes)
        if self._packed is None:
            # The number of rows only steers the blocking that oneDNN chooses.
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._codes, 256)
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


@dataclass(frozen=True)
class _Kind:
    """How weights lie in memory, as ``native/matrix.h`` describes it."""

    bits: int
    group: int = GROUP
    minimum: bool = False
    half: bool = False


_BFLOAT16 = _Kind(16)
_LANES = 16  # outputs of a block of integers


def _pack(groups: IntegerGroups, native: Any) -> tuple[_Kind, Tensor, Tensor]:
    """Codes and scales in the blocks that ``native/integer.h`` describes."""
    scale, minimum = groups.scale, groups.minimum
    n, k = groups.codes.shape
    if groups.bits == 4:
        if minimum is None:
            minimum = torch.zeros_like(scale)
        elif torch.equal(minimum, scale * -8):
            minimum = None  # which is what codes without one mean
    assert groups.group_size == GROUP or (minimum is None and groups.bits == 8)
    blocks = -(-n // _LANES)
    codes = torch.empty(blocks * _LANES * k * groups.bits // 8, dtype=torch.uint8)
    given = groups.codes.contiguous()
    native.everlong_pack(given.data_ptr(), groups.bits, n, k, threads(), codes.data_ptr())

    parts = scale.view(n, k // GROUP, -1)  # one scale, or that of each 16 inputs
    if minimum is not None:
        parts = torch.stack((scale, minimum), -1)
    half = parts.half()
    exact = torch.equal(half.float(), parts)
    kind = _Kind(groups.bits, groups.group_size, minimum is not None, exact)
    laid = torch.zeros(blocks * _LANES, *parts.shape[1:], dtype=torch.half if exact else None)
    laid[:n] = half if exact else parts
    laid = laid.view(blocks, _LANES, *parts.shape[1:]).permute(0, 2, 3, 1).contiguous()
    return kind, codes, laid
