"""Words of a text as numbers, all of them at once, for the steps that look for duplicates.

A word is a run of letters, marks and digits; case does not matter, and what stands between words
does not either. In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
Burmese and some more) each sign is a word. No word is ever an object of Python: a text becomes an
array of its signs, a sign has a number of 64 bits, and a word is a polynomial over these (Karp and
Rabin 1987), which differences of running sums give for all words together. That is some three times
as fast as a regular expression and a hash for each word.

The numbers are kept on disk and compared with those of other runs: they must not change. Nothing
here depends on the process, the machine or the version of a library, except for letters that a
later Unicode than Python's adds.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

from everlong.curation.step import Hashes

_SIGNS = 0x3_4000
"""Unicode has letters below only; what is above separates words."""
_PIECE = 1 << 16
"""Signs that are looked at together."""
_BASE = 0x9E37_79B9_7F4A_7C13
"""Of the polynomials: odd, so that it has an inverse; and one more than twice an odd number, so
that letters which change places change the word."""
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x1AAF),  # scripts of the Tai languages
    (0x3005, 0x30FF),  # kana
    (0x3105, 0x312F),  # bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0xA4CF),  # Han, Yi
    (0xA980, 0xA9DF),  # Javanese
    (0xF900, 0xFAFF),
    (0x2_0000, _SIGNS),
)
_FIRST_WITHOUT_SPACES = _WITHOUT_SPACES[0][0]


def word_hashes(text: str) -> tuple[Hashes, NDArray[np.int64]]:
    """The words of a text.

    Returns:
        Numbers of the words, uint64 [n], and where each begins in the text, int64 [n].
    """
    signs = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    alone = bool(len(signs)) and int(signs.max()) >= _FIRST_WITHOUT_SPACES
    words: list[Hashes] = []
    starts: list[NDArray[np.int64]] = []
    first = 0
    while first < len(signs):
        values = _values().take(signs[first : first + _PIECE], mode="clip")
        if first + len(values) < len(signs):
            gaps = np.flatnonzero(values == 0)
            if len(gaps):  # a longer word is cut wherever the piece ends
                values = values[: gaps[-1] + 1]
        found, places = _words(values, alone)
        words.append(found)
        starts.append(places + first)
        first += len(values)
    if len(words) == 1:
        return words[0], starts[0]
    return np.concatenate([_NO_WORDS, *words]), np.concatenate([_NO_PLACES, *starts])


def mixed(values: Hashes) -> Hashes:
    """Numbers in which each bit depends on all bits of what was given, one to one; given values are
    overwritten.

    The finaliser of splitmix64 (Steele, Lea and Flood 2014, section 3).
    """
    shifted = values >> np.uint64(30)
    values ^= shifted
    values *= np.uint64(0xBF58_476D_1CE4_E5B9)
    np.right_shift(values, np.uint64(27), out=shifted)
    values ^= shifted
    values *= np.uint64(0x94D0_49BB_1331_11EB)
    np.right_shift(values, np.uint64(31), out=shifted)
    values ^= shifted
    return values


@functools.cache
def odd_numbers(count: int, name: int) -> Hashes:
    """Odd numbers of 64 bits that look drawn by chance; other ones for each ``name``."""
    found = mixed(np.arange(count, dtype=np.uint64) + np.uint64(name << 32)) | np.uint64(1)
    found.setflags(write=False)
    return found


_NO_WORDS: Hashes = np.empty(0, dtype=np.uint64)
_NO_PLACES = np.empty(0, dtype=np.int64)


def _words(values: Hashes, alone: bool) -> tuple[Hashes, NDArray[np.int64]]:
    """Words of a piece of a text.

    Args:
        values: of its signs.
        alone: whether some of them may be words of their own.
    """
    inside = values != 0
    edges = np.empty(len(values) + 1, dtype=np.bool_)
    edges[0], edges[-1] = inside[0], inside[-1]
    np.not_equal(inside[1:], inside[:-1], out=edges[1:-1])
    if alone:
        single = (values & np.uint64(1)).astype(np.bool_)
        begins, ends = edges[:-1] & inside, edges[1:] & inside
        begins |= single
        ends |= single
        begins[1:] |= single[:-1] & inside[1:]
        ends[:-1] |= single[1:] & inside[:-1]
        starts, stops = np.flatnonzero(begins), np.flatnonzero(ends) + 1
    else:
        places = np.flatnonzero(edges)
        starts, stops = places[::2], places[1::2]
    powers, inverse = _powers()
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return (sums[stops] - sums[starts]) * inverse[starts], starts


@functools.cache
def _values() -> Hashes:
    """A number for each sign: zero where it separates words, odd where it is a word of its own, and
    the same for a capital and a small letter."""
    letters = np.zeros(_SIGNS + 1, dtype=np.bool_)
    small = np.arange(_SIGNS + 1, dtype=np.uint64)
    for code in range(_SIGNS):
        sign = chr(code)
        if unicodedata.category(sign)[0] in "LMN":
            letters[code] = True
            if len(lower := sign.lower()) == 1:
                small[code] = ord(lower)
    values = mixed(small + np.uint64(1)) & ~np.uint64(1)
    for first, last in _WITHOUT_SPACES:
        values[first : last + 1] |= np.uint64(1)
    values[~letters] = 0
    return values


@functools.cache
def _powers() -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse, from the zeroth on, modulo 2 ** 64."""
    found = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        factors = np.full(_PIECE, base, dtype=np.uint64)
        factors[0] = 1
        found.append(np.multiply.accumulate(factors))
    return found[0], found[1]
