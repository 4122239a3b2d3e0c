"""How alike texts are, exactly: what sketches and estimates are measured by.

Nothing here is shared with the steps that look for duplicates. Words are found by the names and
categories of their signs, and sequences of five of them are compared themselves, not by hashes.
"""

from __future__ import annotations

import math
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 5
"""Words of a shingle."""
Numbers = NDArray[np.int64]
_ROUNDING = 1e-6
_ALONE = (
    *("CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "BOPOMOFO ", "YI "),
    *("THAI ", "LAO ", "MYANMAR ", "KHMER ", "TAI ", "NEW TAI ", "JAVANESE "),
)
"""How names of signs begin that are words of their own: nothing stands between words there."""


class _Signs(dict[int, str]):
    """What becomes of each sign: a small letter, a word of its own, or a space."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        if unicodedata.category(sign)[0] not in "LMN":
            found = " "
        elif unicodedata.name(sign, "").startswith(_ALONE):
            found = f" {sign} "
        else:
            found = lower if len(lower := sign.lower()) == 1 else sign
        self[code] = found
        return found


_SIGNS = _Signs()


def words_of(text: str) -> list[str]:
    """Words of a text, as the step's documentation has it."""
    return unicodedata.normalize("NFC", text).translate(_SIGNS).split()


def shingles_of(words: Sequence[str]) -> set[tuple[str, ...]]:
    """All sequences of five words; none where there are less."""
    return set(zip(*(words[start:] for start in range(WIDTH)), strict=False))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """What is in both sets, of what is in either."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def numbered(texts: Sequence[str]) -> tuple[list[Numbers], int]:
    """The shingles of each text, each once, rare ones first, as numbers: the same number is the
    same five words. A shorter text is one shingle.

    Returns:
        Those, and how many shingles are there only once: the lowest numbers.
    """
    known: dict[str, int] = {"": 0}
    words, ends = array("q"), [0]
    for text in texts:
        found = words_of(text)
        padded = found + [""] * (WIDTH - len(found)) if found else found
        words.extend([known.setdefault(word, len(known)) for word in padded])
        ends.append(len(words))
    every = np.frombuffer(words, dtype=np.int64)
    shingles = every
    for width in range(1, WIDTH):  # numbers of the same n words, and one more, are numbered anew
        longer = shingles[: len(every) - width] << 32 | every[width:]
        shingles = np.unique(longer, return_inverse=True)[1].astype(np.int64)
    starts = np.array(ends[:-1])
    counts = np.maximum(np.diff(ends) - WIDTH + 1, 0)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    shingles = shingles[np.repeat(starts, counts) + within]
    times = np.bincount(shingles)
    rank = np.argsort(np.argsort(times, kind="stable"), kind="stable")
    of = np.repeat(np.arange(len(texts)), counts)
    once = np.unique(of << 32 | rank[shingles])
    ends_once = np.searchsorted(once, np.arange(1, len(texts)) << 32)
    return np.split(once & 0xFFFF_FFFF, ends_once), int(np.count_nonzero(times == 1))


def all_alike(
    shingles: Sequence[Numbers], single: int, chosen: Sequence[int], least: float
) -> Iterator[tuple[int, int, float]]:
    """All pairs of some texts whose similarity is at least that, with it.

    Texts that have so much in common have one of their rarest shingles in common: of n, more than
    n less so many as must be shared (Chaudhuri, Ganti and Kaushik 2006, section 4).

    Args:
        shingles, single: of all texts, from :func:`numbered`.
        chosen: numbers of the texts, one of each that has the same ones: pairs of those are many.
        least: similarity.
    """
    with_it: dict[int, list[int]] = defaultdict(list)
    for number in chosen:
        own = shingles[number]
        size = len(own)
        shared = math.ceil(least * size - _ROUNDING)
        rare = own[np.searchsorted(own, single) : size - shared + 1].tolist()
        for other in {other for one in rare for other in with_it[one]}:
            theirs = len(shingles[other])
            if min(size, theirs) < least * max(size, theirs) - _ROUNDING:
                continue
            shared = len(np.intersect1d(own, shingles[other], assume_unique=True))
            if (alike := shared / (size + theirs - shared)) >= least:
                yield number, other, alike
        for one in rare:
            with_it[one].append(number)
