"""One tensor as it lies in a file, and its two readings: dense numbers, or exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from everlong.checkpoint.gguf_types import (
    FORMAT_BY_NAME,
    BlockFormat,
    Blocks,
    Floats,
    Format,
)
from everlong.errors import UnsupportedError
from everlong.model.quantization import IntegerGroups

# Values decoded at a time: the intermediate results of a piece stay in the processor's cache.
_PIECE_VALUES = 1 << 17
# PyTorch starts threads for more; on a busy machine waiting for them costs far more than they save.
_UNSPLIT_VALUES = (1 << 15) - 1


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, unread until it is asked for."""

    name: str
    """As Hugging Face spells it, whatever the file's format."""
    shape: tuple[int, ...]
    type: str
    """Format in the file: "F32", "F16", "BF16", "Q8_0", "Q4_0", ..., "Q6_K"."""
    raw: Tensor
    """uint8 [nbytes], over the mapped file."""
    order: Tensor | None = None
    """int64 [R]: row r of the tensor is row ``order[r]`` of the file; None: the same."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.raw.numel()

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values, rounded once to ``dtype`` where it is narrower.

        Plain floats asked for in the type that they have are a view of the mapped file (no
        copy); everything else is a new tensor.

        Raises:
            UnsupportedError: the numbers are of a type that is not read.
        """
        format_ = self._format
        if isinstance(format_, BlockFormat):
            return self._decode(format_, dtype)
        raw = self.raw
        if raw.storage_offset() % format_.dtype.itemsize:
            raw = raw.clone()  # a view would be misaligned
        values = raw.view(format_.dtype).view(self.shape)
        if self.order is not None:
            values = values[self.order]
        return values.to(dtype)

    def groups(self) -> IntegerGroups | None:
        """The stored integers with their scales, exactly; None for plain floats and vectors.

        Types of at most 4 bits give 4-bit codes, all others 8-bit ones.
        """
        format_ = self._format
        if not isinstance(format_, BlockFormat) or len(self.shape) != 2:
            return None
        rows, columns = self.shape
        groups = columns // format_.group_size
        codes = np.empty((rows, columns), np.uint8 if format_.bits == 4 else np.int8)
        scale = np.empty((rows, groups), np.float32)
        minimum: Floats | None = None
        for start, stop, blocks in self._pieces(format_):
            codes[start:stop] = blocks.codes.reshape(-1, columns)
            scale[start:stop] = blocks.scale.reshape(-1, groups)
            if blocks.minimum is not None:
                minimum = np.empty_like(scale) if minimum is None else minimum
                minimum[start:stop] = blocks.minimum.reshape(-1, groups)
        if format_.zero:
            assert minimum is None, f"{format_.name} has a zero code and minimums"
            with np.errstate(all="ignore"):
                minimum = scale * np.float32(-format_.zero)
        return IntegerGroups(
            format_.bits,
            format_.group_size,
            torch.from_numpy(codes),
            torch.from_numpy(scale),
            None if minimum is None else torch.from_numpy(minimum),
        )

    @property
    def _format(self) -> Format:
        if self.type not in FORMAT_BY_NAME:
            raise UnsupportedError(
                f"the tensor {self.name} has the type {self.type}; "
                f"supported: {', '.join(FORMAT_BY_NAME)}"
            )
        return FORMAT_BY_NAME[self.type]

    def _pieces(self, format_: BlockFormat) -> Iterator[tuple[int, int, Blocks]]:
        """Runs of rows [start, stop) with their unpacked blocks, in order."""
        columns = self.shape[-1]
        rows = prod(self.shape[:-1])
        row_bytes = columns // format_.block_values * format_.block_bytes
        packed = self.raw.numpy().reshape(rows, row_bytes)
        order = None if self.order is None else self.order.numpy()
        step = max(1, _PIECE_VALUES // columns)
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            piece = packed[start:stop] if order is None else packed[order[start:stop]]
            with np.errstate(all="ignore"):  # a damaged scale may be infinite: its own affair
                blocks = format_.unpack(piece.reshape(-1, format_.block_bytes))
            yield start, stop, blocks

    def _decode(self, format_: BlockFormat, dtype: torch.dtype) -> Tensor:
        columns = self.shape[-1]
        out = torch.empty(prod(self.shape[:-1]), columns, dtype=dtype)
        exact = out.numpy() if dtype == torch.float32 else None
        for start, stop, blocks in self._pieces(format_):
            if exact is None:
                values = np.empty((stop - start, columns), np.float32)
            else:
                values = exact[start:stop]
            values[...] = blocks.codes.reshape(-1, columns)
            if format_.zero:
                values -= np.float32(format_.zero)
            grouped = values.reshape(-1, format_.group_size)
            with np.errstate(all="ignore"):
                grouped *= blocks.scale.reshape(-1, 1)
                if blocks.minimum is not None:
                    grouped += blocks.minimum.reshape(-1, 1)
            if exact is None:
                _round_into(out[start:stop], values)
        return out.view(self.shape)


def _round_into(out: Tensor, values: Floats) -> None:
    """Copy ``values`` to ``out``, in portions that PyTorch does not split between threads."""
    source, target = torch.from_numpy(values).view(-1), out.view(-1)
    for start in range(0, len(source), _UNSPLIT_VALUES):
        stop = start + _UNSPLIT_VALUES
        target[start:stop] = source[start:stop]
