"""The blocks in memory: handed out, shared between sequences, found again by what they hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from everlong.device import large
from everlong.engine.stored_blocks import StoredBlocks
from everlong.errors import ConfigError
from everlong.memory.block_id import BlockId

LEAD = 16
"""Tokens that a block must share with another to be worth copying."""

_CANDIDATES = 8
_MAPPED = 256


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    for count, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return count
    return min(len(a), len(b))


@dataclass(frozen=True)
class BlockIndex:
    """The routing index that every block has."""

    shape: tuple[int, ...]
    """Of one block's, uint8."""
    make: Callable[[Tensor, int], Tensor]
    """Makes that of a block with its place in its sequence."""


class BlockPool:
    """A fixed number of equal blocks.

    A block is *held* by one or more sequences, or *cached* (nobody holds it but its content is
    known), or *free*. Asking for a block takes a free one, else the cached one that was released
    longest ago.

    Full blocks are shared: who needs the same tokens holds the same block. A block that begins
    with the same tokens and then differs, or that is not full, can only be copied from; such
    blocks are found by their *lead*, the id of their first ``LEAD`` tokens.

    What is not here may be in a store on disk. A block that is found there exactly as it was stays
    there: it is *mapped*, has a number past those of the pool's own, and is gone with its last
    holder. From a store that rounds, it is copied into one of the pool's own.

    Args:
        shape: of one block, :func:`everlong.model.cache.block_shape`.
        count: number of blocks.
        dtype: of keys and values.
        stored: the store's blocks of this shape.
        index: the routing index that blocks have; None: they have none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        count: int,
        dtype: torch.dtype,
        stored: StoredBlocks | None = None,
        index: BlockIndex | None = None,
    ) -> None:
        if count < 1:
            raise ConfigError(f"the pool needs at least 1 block, not {count}")
        self._storage = large((count, *shape), dtype)
        self._codes = large((count, *(index.shape if index else ())), torch.uint8)
        self._index = index
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._ids: list[BlockId | None] = [None] * count
        self._known: dict[BlockId, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._leads: list[BlockId | None] = [None] * count
        self._owners: list[bytes] = [b""] * count
        self._begun: dict[BlockId, dict[int, Sequence[int]]] = {}
        self._stored = stored
        self._mapped: dict[int, Tensor] = {}
        self._mapped_codes: list[Tensor] = []  # of so many mapped blocks each
        self._unmapped: list[int] = []

    @property
    def total(self) -> int:
        """Number of blocks, without mapped ones."""
        return len(self._storage)

    @property
    def available(self) -> int:
        """Blocks that can be had without taking one from a sequence."""
        return len(self._free) + len(self._cached)

    @property
    def cached(self) -> int:
        """Blocks that nobody holds and whose content would be found again."""
        return len(self._cached)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return self._storage[0].nbytes + (self._codes[0].nbytes if self._index else 0)

    def tensor(self, block: int) -> Tensor:
        """The memory of a block; of a mapped one, not to be written to."""
        return self._storage[block] if block < self.total else self._mapped[block]

    def codes(self, block: int) -> Tensor | None:
        """The routing index of a block, where blocks have one."""
        if self._index is None:
            return None
        return self._codes[block] if block < self.total else self._codes_of_mapped(block)

    def take(self) -> int | None:
        """An empty block, held once; None when every block is held."""
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        else:
            return None
        self._holders[block] = 1
        return block

    def find(self, known: BlockId, number: int, owner: bytes = b"") -> int | None:
        """The block with this content, now held once more; None if there is none.

        Args:
            known: its id.
            number: its place in its sequence.
            owner: id of the namespace that it is of.
        """
        block = self._known.get(known)
        if block is not None:
            self.hold(block)
        elif self._stored is not None and (tensor := self._stored.find(known)) is not None:
            if self._stored.mapped:
                return self._map(tensor, known, number)
            if (block := self.take()) is not None:
                self._storage[block] = tensor
                if self._index is not None:
                    self._codes[block] = self._index.make(tensor, number)
                self.publish(block, known, owner)
        return block

    def expect(self, known: Sequence[BlockId]) -> None:
        """A sequence with these blocks is about to look for them."""
        missing = [block for block in known if block not in self._known]
        if self._stored is not None and missing:
            self._stored.expect(missing)

    def contains(self, known: BlockId) -> bool:
        """Whether :meth:`find` would find it without the store."""
        return known in self._known

    def publish(self, block: int, known: BlockId, owner: bytes = b"") -> None:
        """Make a full block findable. The first of two equal blocks is the one that is found.

        Args:
            block: its number.
            known: its id.
            owner: id of the namespace that it is of.
        """
        assert self._holders[block], "only a held block can be published"
        if known not in self._known:
            self._forget_id(block)
            self._known[known] = block
            self._ids[block] = known
            self._owners[block] = owner

    def describe(
        self, block: int, lead: BlockId, tokens: Sequence[int], owner: bytes = b""
    ) -> None:
        """Make the beginning of a held block findable.

        Args:
            block: holds at least ``tokens``; they are not written again.
            lead: id of the first ``LEAD`` of them.
            owner: id of the namespace that it is of.
        """
        assert self._holders[block], "only a held block can be described"
        assert len(tokens) >= LEAD, "short beginnings are not worth a copy"
        if self._leads[block] != lead:
            self._forget_lead(block)
            self._leads[block] = lead
            self._owners[block] = owner
        bucket = self._begun.setdefault(lead, {})
        bucket.pop(block, None)
        bucket[block] = tokens
        if len(bucket) > _CANDIDATES:
            self._forget_lead(next(iter(bucket)))

    def longest(self, lead: BlockId, tokens: Sequence[int]) -> tuple[int, int]:
        """The block that begins with most of ``tokens``, and with how many; (-1, 0): none.

        Args:
            lead: id of the first ``LEAD`` of them.
        """
        best = (-1, 0)
        for block, begun in self._begun.get(lead, {}).items():
            if (count := common(begun, tokens)) > best[1]:
                best = (block, count)
        return best

    def copy(self, block: int, count: int) -> int | None:
        """A new block, held once, with the first ``count`` tokens of ``block``; None: no room."""
        self.hold(block)  # taking a block must not take this one
        copied = self.take()
        if copied is not None:
            self._storage[copied, ..., :count, :] = self.tensor(block)[..., :count, :]
            if (codes := self.codes(block)) is not None:
                self._codes[copied] = codes
        self.release(block)
        return copied

    def hold(self, block: int) -> None:
        """One more hold on a block whose content is known."""
        self._cached.pop(block, None)
        self._holders[block] += 1

    def release(self, block: int) -> None:
        """Give back one hold."""
        assert self._holders[block] > 0, f"block {block} is not held"
        self._holders[block] -= 1
        if self._holders[block] == 0:
            if block in self._mapped:
                self._unmap(block)
            elif self._ids[block] is None and self._leads[block] is None:
                self._free.append(block)
            else:
                self._cached[block] = None

    def forget_cached(self, owner: bytes | None = None) -> None:
        """Make every block that nobody holds an empty one; a store keeps what it has.

        Args:
            owner: id of the namespace whose blocks these are; None: all.
        """
        for block in [b for b in self._cached if owner is None or self._owners[b] == owner]:
            del self._cached[block]
            self._forget(block)
            self._storage[block].zero_()
            self._codes[block].zero_()
            self._free.append(block)

    def _map(self, tensor: Tensor, known: BlockId, number: int) -> int:
        """A number, held once, for a block of the store."""
        if self._unmapped:
            block = self._unmapped.pop()
        else:
            block = len(self._holders)
            self._holders.append(0)
            self._ids.append(None)
            self._leads.append(None)
            self._owners.append(b"")
        self._mapped[block] = tensor
        if self._index is not None:
            self._codes_of_mapped(block).copy_(self._index.make(tensor, number))
        self._holders[block] = 1
        self._known[known] = block
        self._ids[block] = known
        return block

    def _codes_of_mapped(self, block: int) -> Tensor:
        assert self._index is not None, "blocks have a routing index"
        part, place = divmod(block - self.total, _MAPPED)
        if part == len(self._mapped_codes):
            self._mapped_codes.append(large((_MAPPED, *self._index.shape), torch.uint8))
        return self._mapped_codes[part][place]

    def _unmap(self, block: int) -> None:
        known = self._ids[block]
        assert known is not None, "only found blocks are mapped"
        assert self._stored is not None, "they are the store's"
        self._forget(block)
        del self._mapped[block]
        self._unmapped.append(block)
        self._stored.release(known)

    def _forget(self, block: int) -> None:
        self._forget_id(block)
        self._forget_lead(block)

    def _forget_id(self, block: int) -> None:
        known = self._ids[block]
        if known is not None:
            del self._known[known]
            self._ids[block] = None

    def _forget_lead(self, block: int) -> None:
        lead = self._leads[block]
        if lead is not None:
            bucket = self._begun[lead]
            del bucket[block]
            if not bucket:
                del self._begun[lead]
            self._leads[block] = None
