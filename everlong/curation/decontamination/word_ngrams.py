"""Hashes of all runs of n words of a text, with array operations only.

Two texts have the same words when they differ only in case, accents, punctuation, white space or
the way numbers are grouped (``1,000``). That is laxer than what duplicates are told by: a copy of
an evaluation set is seldom exact. In scripts without spaces between words each sign is a word.

A word's hash is a polynomial in its letters modulo 2 to the 64, taken from running sums over the
text (Karp and Rabin 1987, "Efficient randomized pattern-matching algorithms"), then mixed; a run's
hash is a polynomial in those of its words, put together from runs of half the length.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everlong.curation.duplicates.words import mixed
from everlong.curation.step import Hashes

Places = NDArray[np.int64]

_CHUNK = 1 << 16
"""Letters that are looked at together; their arrays stay in the processor's cache."""
_SEPARATOR, _DELETED, _GROUPING = 0, 1, 2
"""Between words; as if it were not there; between digits as if not there, else between words."""
_LONE = 1 << 24
"""Added to a sign that is a word of its own."""
_DELETED_SIGNS = "'`’‘ʼ′\u00ad\u200b\u200c\u200d\u2060\ufeff"
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # Chinese and Japanese, and so the next three
    (0x31A0, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_LETTER_BASE = np.uint64(0x9E3779B97F4A7C15)
_WORD_BASE = 0xD1342543DE82EF95


@dataclass(frozen=True)
class Words:
    """The words of a text."""

    hashes: Hashes
    """[W]"""
    starts: Places
    """[W], of each the place of its first letter."""
    ends: Places
    """[W], behind its last letter."""

    def __len__(self) -> int:
        return len(self.hashes)


def words_of(text: str) -> Words:
    """The words of a text, in order."""
    parts = list(_parts(text))
    if len(parts) == 1:
        return parts[0]
    hashes = np.concatenate([np.empty(0, np.uint64), *(one.hashes for one in parts)])
    starts = np.concatenate([np.empty(0, np.int64), *(one.starts for one in parts)])
    ends = np.concatenate([np.empty(0, np.int64), *(one.ends for one in parts)])
    return Words(hashes, starts, ends)


class Runs:
    """The hashes of runs of words of several lengths.

    Args:
        words: hashes, [W].
    """

    def __init__(self, words: Hashes) -> None:
        self._of = {1: words}

    def of(self, length: int) -> Hashes:
        """Of every run of so many words, [max(0, W - length + 1)], by its first word."""
        known = self._of.get(length)
        if known is None:
            # The largest power of two below it, so that lengths share their parts.
            first = 1 << ((length - 1).bit_length() - 1)
            head, tail = self.of(first), self.of(length - first)
            count = max(0, len(self._of[1]) - length + 1)
            known = head[:count] * np.uint64(pow(_WORD_BASE, length - first, 1 << 64))
            known += tail[first : first + count]
            self._of[length] = known
        return known


def runs_at(words: Hashes, places: Places, length: int) -> Hashes:
    """The same for some places only.

    Args:
        words: hashes, [W].
        places: of first words, at most W - length.
    """
    found = np.zeros(len(places), dtype=np.uint64)
    for n in range(length):
        found *= np.uint64(_WORD_BASE)
        found += words[places + n]
    return found


def _parts(text: str) -> Iterator[Words]:
    """The words of a text in parts that end between words."""
    start = 0
    while start < len(text):
        end = min(start + _CHUNK, len(text))
        part = text[start:end]
        if end < len(text) and (last := _last_space(part)) > 0:
            part, end = part[:last], start + last
        yield _words(part, start)
        start = end


def _last_space(part: str) -> int:
    """Where a part can be cut; 0 where it has no space at all."""
    return max(part.rfind(" "), part.rfind("\n"))


def _words(part: str, offset: int) -> Words:
    ascii_only = part.isascii()
    if ascii_only:
        signs = _ascii_signs()[np.frombuffer(part.encode("ascii"), dtype=np.uint8)]
    else:
        data = part.encode("utf-32-le", "surrogatepass")
        signs = _signs()[np.frombuffer(data, dtype="<u4")]
    # A point or comma between digits groups them.
    grouping = np.flatnonzero(signs == _GROUPING)
    inner = grouping[(grouping > 0) & (grouping < len(signs) - 1)]
    inside = inner[_digit(signs[inner - 1]) & _digit(signs[inner + 1])]
    signs[grouping] = _SEPARATOR
    signs[inside] = _DELETED
    places = np.flatnonzero(signs != _DELETED)
    signs = signs[places]
    if not len(signs):
        return Words(np.empty(0, np.uint64), places, places)

    edge = np.zeros(len(signs) + 1, dtype=np.bool_)
    letter = signs > _GROUPING
    edge[1:-1] = letter[1:] != letter[:-1]
    edge[0], edge[-1] = letter[0], letter[-1]
    if not ascii_only:
        lone = signs >= _LONE
        edge[:-1] |= lone
        edge[1:] |= lone
    edges = np.flatnonzero(edge)
    # Between two edges is a word or a gap; without lone signs they take turns.
    starts, ends = edges[:-1], edges[1:]
    if ascii_only:
        starts, ends = starts[::2], ends[::2]
    else:
        words = letter[starts]
        starts, ends = starts[words], ends[words]

    powers, inverses = _letter_powers()
    sums = np.zeros(len(signs) + 1, dtype=np.uint64)
    np.cumsum(signs * powers[: len(signs)], out=sums[1:])
    hashes = (sums[ends] - sums[starts]) * inverses[starts]
    return Words(mixed(hashes), places[starts] + offset, places[ends - 1] + (offset + 1))


def _digit(signs: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return (signs >= ord("0")) & (signs <= ord("9"))


@functools.cache
def _letter_powers() -> tuple[Hashes, Hashes]:
    """Powers of the base, and their inverses."""
    inverse = np.uint64(pow(int(_LETTER_BASE), -1, 1 << 64))
    one = np.ones(1, dtype=np.uint64)
    return tuple(  # type: ignore[return-value]
        np.concatenate((one, np.cumprod(np.full(_CHUNK, base)))) for base in (_LETTER_BASE, inverse)
    )


@functools.cache
def _ascii_signs() -> NDArray[np.uint32]:
    return np.array([_sign(code) for code in range(128)], dtype=np.uint32)


@functools.cache
def _signs() -> NDArray[np.uint32]:
    """For every code point what stands for it in hashes, uint32 [0x110000]; made once, in a
    second."""
    signs = np.array([_sign(code) for code in range(0x20000)], dtype=np.uint32)
    rest = np.arange(0x20000, 0x110000, dtype=np.uint32)
    # Beyond are rare ideographs, each its own word, and nothing that is a letter.
    return np.concatenate((signs, np.where(rest < 0x40000, rest + _LONE, 0).astype(np.uint32)))


def _sign(code: int) -> int:
    sign = chr(code)
    if sign in _DELETED_SIGNS:
        return _DELETED
    if sign in ".,":
        return _GROUPING
    category = unicodedata.category(sign)
    if category[0] == "M":
        # Accents and vowel points go; vowel signs without a class of their own are letters.
        return _DELETED if unicodedata.combining(sign) >= 10 else code
    if category[0] not in "LN":
        return _SEPARATOR
    plain = [
        one
        for one in unicodedata.normalize("NFKD", sign.casefold())
        if unicodedata.category(one)[0] != "M"
    ]
    code = ord(plain[0]) if len(plain) == 1 else ord(sign.lower()[0])
    if any(first <= code <= last for first, last in _WITHOUT_SPACES):
        return code + _LONE
    if (value := unicodedata.decimal(sign, None)) is not None:
        return ord("0") + value
    return code
