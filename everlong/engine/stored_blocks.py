"""The engine's blocks in a store on disk: written when they are full, found by their id.

A slice of the store is the keys or the values of one head of one layer. How they lie in it is a
:class:`BlockFormat`: as they are, or in half of the bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from everlong.errors import DamagedError
from everlong.memory.block_store import BlockStore
from everlong.memory.record import ALIGNMENT, BlockHead, Record

BlockShape = tuple[int, int, int, int, int]
"""Layers, kv heads, keys and values, 64, D: :func:`everlong.model.cache.block_shape`."""


class BlockFormat(Protocol):
    """How a block of keys and values lies in its slices."""

    slice_bytes: int
    exact: bool
    """What is read is bit for bit what was written, and lies there as it does in memory."""

    def encode(self, block: Tensor) -> bytes:
        """The slices of a block, one after the other; the block may change after the call."""

    def decode(self, payload: memoryview) -> Tensor:
        """The block; where ``exact``, the tensor is the payload's own memory."""


class Exact:
    """Keys and values as they are.

    Args:
        shape: of a block.
        dtype: of keys and values.
    """

    exact = True

    def __init__(self, shape: BlockShape, dtype: torch.dtype) -> None:
        self._shape, self._dtype = shape, dtype
        self.slice_bytes = shape[-2] * shape[-1] * dtype.itemsize
        # PyTorch has no read-only tensors and warns, once in a process, of memory that is one;
        # nobody writes to full blocks.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.frombuffer(b"0", dtype=torch.uint8)

    def encode(self, block: Tensor) -> bytes:
        return block.contiguous().view(torch.uint8).numpy().tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        return torch.frombuffer(payload, dtype=self._dtype).view(self._shape)


class Int8:
    """Keys and values rounded to 255 steps: keys by channel, values by token.

    Some channels of keys are large in every token, and tokens differ in the size of their values
    (Liu et al., "KIVI", 2024, section 3.1); so a slice of keys has a scale for each of its D
    channels, and one of values for each of its 64 tokens, float32, behind the numbers.

    Args:
        shape: of a block.
        dtype: of keys and values as they are read.
    """

    exact = False

    def __init__(self, shape: BlockShape, dtype: torch.dtype) -> None:
        *_, tokens, size = shape
        self._shape, self._dtype = shape, dtype
        self._numbers = tokens * size
        scales = max(tokens, size)
        self.slice_bytes = -(-(self._numbers + 4 * scales) // ALIGNMENT) * ALIGNMENT

    def encode(self, block: Tensor) -> bytes:
        layers, heads, _, tokens, size = self._shape
        slices = torch.zeros(layers, heads, 2, self.slice_bytes, dtype=torch.uint8)
        for part, (over, count) in enumerate(((-2, size), (-1, tokens))):
            exact = block[:, :, part].float()
            scale = exact.abs().amax(over, keepdim=True).clamp_min(1e-30) / 127
            rounded = (exact / scale).round_().to(torch.int8)
            into = slices[:, :, part]
            into[..., : self._numbers] = rounded.flatten(2).view(torch.uint8)
            into[..., self._numbers : self._numbers + 4 * count] = scale.flatten(2).view(
                torch.uint8
            )
        return slices.numpy().tobytes()

    def decode(self, payload: memoryview) -> Tensor:
        layers, heads, _, tokens, size = self._shape
        # A copy: what is mapped is read-only, and goes with its segment.
        slices = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        slices = slices.view(layers, heads, 2, self.slice_bytes)
        block = torch.empty(self._shape, dtype=self._dtype)
        for part, scales in enumerate(((1, size), (tokens, 1))):
            stored = slices[:, :, part]
            numbers = stored[..., : self._numbers].view(torch.int8)
            scale = stored[..., self._numbers :][..., : 4 * max(scales)].contiguous()
            exact = numbers.reshape(layers, heads, tokens, size).float()
            block[:, :, part] = exact * scale.view(torch.float32).view(layers, heads, *scales)
        return block


FORMATS: dict[str, type[Exact] | type[Int8]] = {"auto": Exact, "int8": Int8}
"""By what a user calls them."""


class StoredBlocks:
    """Blocks of one shape and format in a store.

    Args:
        store: where they are.
        shape: of a block.
        form: how they lie there.
    """

    def __init__(self, store: BlockStore, shape: BlockShape, form: BlockFormat) -> None:
        self._store, self._form = store, form
        layers, heads, two, _, _ = shape
        self._slices = layers * heads * two

    @property
    def mapped(self) -> bool:
        """Whether what is found is the file itself, which must not be written to; it is held until
        :meth:`release`."""
        return self._form.exact

    def find(self, known: bytes) -> Tensor | None:
        """The block with this id, verified, or None."""
        record = self._store.get(known)
        if record is None:
            return None
        if (record.head.slices, record.head.slice_bytes) != (self._slices, self._form.slice_bytes):
            return None
        try:
            payload = record.verified()
        except DamagedError as error:
            self._store.damaged(known, str(error))
            return None
        if self.mapped:
            self._store.hold([known])
        return self._form.decode(payload)

    def release(self, known: bytes) -> None:
        """A mapped block that was found is in use no more."""
        self._store.release([known])

    def expect(self, known: Sequence[bytes]) -> None:
        """These blocks are asked for next: fetch those that are there, and keep them longer."""
        if count := self._store.will_need(known):
            self._store.touch(known[:count])

    def keep(
        self,
        block: Tensor,
        *,
        known: bytes,
        parent: bytes,
        namespace: bytes,
        fingerprint: bytes,
        depth: int,
        tokens: Sequence[int],
    ) -> None:
        """Have a full block written soon; it may change after the call.

        Args:
            block: its keys and values.
            known: its id.
            parent: id of the block before it.
            namespace: whose it is, 16 bytes.
            fingerprint: of the model as it was used, 32 bytes.
            depth: blocks before it in its sequence.
            tokens: its token ids.
        """
        head = BlockHead(
            id=known,
            parent=parent,
            namespace=namespace,
            fingerprint=fingerprint,
            token_ids=tuple(tokens),
            slices=self._slices,
            slice_bytes=self._form.slice_bytes,
        )
        self._store.put(Record.of(head, self._form.encode(block)), depth)
