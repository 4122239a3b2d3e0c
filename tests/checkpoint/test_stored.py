"""Every number format against the gguf package, dense and as exact integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from everlong.checkpoint import StoredTensor, open_checkpoint
from everlong.checkpoint.gguf_types import FORMAT_BY_NAME, BlockFormat
from everlong.checkpoint.names import gguf_name, interleaved_heads
from everlong.errors import UnsupportedError
from tests.checkpoint.samples import (
    BLOCK_TYPES,
    dequantize,
    interleave,
    qwen_path,
    random_blocks,
    smollm2_path,
)


def bits_of(values: torch.Tensor | np.ndarray) -> np.ndarray:
    """float32 as integers, so that even the sign of zero must agree."""
    return np.ascontiguousarray(values).view(np.uint32)


def stored(type_: str, rows: int, columns: int) -> tuple[StoredTensor, np.ndarray]:
    raw = random_blocks(type_, rows, columns, seed=1)
    tensor = StoredTensor("w", (rows, columns), type_, torch.from_numpy(raw).view(-1))
    return tensor, dequantize(raw, type_)


# Rows of 1, of a piece and a bit, and wider than a piece.
@pytest.mark.parametrize(("rows", "columns"), [(1, 256), (300, 512), (2, 1 << 18)])
@pytest.mark.parametrize("type_", BLOCK_TYPES)
def test_dense_is_bit_equal_to_the_gguf_package(type_: str, rows: int, columns: int) -> None:
    tensor, expected = stored(type_, rows, columns)
    assert np.array_equal(bits_of(tensor.dense()), bits_of(expected))
    rounded = torch.from_numpy(expected).bfloat16()
    assert torch.equal(tensor.dense(torch.bfloat16).view(torch.int16), rounded.view(torch.int16))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("type_", BLOCK_TYPES)
def test_reading_leaves_the_stored_bytes_alone(type_: str, rows: int) -> None:
    tensor, _ = stored(type_, rows, 256)
    before = tensor.raw.clone()
    tensor.dense()
    tensor.groups()
    assert torch.equal(tensor.raw, before)


@pytest.mark.parametrize("type_", BLOCK_TYPES)
def test_groups_are_the_stored_integers(type_: str) -> None:
    tensor, expected = stored(type_, 300, 512)
    groups = tensor.groups()
    assert groups is not None
    wide = type_ not in ("Q4_0", "Q4_1", "Q4_K")
    assert groups.bits == (8 if wide else 4)
    assert groups.group_size == (16 if type_ == "Q6_K" else 32)
    assert groups.codes.dtype == (torch.int8 if wide else torch.uint8)
    assert groups.codes.shape == (300, 512)
    assert groups.scale.shape == (300, 512 // groups.group_size)
    # In double precision nothing rounds; what the package computes in float32 is one rounding off.
    codes = groups.codes.double().view(300, -1, groups.group_size)
    exact = codes * groups.scale.double()[:, :, None]
    if groups.minimum is not None:
        exact = exact + groups.minimum.double()[:, :, None]
    assert torch.equal(exact.float().view(300, 512), torch.from_numpy(expected))
    assert torch.equal(groups.dense(), torch.from_numpy(expected))


def test_every_code_of_a_format_occurs() -> None:
    reached = {}
    for type_ in BLOCK_TYPES:
        groups = stored(type_, 64, 1024)[0].groups()
        assert groups is not None
        reached[type_] = int(groups.codes.min()), int(groups.codes.max())
    assert reached == {
        "Q4_0": (0, 15),
        "Q4_1": (0, 15),
        "Q5_0": (-16, 15),
        "Q5_1": (0, 31),
        "Q8_0": (-128, 127),
        "Q4_K": (0, 15),
        "Q5_K": (0, 31),
        "Q6_K": (-32, 31),
    }


@pytest.mark.parametrize("type_", ["Q4_0", "Q6_K"])
def test_reordered_rows_are_reordered_in_every_reading(type_: str) -> None:
    tensor, expected = stored(type_, 300, 512)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    moved = StoredTensor("w", tensor.shape, type_, tensor.raw, order)
    assert torch.equal(moved.dense(), torch.from_numpy(expected)[order])
    straight, reordered = tensor.groups(), moved.groups()
    assert straight is not None
    assert reordered is not None
    assert torch.equal(reordered.codes, straight.codes[order])
    assert torch.equal(reordered.scale, straight.scale[order])


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16"])
def test_plain_floats_are_a_view_in_their_own_type(type_: str) -> None:
    format_ = FORMAT_BY_NAME[type_]
    assert not isinstance(format_, BlockFormat)
    values = torch.randn(6, 8).to(format_.dtype)
    raw = values.view(torch.uint8).view(-1)
    tensor = StoredTensor("w", (6, 8), type_, raw)
    assert tensor.groups() is None
    same = tensor.dense(format_.dtype)
    assert torch.equal(same, values)
    assert same.data_ptr() == raw.data_ptr()
    assert torch.equal(tensor.dense(), values.float())


def test_a_misaligned_tensor_is_read_all_the_same() -> None:
    values = torch.randn(16)
    raw = torch.cat([torch.zeros(1, dtype=torch.uint8), values.view(torch.uint8)])[1:]
    assert raw.storage_offset() == 1
    assert torch.equal(StoredTensor("w", (16,), "F32", raw).dense(), values)


@pytest.mark.parametrize("type_", BLOCK_TYPES)
@pytest.mark.parametrize("byte", [0xFF, 0x7C])  # not a number, infinite
def test_damaged_scales_are_values_and_not_failures(type_: str, byte: int) -> None:
    raw = torch.from_numpy(random_blocks(type_, 2, 256)).fill_(byte)
    if byte == 0x7C:
        raw[:, 0::2] = 0
    tensor = StoredTensor("w", (2, 256), type_, raw.view(-1))
    tensor.dense(torch.bfloat16)
    groups = tensor.groups()
    assert groups is not None
    assert not groups.scale.isfinite().any()


def test_a_type_that_is_not_read_says_which_are() -> None:
    tensor = StoredTensor("ids", (2,), "I64", torch.zeros(16, dtype=torch.uint8))
    with pytest.raises(UnsupportedError, match="ids has the type I64; supported: F32"):
        tensor.dense()


@pytest.mark.parametrize("path", [smollm2_path, qwen_path])
def test_real_files_are_bit_equal_to_the_gguf_package(path: Callable[[], Path]) -> None:
    """Some tensors of each type, and 256 rows of each; the package needs minutes for all."""
    checkpoint = open_checkpoint(path())
    reference = {tensor.name: tensor for tensor in GGUFReader(checkpoint.path).tensors}
    assert {gguf_name(name) for name in checkpoint.tensors} == set(reference)
    seen: Counter[str] = Counter()
    for name, tensor in checkpoint.tensors.items():
        if seen[tensor.type] == 3 or tensor.raw.numel() > 1 << 25:
            continue
        seen[tensor.type] += 1
        ours = tensor.dense()
        groups = tensor.groups()
        assert (groups is None) == (tensor.type == "F32"), name
        if groups is not None:
            assert torch.equal(groups.dense(), ours), name
        if heads := interleaved_heads(name, checkpoint.config):
            ours = torch.from_numpy(interleave(ours.numpy(), heads))
        values = dequantize(np.asarray(reference[gguf_name(name)].data)[:256], tensor.type)
        assert np.array_equal(bits_of(ours[:256]), bits_of(values.reshape(ours[:256].shape))), name
