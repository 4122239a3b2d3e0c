"""What this machine can do, and what follows from it."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class CpuFeatures:
    """Instructions that decide which kernels run."""

    avx512_bf16: bool
    """AVX-512 with products of bfloat16 pairs and of byte quads: what the native kernels need."""
    amx_bf16: bool
    """Matrix units for bfloat16, reached through oneDNN."""
    amx_int8: bool
    """Matrix units for bytes, which the native kernels use for many rows."""


@cache
def cpu_features() -> CpuFeatures:
    """The instructions of this processor, as PyTorch reports them."""
    known = torch.cpu.get_capabilities()
    return CpuFeatures(
        avx512_bf16=all(
            known.get(name, False)
            for name in (
                "avx512_f",
                "avx512_bw",
                "avx512_vl",
                "avx512_dq",
                "avx512_bf16",
                "avx512_vnni",
                "f16c",
            )
        ),
        amx_bf16=bool(known.get("amx_tile", False) and known.get("amx_bf16", False)),
        amx_int8=bool(known.get("amx_tile", False) and known.get("amx_int8", False)),
    )


def machine_memory() -> int | None:
    """Bytes of the machine's memory; None: the system does not tell."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def native_rows() -> int:
    """Most rows of one product with bfloat16 weights that the native kernels serve.

    More go to oneDNN where it has matrix units (AMX), two to three times as fast from 64 rows on
    (the specification's measurements). Without them the native products keep up with oneDNN's at
    every number of rows (``docs/experiments.md``, section 7). Weights in integers always stay
    with the native kernels, which use matrix units themselves (sections 8 and 9).
    """
    return 48 if cpu_features().amx_bf16 else 1 << 30


def threads() -> int:
    """Threads that products use: PyTorch's own setting, so that one pool serves both."""
    return torch.get_num_threads()


@cache
def has_packed_bf16() -> bool:
    """Whether oneDNN's private operators for pre-packed bfloat16 weights work here."""
    try:
        weight = torch.eye(32, dtype=torch.bfloat16)
        x = torch.arange(64, dtype=torch.bfloat16).view(2, 32)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        y = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        return bool(torch.equal(y, x))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def measured_peak_flops(
    precision: Literal["bf16", "float32"], device: torch.device | None = None
) -> float:
    """Operations a second of PyTorch's own product of large matrices, the best of three.

    What this machine can do at most, for saying how near something else comes to it. Matrices are
    2048 x 2048 on the processor, and 8192 x 8192 on a GPU.
    """
    gpu = device is not None and device.type == "cuda"
    size, times = 8192 if gpu else 2048, []
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        if gpu:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times[1:])


peak_flops = cache(measured_peak_flops)
"""The same, measured once in a process."""


def large(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory for a tensor that is read here and there, all zero, in large pages where there are.

    It is reserved, not touched: the system gives pages as they are first written. A read at a
    random place costs a walk through the page tables more in pages of 4 KiB.
    """
    size = prod(shape) * dtype.itemsize
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or size == 0:
        return torch.zeros(shape, dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        pages.madvise(advice)
    return torch.frombuffer(pages, dtype=dtype, count=prod(shape)).view(shape)


def keep_freed_memory() -> None:
    """Have this process use again what it frees, instead of giving it back to the system.

    For loops that need the same memory in every turn: glibc returns large pieces at once, and each
    page of them is then asked for, zeroed and mapped anew. A step of training took a third longer.
    Nothing happens where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (others do not know these numbers)
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26)):
            library.mallopt(option, value)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Numbers of ``malloc.h``."""
