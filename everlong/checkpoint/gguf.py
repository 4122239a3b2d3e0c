"""GGUF files: header, metadata and where the tensors lie, with a bound on everything.

The format (version 2 and 3, little endian) is a header with two counts, that many metadata
entries, that many tensor descriptions, and the aligned data. Every count, length and offset is a
64-bit number under the control of whoever made the file, so each is compared with the bytes that
are there before anything is allocated or skipped. Nothing but the metadata is read: arrays are
stepped over when the file is opened and become Python lists each time they are asked for.

Source: the GGUF specification in the ggml repository (``docs/gguf.md``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from everlong.checkpoint.fields import shown
from everlong.checkpoint.gguf_types import FORMATS, OTHER_TYPES
from everlong.checkpoint.mapping import MappedFile
from everlong.errors import CheckpointError, UnsupportedError

# Far above what any model uses, far below what would take a second or a gigabyte to read.
MAX_ENTRIES = 1 << 16
MAX_TENSORS = 1 << 16
MAX_ARRAY_ITEMS = 1 << 22
"""In all arrays of a file together; a vocabulary of 262,144 tokens takes about 1,300,000."""
MAX_NAME_BYTES = 1 << 16
MAX_STRING_BYTES = 1 << 24
MAX_ARRAY_DEPTH = 4
MAX_DIMENSIONS = 4

_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {  # value type -> format, as both struct and NumPy write it
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    _BOOL: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_U64 = struct.Struct("<Q")
_SMALLEST_ENTRY = 8 + 4 + 1  # length of the key, type, a byte
_SMALLEST_TENSOR = 8 + 4 + 8 + 4 + 8  # length of the name, dimensions, one size, type, offset
_SMALLEST_ARRAY = 4 + 8  # type, count
_NESTED_ARRAY_ITEMS = 64  # an array within an array takes as long as this many strings


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor lies and what it is."""

    name: str
    """As the file spells it."""
    shape: tuple[int, ...]
    """Slowest axis first, as everywhere outside GGUF."""
    type: str
    offset: int
    """From the start of the file, in bytes."""
    nbytes: int


@dataclass(frozen=True)
class _ArrayAt:
    """An array that was stepped over."""

    item_type: int
    count: int
    start: int
    """Offset of the first item."""


class GGUFFile:
    """An open GGUF file.

    Args:
        path: the file.

    Raises:
        UnsupportedError: another version, byte order or tensor type, or one part of several.
        CheckpointError: anything that does not fit the format or the bytes that are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = MappedFile(path)
        reader = _Reader(self.file)
        tensor_count, entry_count = self._read_header(reader)
        self.metadata = _read_metadata(reader, entry_count)
        if self.metadata.get("split.count", 1) not in (0, 1):
            raise UnsupportedError(
                f"{path} is one part of a split model; join the parts with llama.cpp's "
                "llama-gguf-split --merge first"
            )
        self.tensors = _read_tensors(reader, tensor_count, self._alignment())

    def raw(self, name: str) -> Tensor:
        """The stored bytes of a tensor, uint8 [nbytes], over the mapped file."""
        tensor = self.tensors[name]
        return self.file.bytes[tensor.offset : tensor.offset + tensor.nbytes]

    def _read_header(self, reader: _Reader) -> tuple[int, int]:
        magic = reader.take(4)
        if magic != b"GGUF":
            raise CheckpointError(f"{self.path} is not a GGUF file: it starts with {magic!r}")
        self.version = reader.number("<I")
        if self.version in (2 << 24, 3 << 24):
            raise UnsupportedError(
                f"{self.path} is a big-endian GGUF file; only little-endian ones are read"
            )
        if self.version not in (2, 3):
            raise UnsupportedError(
                f"{self.path} is GGUF version {self.version}; versions 2 and 3 are read"
            )
        tensor_count, entry_count = reader.number("<Q"), reader.number("<Q")
        reader.check_count("tensors", tensor_count, _SMALLEST_TENSOR, MAX_TENSORS)
        reader.check_count("metadata entries", entry_count, _SMALLEST_ENTRY, MAX_ENTRIES)
        return tensor_count, entry_count

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        valid = isinstance(alignment, int) and not isinstance(alignment, bool)
        if not valid or alignment not in (1 << n for n in range(3, 21)):
            raise CheckpointError(
                f"{self.path}: general.alignment must be a power of two from 8 to 1048576, "
                f"not {shown(alignment)}"
            )
        assert isinstance(alignment, int)
        return alignment


class Metadata(Mapping[str, Any]):
    """The metadata of a GGUF file: numbers, booleans, strings, and lists of these.

    A list is made anew at each access (tens of milliseconds for a large vocabulary), so keep it
    rather than ask twice. Access raises CheckpointError for a list whose text is not UTF-8.
    """

    def __init__(self, reader: _Reader, values: dict[str, Any]) -> None:
        self._reader = reader
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        return self._reader.items(value, shown(key)) if isinstance(value, _ArrayAt) else value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Reader:
    """A position in the file; nothing is read past its end."""

    def __init__(self, file: MappedFile, position: int = 0) -> None:
        self.file = file
        self.path = file.path
        self.buffer = file.buffer
        self.size = file.size
        self.position = position
        self.array_items = 0

    def fail(self, problem: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {problem}; the file is damaged or incomplete")

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self.position
        if count > self.size - start:
            self.fail(f"{count} bytes expected at offset {start} of {self.size}")
        self.position = start + count
        return self.buffer[start : start + count]

    def number(self, format_: str) -> Any:
        """The next number, in the notation of :mod:`struct`."""
        return struct.unpack(format_, self.take(struct.calcsize(format_)))[0]

    def string(self, what: str, limit: int) -> str:
        """The next string: its length in bytes (64 bits), then UTF-8."""
        length = self.number("<Q")
        if length > limit:
            self.fail(f"{what} claims {length} bytes at offset {self.position}, above {limit}")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            self.fail(f"{what} before offset {self.position} is not UTF-8")

    def check_count(self, what: str, count: int, smallest: int, limit: int) -> None:
        """Refuse ``count`` things of at least ``smallest`` bytes each that cannot follow."""
        left = self.size - self.position
        if count * smallest > left:
            self.fail(f"the header claims {count} {what}, but only {left} bytes follow")
        if count > limit:
            raise UnsupportedError(f"{self.path} has {count} {what}; at most {limit} are read")

    def value(self, value_type: int, what: str) -> Any:
        """The next metadata value; an array is stepped over."""
        if value_type == _STRING:
            return self.string(what, MAX_STRING_BYTES)
        if value_type == _ARRAY:
            return self._skip_array(what, depth=1)
        if value_type not in _SCALARS:
            self.fail(f"{what} has the unknown value type {value_type}")
        number = self.number(_SCALARS[value_type])
        if value_type == _BOOL:
            if number > 1:
                self.fail(f"{what} is a boolean with the value {number}")
            return bool(number)
        return number

    def items(self, array: _ArrayAt, what: str) -> list[Any]:
        """The items of an array that was stepped over before; does not move the position."""
        if array.item_type == _ARRAY:
            reader = _Reader(self.file, array.start)
            nested = [reader._skip_array(what, depth=0) for _ in range(array.count)]
            return [reader.items(inner, what) for inner in nested]
        if array.item_type == _STRING:
            return self._strings(array, what)
        type_ = np.dtype(_SCALARS[array.item_type])
        numbers = np.frombuffer(self.buffer, type_, array.count, array.start)
        items: list[Any] = (numbers != 0 if array.item_type == _BOOL else numbers).tolist()
        return items

    def _strings(self, array: _ArrayAt, what: str) -> list[str]:
        # A vocabulary has hundreds of thousands: the loop does no more than it must. The lengths
        # were checked when the array was stepped over.
        buffer, position, unpack = self.buffer, array.start, _U64.unpack_from
        texts: list[str] = []
        append = texts.append
        try:
            for _ in range(array.count):
                start = position + 8
                position = start + unpack(buffer, position)[0]
                append(buffer[start:position].decode())
        except UnicodeDecodeError:
            self.fail(f"item {len(texts)} of {what} is not UTF-8")
        return texts

    def _skip_array(self, what: str, depth: int) -> _ArrayAt:
        """Step over an array and return where it is.

        Args:
            what: its key, for messages.
            depth: how many arrays it is in, itself included; 0 if it was checked before.
        """
        item_type, count = self.number("<I"), self.number("<Q")
        array = _ArrayAt(item_type, count, self.position)
        if item_type not in _SCALARS and item_type not in (_STRING, _ARRAY):
            self.fail(f"{what} is an array of the unknown value type {item_type}")
        if item_type in _SCALARS:
            size = struct.calcsize(_SCALARS[item_type])
        else:
            size = _U64.size if item_type == _STRING else _SMALLEST_ARRAY
        left = self.size - self.position
        if count * size > left:
            self.fail(f"{what} claims {count} items, but only {left} bytes follow")
        if depth:
            self.array_items += count * (_NESTED_ARRAY_ITEMS if item_type == _ARRAY else 1)
            if depth > MAX_ARRAY_DEPTH:
                raise UnsupportedError(
                    f"{self.path}: {what} nests arrays deeper than {MAX_ARRAY_DEPTH}"
                )
            if self.array_items > MAX_ARRAY_ITEMS:
                raise UnsupportedError(
                    f"{self.path} has more than {MAX_ARRAY_ITEMS} items in its metadata arrays"
                )
        if item_type == _ARRAY:
            for _ in range(count):
                self._skip_array(what, depth + 1 if depth else 0)
        elif item_type == _STRING:
            self._skip_strings(count, what)
        else:
            self.position += count * size
        return array

    def _skip_strings(self, count: int, what: str) -> None:
        buffer, position, unpack = self.buffer, self.position, _U64.unpack_from
        last = self.size - 8
        for index in range(count):
            if position > last:
                self.fail(f"{what} ends after {index} of {count} items")
            position += 8 + unpack(buffer, position)[0]
        if position > self.size:
            self.fail(f"the last item of {what} reaches past the end")
        self.position = position


def _read_metadata(reader: _Reader, count: int) -> Metadata:
    values: dict[str, Any] = {}
    for _ in range(count):
        key = reader.string("a metadata key", MAX_NAME_BYTES)
        if key in values:
            reader.fail(f"the metadata key {shown(key)} appears twice")
        values[key] = reader.value(reader.number("<I"), shown(key))
    return Metadata(reader, values)


def _read_tensors(reader: _Reader, count: int, alignment: int) -> dict[str, GGUFTensor]:
    relative: dict[str, GGUFTensor] = {}
    for _ in range(count):
        tensor = _read_tensor(reader)
        if tensor.name in relative:
            reader.fail(f"the tensor {shown(tensor.name)} appears twice")
        if tensor.offset % alignment:
            reader.fail(
                f"the tensor {shown(tensor.name)} starts at {tensor.offset}, "
                f"which is no multiple of {alignment}"
            )
        relative[tensor.name] = tensor
    base = -(-reader.position // alignment) * alignment
    end = 0
    for tensor in sorted(relative.values(), key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            reader.fail(f"the tensor {shown(tensor.name)} overlaps another")
        end = tensor.offset + tensor.nbytes
        if base + end > reader.size:
            reader.fail(
                f"the tensor {shown(tensor.name)} ends at offset {base + end} of {reader.size}"
            )
    return {
        name: GGUFTensor(name, t.shape, t.type, base + t.offset, t.nbytes)
        for name, t in relative.items()
    }


def _read_tensor(reader: _Reader) -> GGUFTensor:
    """The next tensor description; its offset is still relative to the data."""
    name = reader.string("a tensor name", MAX_NAME_BYTES)
    dimensions = reader.number("<I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        reader.fail(f"the tensor {shown(name)} has {dimensions} dimensions")
    sizes = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions))
    number = reader.number("<I")
    offset = reader.number("<Q")
    format_ = FORMATS.get(number)
    if format_ is None:
        known = ", ".join(sorted(format_.name for format_ in FORMATS.values()))
        raise UnsupportedError(
            f"{reader.path}: the tensor {shown(name)} has the type "
            f"{OTHER_TYPES.get(number, f'number {number}')}; supported: {known}"
        )
    if 0 in sizes or sizes[0] % format_.block_values:
        reader.fail(
            f"the tensor {shown(name)} of type {format_.name} has rows of {sizes[0]} values, "
            f"not a positive multiple of {format_.block_values}"
        )
    nbytes = prod(sizes) // format_.block_values * format_.block_bytes
    return GGUFTensor(name, sizes[::-1], format_.name, offset, nbytes)
