"""What is counted of a text: runs of words and of characters, as numbers below a power of two.

Words, pairs of words, and runs of four and five characters inside words (blanks around them
included) are hashed into a table, so that none has to be kept (Weinberger et al. 2009, "Feature
Hashing for Large Scale Multitask Learning", section 2). All of a text are found by some dozens of
operations on arrays, however long it is.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everlong.errors import ConfigError

Integers = NDArray[np.int64]
_Hashes = NDArray[np.uint64]

MOST_CHARACTERS = 1 << 14
"""Of a text at once: what is computed of them stays in the processor's caches."""
_NOT_TEXT = re.compile(r"https?://\S+|www\.\S+|@\w+")
"""Addresses, and names of accounts: they would be learned by heart."""
_BLANK = 32
_TABLE = 1 << 16


@dataclass(frozen=True)
class Ngrams:
    """What is counted of a text."""

    bits: int = 18
    """The table has two to the power of this many weights, a byte each."""
    words: int = 2
    """Longest run of words; 0: none."""
    shortest: int = 4
    """Shortest run of characters inside a word, blanks around it included."""
    longest: int = 5
    """Longest run of characters."""

    def __post_init__(self) -> None:
        for name, low, high in (("bits", 8, 24), ("words", 0, 4), ("shortest", 2, 8)):
            if not low <= (value := getattr(self, name)) <= high:
                raise ConfigError(f"{name} is {value}; give {low} to {high}")
        if not self.shortest <= self.longest <= 8:
            raise ConfigError(f"longest is {self.longest}; give {self.shortest} to 8")


@dataclass(frozen=True)
class FoundNgrams:
    """The n-grams of a text of n characters, as numbers of weights."""

    runs: Integers  # [lengths, n]: the run of each length that begins at a character
    inside: NDArray[np.bool_]  # [lengths, n]: whether it is one, or goes past its word
    words: list[tuple[Integers, Integers]]  # where words begin, and the numbers of runs of them

    def numbers(self) -> Integers:
        """All of them."""
        return np.concatenate([self.runs[self.inside], *(numbers for _, numbers in self.words)])


def ngrams(text: str, kind: Ngrams) -> FoundNgrams:
    """The n-grams of a text.

    Case does not matter, nor what stands between words; a character that comes more than twice in a
    row comes twice, and addresses and names of accounts are left out.

    Args:
        text: of ``MOST_CHARACTERS`` at most.
        kind: what is counted.
    """
    assert len(text) <= MOST_CHARACTERS, f"{len(text)} characters at once"
    plain = f" {_NOT_TEXT.sub(' ', text).lower()} "
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), "<u4")
    inside = _in_words()[np.minimum(codes, _TABLE)]
    codes = np.where(inside, codes, _BLANK)
    kept = np.ones(len(codes), np.bool_)
    kept[1:] = inside[1:] | inside[:-1]
    kept[2:] &= (codes[2:] != codes[1:-1]) | (codes[1:-1] != codes[:-2])
    codes, inside = codes[kept], inside[kept]
    n = len(codes)
    # The hash of characters c at places i to j is the sum of c[k] B^(k - i), modulo 2^64: of sums
    # up to every place the difference, over B^i.
    power, inverse = (one[:n] for one in _powers())
    lengths = kind.longest - kind.shortest + 1
    sums = np.zeros(n + 1 + kind.longest, np.uint64)
    np.cumsum(codes * power, out=sums[1 : n + 1])
    blanks = np.ones(n + 1 + kind.longest, np.int32)
    np.cumsum(~inside, out=blanks[1 : n + 1])
    blanks[0], blanks[n + 1 :] = 0, blanks[n] + 1
    ends = np.lib.stride_tricks.sliding_window_view(sums, n)[kind.shortest :][:lengths]
    last = np.lib.stride_tricks.sliding_window_view(blanks, n)[kind.shortest - 1 :][:lengths]
    runs = (ends - sums[:n]) * inverse
    edges = np.flatnonzero(~inside)
    starts, stops = edges[:-1] + 1, edges[1:]
    single = (sums[stops] - sums[starts]) * inverse[starts]
    several, words = single, []
    for count in range(1, kind.words + 1):
        if count > 1:
            several = several[:-1] * _JOIN + single[count - 1 :]
        begins = starts[: len(several)]
        words.append((begins, _number(several + np.uint64(count), kind.bits)))
        if len(several) < 2:
            break
    return FoundNgrams(_number(runs, kind.bits), last == blanks[1 : n + 1], words)


_BASE = 0x9E3779B97F4A7C15
_JOIN = np.uint64(0xA24BAED4963EE407)
_MIX = np.uint64(0xD6E8FEB86659FD93)


def _number(hashes: _Hashes, bits: int) -> Integers:
    """The upper bits, once they depend on all."""
    mixed = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _MIX
    return (mixed >> np.uint64(64 - bits)).view(np.int64)


@functools.cache
def _powers() -> tuple[_Hashes, _Hashes]:
    """Powers of the hash's base, and of its inverse modulo 2^64."""
    most = 4 * MOST_CHARACTERS  # lower case may be longer
    found = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        factors = np.full(most, base, np.uint64)
        factors[0] = 1
        found.append(np.cumprod(factors))
    return found[0], found[1]


@functools.cache
def _in_words() -> NDArray[np.bool_]:
    """Of each character up to U+FFFF whether it belongs to words; the last is for all others.

    Letters, marks and numbers do, and pictures, which in messages stand for words.
    """
    found = [unicodedata.category(chr(code)) for code in range(_TABLE)]
    return np.array([one[0] in "LMN" or one == "So" for one in found] + [True])
