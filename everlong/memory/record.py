"""A block as bytes: a head that says what it is, then slices with a checksum each.

A record begins at a page of its segment. Its head names the block and everything its keys and
values depend on, holds its token ids and one checksum for every slice, and has a checksum of its
own; so a slice can be read and verified alone, and a file without its ledger still says what is in
it. What a slice means (keys or values of a head of a layer) is the engine's matter.

::

    head      magic, version, sizes | id, parent, namespace, fingerprint, key | token ids |
              a checksum for each slice | checksum of the head
    padding   to the next page
    slices    each at a multiple of 64 bytes
    padding   to the next page

Numbers are little-endian. Checksums are XXH3 (64 bits): they find damage, they do not prevent
forgery; files belong to one user.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from everlong.errors import DamagedError
from everlong.memory.disk import Buffer

PAGE = 4096
"""Records and their slices begin at multiples of this."""
ALIGNMENT = 64
"""Slices begin at multiples of this: a cache line, and what vector units like."""
VERSION = 1
ID_BYTES = 32
NAMESPACE_BYTES = 16
KEY_BYTES = 16
NO_PARENT = bytes(ID_BYTES)
"""The parent of a sequence's first block."""
NO_KEY = bytes(KEY_BYTES)
"""Slices are not encrypted; other key ids are reserved."""

_MAGIC = b"EVLBLOCK"
_FIXED = struct.Struct("<8sIIIIII32s32s16s32s16s")
_CHECKSUM = struct.Struct("<Q")
_MOST_TOKENS = 1 << 16
_RESERVED = 0
"""Stands in the head where a later version may need a number."""
_MOST_SLICES = 1 << 16
_MOST_SLICE_BYTES = 1 << 30


@dataclass(frozen=True)
class BlockHead:
    """What a block is."""

    id: bytes
    """32 bytes: the keyed hash of all that the keys and values depend on."""
    parent: bytes
    """Id of the block before it in the sequence, or ``NO_PARENT``."""
    namespace: bytes
    """16 bytes: whose it is."""
    fingerprint: bytes
    """32 bytes: of weights, tokenizer, positions and precision."""
    token_ids: tuple[int, ...]
    slices: int
    slice_bytes: int
    """Of each slice, without what follows it up to the next multiple of 64."""
    key: bytes = NO_KEY

    @property
    def stride(self) -> int:
        """Bytes from one slice to the next."""
        return _up(self.slice_bytes, ALIGNMENT)

    @property
    def payload_offset(self) -> int:
        """Bytes from the record's beginning to its first slice."""
        return _up(self._head_bytes, PAGE)

    @property
    def payload_bytes(self) -> int:
        """Of all slices, with what is between them."""
        return self.slices * self.stride

    @property
    def record_bytes(self) -> int:
        """Of the whole record, up to where the next one may begin."""
        return self.payload_offset + _up(self.payload_bytes, PAGE)

    @property
    def _head_bytes(self) -> int:
        return _FIXED.size + 4 * len(self.token_ids) + _CHECKSUM.size * (self.slices + 1)


@dataclass(frozen=True)
class Record:
    """A block as it lies in a segment, its head verified, its slices not; or before it does."""

    head: BlockHead
    payload: memoryview
    """All slices, [slices * stride] bytes."""
    checksums: tuple[int, ...] | None
    """Of each slice; None: it is not on disk yet, and is what was put."""

    @classmethod
    def of(cls, head: BlockHead, payload: Buffer) -> Record:
        """A block that is not on disk yet.

        Args:
            head: what it is.
            payload: its slices, ``head.payload_bytes`` long.
        """
        view = memoryview(payload).cast("B")
        assert len(view) == head.payload_bytes, (len(view), head.payload_bytes)
        return cls(head, view, None)

    def slice(self, number: int) -> memoryview:
        """A slice, verified.

        Raises:
            DamagedError: it is not what was written.
        """
        begin = number * self.head.stride
        content = self.payload[begin : begin + self.head.slice_bytes]
        if self.checksums and xxhash.xxh3_64_intdigest(content) != self.checksums[number]:
            raise DamagedError(f"slice {number} of block {self.head.id.hex()[:16]}")
        return content

    def verified(self) -> memoryview:
        """All slices, verified.

        Raises:
            DamagedError: one is not what was written.
        """
        for number in range(self.head.slices):
            self.slice(number)
        return self.payload


def encode(record: Record) -> bytes:
    """The bytes of a record's head, up to its first slice."""
    head, checksums = record.head, record.checksums
    if checksums is None:
        checksums = tuple(
            xxhash.xxh3_64_intdigest(record.payload[begin : begin + head.slice_bytes])
            for begin in range(0, head.payload_bytes, head.stride)
        )
    assert len(head.id) == len(head.parent) == len(head.fingerprint) == ID_BYTES
    assert len(head.namespace) == NAMESPACE_BYTES
    parts = [
        _FIXED.pack(
            _MAGIC,
            VERSION,
            head._head_bytes,
            len(head.token_ids),
            _RESERVED,
            head.slices,
            head.slice_bytes,
            head.id,
            head.parent,
            head.namespace,
            head.fingerprint,
            head.key,
        ),
        struct.pack(f"<{len(head.token_ids)}i", *head.token_ids),
        struct.pack(f"<{len(checksums)}Q", *checksums),
    ]
    content = b"".join(parts)
    content += _CHECKSUM.pack(xxhash.xxh3_64_intdigest(content))
    return content.ljust(head.payload_offset, b"\0")


def decode(view: memoryview) -> Record:
    """The record that begins where ``view`` does; its slices stay where they are.

    Args:
        view: to the end of the record, or further.

    Raises:
        DamagedError: there is no whole record, or its head is not what was written.
    """
    if len(view) < _FIXED.size:
        raise DamagedError("the file ends before the head of a block")
    magic, version, size, tokens, reserved, slices, slice_bytes, *names = _FIXED.unpack_from(view)
    if magic != _MAGIC:
        raise DamagedError("no block begins here")
    if version != VERSION:
        raise DamagedError(f"a block has version {version}, and {VERSION} is known")
    # Bounded before anything is read: a damaged number must not lead far away.
    if (
        tokens > _MOST_TOKENS
        or reserved != _RESERVED
        or slices > _MOST_SLICES
        or slice_bytes > _MOST_SLICE_BYTES
    ):
        raise DamagedError("the head of a block has impossible sizes")
    expected = _FIXED.size + 4 * tokens + _CHECKSUM.size * (slices + 1)
    if size != expected or size > len(view):
        raise DamagedError("the head of a block has impossible sizes")
    content = view[: size - _CHECKSUM.size]
    (checksum,) = _CHECKSUM.unpack_from(view, len(content))
    if xxhash.xxh3_64_intdigest(content) != checksum:
        raise DamagedError("the head of a block is damaged")
    at = _FIXED.size
    token_ids = struct.unpack_from(f"<{tokens}i", view, at)
    at += 4 * tokens
    identity, parent, namespace, fingerprint, key = names
    head = BlockHead(identity, parent, namespace, fingerprint, token_ids, slices, slice_bytes, key)
    end = head.payload_offset + head.payload_bytes
    if end > len(view):
        raise DamagedError("the file ends before the slices of a block do")
    payload = view[head.payload_offset : end]
    return Record(head, payload, struct.unpack_from(f"<{slices}Q", view, at))


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
