"""A shuffled order in which any place can be asked for, without the memory of a list."""

from __future__ import annotations

import xxhash

_ROUNDS = 4


class Permutation:
    """The numbers below ``count`` in an order that a key decides.

    A Feistel network over the next power of four (Luby and Rackoff, 1988), walked until the number
    is below ``count`` (Black and Rogaway, 2002, section 3): one to four steps in the mean.

    Args:
        count: at least 1.
        key: names the order.
    """

    def __init__(self, count: int, key: str) -> None:
        assert count >= 1, f"{count} items"
        self._count = count
        self._half = max(1, ((count - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = [xxhash.xxh64_intdigest(f"{i} {key}".encode()) for i in range(_ROUNDS)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        """The number at a place; each appears once."""
        if not 0 <= place < self._count:
            raise IndexError(f"place {place} of {self._count}")
        number = self._shuffled(place)
        while number >= self._count:
            number = self._shuffled(number)
        return number

    def _shuffled(self, number: int) -> int:
        left, right = number >> self._half, number & self._mask
        for key in self._keys:
            mixed = xxhash.xxh64_intdigest(right.to_bytes(8, "little"), seed=key) & self._mask
            left, right = right, left ^ mixed
        return left << self._half | right
