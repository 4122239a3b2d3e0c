"""The number formats of GGUF tensors: plain floats, and blocks of small integers with scales.

A quantised row is a run of blocks; a block holds 32 (or, for the "K" types, 256) integers of 4 to
8 bits with one scale per group of them, packed as documented in ggml's ``ggml-common.h``. Each
``_unpack_*`` below turns blocks into one byte per integer by masking and shifting words of eight
packed bytes: no loop over blocks, no lookups but one table of 256 entries.

Scales are products of a 16-bit float and an integer of at most 8 bits, so they and
``scale * code`` are exact in float32; only adding a minimum rounds, once.

NumPy rather than PyTorch: these are many small operations, which PyTorch would split between
threads at a cost above their own (and, on a busy machine, a hundred times that).

Letters: B blocks, G groups in a block, S integers in a group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Blocks:
    """Unpacked blocks: ``value[b, g, s] = scale[b, g] * (codes[b, g, s] - zero) + minimum[b, g]``,
    where ``zero`` belongs to the format."""

    codes: NDArray[Any]
    """One byte per integer [B, G * S]: uint8 for 4 bits, else int8."""
    scale: Floats
    """float32 [B, G]."""
    minimum: Floats | None = None
    """float32 [B, G]; None is 0."""


@dataclass(frozen=True)
class FloatFormat:
    """Plain numbers, one after the other."""

    name: str
    dtype: torch.dtype

    @property
    def block_values(self) -> int:
        return 1

    @property
    def block_bytes(self) -> int:
        return self.dtype.itemsize


@dataclass(frozen=True)
class BlockFormat:
    """Quantised numbers in blocks."""

    name: str
    block_values: int
    """Numbers in a block; a row is a whole number of blocks."""
    block_bytes: int
    bits: int
    """4 or 8: what is needed to hold the integers."""
    group_size: int
    """Numbers that share a scale."""
    unpack: Callable[[Bytes], Blocks]
    """uint8 [B, block_bytes] -> Blocks."""
    zero: int = 0
    """The code whose value is ``minimum``."""


Format = FloatFormat | BlockFormat

_NIBBLES = np.uint64(0x0F0F_0F0F_0F0F_0F0F)
_PAIRS = np.uint64(0x0303_0303_0303_0303)
_ONES = np.uint64(0x0101_0101_0101_0101)
_FOUR = np.uint64(4)


def _words(blocks: Bytes, start: int, stop: int) -> NDArray[np.uint64]:
    """A copy of bytes [start, stop) of each block in words of eight, [B, (stop - start) / 8]."""
    return blocks[:, start:stop].copy().view(np.uint64)


def _halves(blocks: Bytes, start: int, stop: int) -> Floats:
    """Bytes [start, stop) of each block as 16-bit floats, float32 [B, (stop - start) / 2]."""
    return np.ascontiguousarray(blocks[:, start:stop]).view(np.float16).astype(np.float32)


def _nibbles(packed: NDArray[np.uint64], run: int) -> NDArray[np.uint64]:
    """Unpack bytes of two integers each; a run's low nibbles come before its high ones.

    Args:
        packed: words [B, N]; consumed.
        run: words in a run.

    Returns:
        One integer per byte, [B, N / run, 2, run].
    """
    packed = packed.reshape(len(packed), -1, run)
    codes = np.empty((*packed.shape[:2], 2, run), dtype=np.uint64)
    np.bitwise_and(packed, _NIBBLES, out=codes[:, :, 0])
    packed >>= _FOUR
    np.bitwise_and(packed, _NIBBLES, out=codes[:, :, 1])
    return codes


def _bytes(codes: NDArray[np.uint64]) -> Bytes:
    """Words [B, ...] -> bytes [B, n]."""
    return codes.reshape(len(codes), -1).view(np.uint8)


def _spread_table(clear: int, set_: int) -> NDArray[np.uint64]:
    """uint64 [256]: byte i of entry v is ``set_`` where bit i of v is set, else ``clear``."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1  # [256, 8]
    return np.where(bits == 1, set_, clear).astype(np.uint8).view(np.uint64).reshape(256)


# What a set (or clear) fifth bit adds to a nibble of Q5_1, and of Q5_0, whose integers are stored
# 16 too high: there a clear bit sets all upper bits of the nibble, which is minus 16.
_PLUS_16 = _spread_table(clear=0x00, set_=0x10)
_MINUS_16 = _spread_table(clear=0xF0, set_=0x00)


def _unpack_q4_0(blocks: Bytes) -> Blocks:
    return Blocks(_bytes(_nibbles(_words(blocks, 2, 18), 2)), _halves(blocks, 0, 2))


def _unpack_q4_1(blocks: Bytes) -> Blocks:
    head = _halves(blocks, 0, 4)
    return Blocks(_bytes(_nibbles(_words(blocks, 4, 20), 2)), head[:, :1], head[:, 1:])


def _unpack_q5_0(blocks: Bytes) -> Blocks:
    codes = _nibbles(_words(blocks, 6, 22), 2).reshape(-1, 4)
    codes |= _MINUS_16[blocks[:, 2:6]]
    return Blocks(_bytes(codes).view(np.int8), _halves(blocks, 0, 2))


def _unpack_q5_1(blocks: Bytes) -> Blocks:
    codes = _nibbles(_words(blocks, 8, 24), 2).reshape(-1, 4)
    codes |= _PLUS_16[blocks[:, 4:8]]
    head = _halves(blocks, 0, 4)
    return Blocks(_bytes(codes).view(np.int8), head[:, :1], head[:, 1:])


def _unpack_q8_0(blocks: Bytes) -> Blocks:
    return Blocks(blocks[:, 2:].view(np.int8), _halves(blocks, 0, 2))


def _k_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """Scales and minimums of Q4_K and Q5_K, float32 [B, 8] each.

    After two 16-bit floats (a factor for the scales, one for the minimums) come 12 bytes with
    eight 6-bit scales and eight 6-bit minimums: bytes 0-3 and 4-7 hold the first four of each in
    their low six bits; bytes 8-11 hold the low four bits of the last four scales (low nibble) and
    minimums (high nibble), whose top two bits are the top bits of bytes 0-3 and 4-7.
    """
    factors = _halves(blocks, 0, 4)
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([first & 0x3F, (third & 0x0F) | (first >> 6 << 4)], axis=1)
    minimums = np.concatenate([second & 0x3F, (third >> 4) | (second >> 6 << 4)], axis=1)
    return factors[:, :1] * scales, -factors[:, 1:] * minimums


def _unpack_q4_k(blocks: Bytes) -> Blocks:
    return Blocks(_bytes(_nibbles(_words(blocks, 16, 144), 4)), *_k_scales(blocks))


def _unpack_q5_k(blocks: Bytes) -> Blocks:
    codes = _nibbles(_words(blocks, 48, 176), 4).reshape(-1, 8, 4)  # [B, G, words]
    fifth = _words(blocks, 16, 48)  # bit g of byte s belongs to integer s of group g
    for group in range(8):
        codes[:, group] |= (fifth >> np.uint64(group) & _ONES) << _FOUR
    return Blocks(_bytes(codes).view(np.int8), *_k_scales(blocks))


def _unpack_q6_k(blocks: Bytes) -> Blocks:
    # Two halves of 128 integers, each 64 bytes of low nibbles and 32 bytes of upper bit pairs.
    codes = _nibbles(_words(blocks, 0, 128), 8).reshape(-1, 2, 4, 4)
    upper = _words(blocks, 128, 192).reshape(-1, 2, 4)
    for quarter in range(4):
        codes[:, :, quarter] |= (upper >> np.uint64(2 * quarter) & _PAIRS) << _FOUR
    integers = _bytes(codes).view(np.int8)
    integers -= 32
    return Blocks(integers, _halves(blocks, 208, 210) * blocks[:, 192:208].view(np.int8))


FORMATS: dict[int, Format] = {
    0: FloatFormat("F32", torch.float32),
    1: FloatFormat("F16", torch.float16),
    2: BlockFormat("Q4_0", 32, 18, bits=4, group_size=32, unpack=_unpack_q4_0, zero=8),
    3: BlockFormat("Q4_1", 32, 20, bits=4, group_size=32, unpack=_unpack_q4_1),
    6: BlockFormat("Q5_0", 32, 22, bits=8, group_size=32, unpack=_unpack_q5_0),
    7: BlockFormat("Q5_1", 32, 24, bits=8, group_size=32, unpack=_unpack_q5_1),
    8: BlockFormat("Q8_0", 32, 34, bits=8, group_size=32, unpack=_unpack_q8_0),
    12: BlockFormat("Q4_K", 256, 144, bits=4, group_size=32, unpack=_unpack_q4_k),
    13: BlockFormat("Q5_K", 256, 176, bits=8, group_size=32, unpack=_unpack_q5_k),
    14: BlockFormat("Q6_K", 256, 210, bits=8, group_size=16, unpack=_unpack_q6_k),
    30: FloatFormat("BF16", torch.bfloat16),
}
"""By GGUF's type number."""

FORMAT_BY_NAME: dict[str, Format] = {format_.name: format_ for format_ in FORMATS.values()}

OTHER_TYPES: dict[int, str] = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
"""Types that exist but are not read, for the error message."""
