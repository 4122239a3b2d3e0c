"""How alike two texts are, from a few hundred numbers of each.

A text is the set of its shingles, the sequences of some words in it; two texts are as alike as
their sets are by Jaccard: shingles in both, of those in either (Broder 1997). Both of that paper's
sketches are kept of a set:

- for finding: minima over a family of functions (MinHash). Two sets have the same minimum as often
  as they are alike. Some minima together are a band, and texts that have a band in common are
  candidates (Leskovec, Rajaraman and Ullman 2020, section 3.4).
- for comparing: the smallest hashes. The sets' smallest together are a sample, without replacement,
  of what is in either, and it is known of each hash whether both have it. A text with no more
  shingles than are kept is compared exactly, which no number of minima does.

Shingles are numbers of 32 bits: one of n differs from all others but for n in 2 ** 32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from everlong.curation.duplicates.words import mixed, odd_numbers
from everlong.curation.step import Hashes

Values = NDArray[np.uint32]

SET, COUNT, BANDS = 0, 1, 2
"""Places in a sketch: hash of the whole set, number of shingles, first of the bands; after those
come the smallest hashes, two in each number."""

_HALF = np.uint64(32)
NO_HASH = np.uint32(0xFFFF_FFFF)
"""In place of a hash where there is none."""
_CELLS = 1 << 15
"""Products that are computed together: few enough for the processor's cache."""
_SHINGLES = 1 << 11


@dataclass(frozen=True)
class MinHash:
    """Makes sketches and reads them.

    Args:
        words: of a shingle; a shorter text is one shingle.
        bands, rows: so many bands, each of so many minima.
        compared: smallest hashes that are kept.
    """

    words: int
    bands: int
    rows: int
    compared: int

    def sketch(self, words: Hashes) -> Hashes:
        """Of a text's words; empty where there are none."""
        if not len(words):
            return np.empty(0, dtype=np.uint64)
        shingles = _shingles(words, self.words)
        smallest = (shingles[: self.compared] >> _HALF).astype("<u4")
        if len(smallest) % 2:
            smallest = np.append(smallest, NO_HASH)
        head = [xxhash.xxh3_64_intdigest(shingles.astype("<u8", copy=False).data), len(shingles)]
        return np.concatenate(
            [np.array(head, dtype=np.uint64), self._band_keys(shingles), smallest.view("<u8")]
        )

    def smallest(self, sketch: Hashes) -> Values:
        """The smallest hashes in a sketch, ascending."""
        count = min(int(sketch[COUNT]), self.compared)
        return sketch[BANDS + self.bands :].astype("<u8", copy=False).view("<u4")[:count]

    def found(self, similarity: float) -> float:
        """How often two texts that are so alike have a band in common."""
        return 1 - (1 - similarity**self.rows) ** self.bands

    def _band_keys(self, shingles: Hashes) -> Hashes:
        rows = minima(shingles.astype(np.uint32), self.bands * self.rows).astype(np.uint64)
        weighted = rows.reshape(self.bands, self.rows) * odd_numbers(self.rows, 2)
        return mixed(weighted.sum(1, dtype=np.uint64))


def minima(values: Values, functions: int) -> Values:
    """The least of some numbers under each of some functions, uint32 [functions].

    A function is the product with an odd number modulo 2 ** 32. That is a permutation, and for
    numbers that are hashes already as good as any.
    """
    factors = _factors(functions)
    found = np.full(functions, NO_HASH, dtype=np.uint32)
    for start in range(0, len(values), _SHINGLES):
        some = values[start : start + _SHINGLES]
        together = max(1, _CELLS // len(some))
        for first in range(0, functions, together):
            part = found[first : first + together]
            np.minimum((factors[first : first + together] * some).min(1), part, out=part)
    return found


@dataclass(frozen=True, eq=False)
class Compared:
    """The smallest hashes of P texts."""

    values: Values
    """[P, compared], ascending; where a text has fewer, the last are ``0xffffffff``."""
    counts: NDArray[np.int64]
    """[P], shingles of each."""

    def of(self, places: NDArray[np.int64]) -> Compared:
        """Some of them."""
        return Compared(self.values[places], self.counts[places])


def similarity(
    one: Compared, other: Compared
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """How alike the texts of two lists are, one by one.

    Returns:
        Jaccard's similarity; the number of shingles it is counted with; and what share they are of
        all, 1 where it is exact. Each [P].
    """
    width = one.values.shape[1]
    # Below the last hash of a full sketch all hashes are known; it ends the sample.
    last = np.minimum(_last(one, width), _last(other, width))[:, None]
    longest = min(width, int(max(one.counts.max(initial=1), other.counts.max(initial=1))))
    both = np.concatenate([one.values[:, :longest], other.values[:, :longest]], axis=1)
    both.sort(axis=1)
    sampled = both <= last
    shared = np.count_nonzero((both[:, 1:] == both[:, :-1]) & sampled[:, 1:], axis=1)
    known = np.count_nonzero(sampled, axis=1) - shared
    alike = shared / known
    in_either = (one.counts + other.counts) / (1 + alike)
    exact = np.maximum(one.counts, other.counts) <= width
    return alike, known, np.where(exact, 1.0, np.minimum(known / in_either, 1.0))


def _last(compared: Compared, width: int) -> Values:
    return np.where(compared.counts > width, compared.values[:, -1], NO_HASH - np.uint32(1))


def _shingles(words: Hashes, width: int) -> Hashes:
    """The set of shingles, ascending: those that differ in the upper 32 bits."""
    width = min(width, len(words))
    count = len(words) - width + 1
    sums = np.zeros(count, dtype=np.uint64)
    for place, factor in enumerate(odd_numbers(width, 1)):
        sums += words[place : count + place] * factor
    hashes = mixed(sums)
    np.minimum(hashes, np.uint64(0xFFFF_FFFE_FFFF_FFFF), out=hashes)  # leaves NO_HASH free
    hashes.sort()
    upper = hashes >> _HALF
    differ = np.empty(count, dtype=np.bool_)
    differ[0] = True
    np.not_equal(upper[1:], upper[:-1], out=differ[1:])
    return hashes[differ]


@functools.cache
def _factors(functions: int) -> Values:
    return (odd_numbers(functions, 3) >> _HALF).astype(np.uint32)[:, None] | np.uint32(1)
