"""Safetensors files and sharded folders of them: headers checked, tensors mapped, not read.

A file is the length of its header (64 bits, little endian), the header (a JSON object: for each
tensor its type, shape and place), and the data, which the tensors fill without gaps. All of it is
checked before a tensor is looked at, because whoever made the file chose every number in it.

Source: the format description in the safetensors repository (``README.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from everlong.checkpoint.fields import shown
from everlong.checkpoint.gguf_types import FORMAT_BY_NAME, FloatFormat
from everlong.checkpoint.json_files import MAX_JSON_BYTES, parse_json, read_json
from everlong.checkpoint.mapping import MappedFile
from everlong.errors import CheckpointError, UnsupportedError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
MAX_DIMENSIONS = 8

_OTHER_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Types that exist but are not read, with their size: the file around them is still checked."""


@dataclass(frozen=True)
class SafetensorsTensor:
    """Where a tensor lies and what it is."""

    name: str
    shape: tuple[int, ...]
    type: str
    raw: Tensor
    """uint8 [nbytes], over the mapped file."""


class SafetensorsFile:
    """One open safetensors file.

    Args:
        path: the file.

    Raises:
        CheckpointError: the header, or what it says about the data, cannot be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = MappedFile(path)
        start = 8 + self._header_bytes()
        header = parse_json(self.file.buffer[8:start], f"the header of {path}")
        if not isinstance(header, dict):
            raise self._damaged("the header is not a JSON object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise self._damaged("__metadata__ is not a JSON object")
        self.tensors = self._read_tensors(header, start)

    def _header_bytes(self) -> int:
        if self.file.size < 8:
            raise self._damaged(f"{self.file.size} bytes are too few")
        length = int.from_bytes(self.file.buffer[:8], "little")
        if length > self.file.size - 8:
            raise self._damaged(
                f"it claims a header of {length} bytes, but only {self.file.size - 8} follow"
            )
        if length > MAX_JSON_BYTES:
            raise UnsupportedError(
                f"{self.path} has a header of {length} bytes; at most {MAX_JSON_BYTES} are read"
            )
        return length

    def _read_tensors(self, header: dict[str, Any], start: int) -> dict[str, SafetensorsTensor]:
        places: list[tuple[int, int, str]] = []
        kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, entry in header.items():
            type_, shape, first, last = self._entry(name, entry)
            kinds[name] = type_, shape
            places.append((first, last, name))
        tensors: dict[str, SafetensorsTensor] = {}
        end = 0
        for first, last, name in sorted(places):
            if first != end:
                problem = "overlaps another tensor" if first < end else "follows unused bytes"
                raise self._damaged(f"the tensor {shown(name)} {problem} at {first} of the data")
            end = last
            type_, shape = kinds[name]
            raw = self.file.bytes[start + first : start + last]
            tensors[name] = SafetensorsTensor(name, shape, type_, raw)
        if start + end != self.file.size:
            raise self._damaged(f"its data ends at byte {start + end} of {self.file.size}")
        return tensors

    def _entry(self, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
        """Type, shape, first and last byte of the tensor that a header's entry describes."""
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._damaged(f"the tensor {shown(name)} needs dtype, shape, data_offsets only")
        type_, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
            raise self._damaged(f"the tensor {shown(name)} has no valid shape")
        if not _counts(offsets) or len(offsets) != 2:
            raise self._damaged(f"the tensor {shown(name)} has no valid data_offsets")
        size = _item_bytes(type_)
        if size is None:
            raise self._damaged(f"the tensor {shown(name)} has an unknown dtype")
        first, last = offsets
        if last - first != prod(shape) * size:
            raise self._damaged(
                f"the tensor {shown(name)} of type {type_} and shape {tuple(shape)} "
                f"cannot take {last - first} bytes"
            )
        return type_, tuple(shape), first, last

    def _damaged(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is no valid safetensors file: {problem}")


def open_folder(folder: Path) -> tuple[list[SafetensorsFile], dict[str, SafetensorsTensor]]:
    """Open the safetensors files of a model folder.

    Args:
        folder: holds ``model.safetensors``, or an index and the shards it names.

    Returns:
        The open files, and all tensors by name.

    Raises:
        UnsupportedError: the folder holds weights of another kind only.
        CheckpointError: a file is missing or damaged, or the index disagrees with the shards.
    """
    if (folder / SINGLE_NAME).exists():
        file = SafetensorsFile(folder / SINGLE_NAME)
        return [file], file.tensors
    if not (folder / INDEX_NAME).exists():
        raise _no_weights(folder)
    weight_map = _weight_map(folder / INDEX_NAME)
    files = [SafetensorsFile(folder / name) for name in sorted(set(weight_map.values()))]
    tensors: dict[str, SafetensorsTensor] = {}
    for file in files:
        for name, tensor in file.tensors.items():
            if weight_map.get(name) != file.path.name:
                raise CheckpointError(
                    f"{file.path} holds the tensor {shown(name)}, which {INDEX_NAME} "
                    + (f"places in {weight_map[name]}" if name in weight_map else "does not list")
                )
            tensors[name] = tensor
    for name, shard in weight_map.items():
        if name not in tensors:
            raise CheckpointError(
                f"{folder / shard} lacks the tensor {shown(name)} of {INDEX_NAME}"
            )
    return files, tensors


def _weight_map(path: Path) -> dict[str, str]:
    """Tensor name -> shard, from an index; only plain file names are allowed."""
    index = read_json(path)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no weight_map")
    for shard in weight_map.values():
        plain = isinstance(shard, str) and not set(shard) & set('/\\:\0"*?<>|')
        if not plain or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{path} names the shard {shown(shard)}; a plain file name that ends in "
                ".safetensors is allowed"
            )
    return weight_map


def _no_weights(folder: Path) -> CheckpointError:
    pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(
        p.name for pattern in ("*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern)
    )
    if pickled:
        return UnsupportedError(
            f"{folder} holds its weights as {pickled[0]}, a pickle, which can run code when it is "
            'read. Convert it where you trust it: python -c "from transformers import '
            f"AutoModelForCausalLM as M; M.from_pretrained('{folder}')"
            f".save_pretrained('{folder}-safetensors')\""
        )
    if (folder / "adapter_model.safetensors").exists():
        return UnsupportedError(f"{folder} is an adapter; give the model that it was made for")
    return CheckpointError(
        f"{folder} holds no weights: expected {SINGLE_NAME}, or {INDEX_NAME} and its shards"
    )


def _counts(value: Any) -> bool:
    """Whether ``value`` is a list of whole numbers from 0."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _item_bytes(type_: Any) -> int | None:
    if not isinstance(type_, str):
        return None
    format_ = FORMAT_BY_NAME.get(type_)
    if isinstance(format_, FloatFormat):
        return format_.block_bytes
    return _OTHER_BYTES.get(type_)
