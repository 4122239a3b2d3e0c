"""The engine's blocks in a store on disk: written when they are full, found by their id."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from everlong.errors import DamagedError
from everlong.memory.block_store import BlockStore
from everlong.memory.record import BlockHead, Record


class StoredBlocks:
    """Blocks of one shape and precision in a store.

    A slice of the store is the keys or the values of one head of one layer, so the payload of a
    record is the block as it lies in memory.

    Args:
        store: where they are.
        shape: of a block, :func:`everlong.model.cache.block_shape`.
        dtype: of keys and values.
    """

    def __init__(self, store: BlockStore, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._store, self._shape, self._dtype = store, shape, dtype
        layers, heads, two, tokens, size = shape
        self._slices = layers * heads * two
        self._slice_bytes = tokens * size * dtype.itemsize
        # PyTorch has no read-only tensors and warns, once in a process, of memory that is one;
        # nobody writes to full blocks.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.frombuffer(b"0", dtype=torch.uint8)

    def find(self, known: bytes) -> Tensor | None:
        """The block with this id, verified, or None; it is held until :meth:`release`.

        The tensor is the file itself, mapped: it must not be written to.
        """
        record = self._store.get(known)
        if record is None:
            return None
        if (record.head.slices, record.head.slice_bytes) != (self._slices, self._slice_bytes):
            return None
        try:
            payload = record.verified()
        except DamagedError as error:
            self._store.damaged(known, str(error))
            return None
        self._store.hold([known])
        return torch.frombuffer(payload, dtype=self._dtype).view(self._shape)

    def release(self, known: bytes) -> None:
        """A block that was found is in use no more."""
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
            episodes=(),
            slices=self._slices,
            slice_bytes=self._slice_bytes,
        )
        payload = block.contiguous().view(torch.uint8).numpy().tobytes()
        self._store.put(Record.of(head, payload), depth)
