"""Sketches: exact for short texts, good estimates for long ones, the same for ever."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everlong.curation.duplicates.minhash import (
    BANDS,
    COUNT,
    Compared,
    MinHash,
    minima,
    similarity,
)
from everlong.curation.duplicates.words import word_hashes

TEXTS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40)


def compared(minhash: MinHash, sketches: list[NDArray[np.uint64]]) -> Compared:
    values = np.full((len(sketches), minhash.compared), 0xFFFF_FFFF, dtype=np.uint32)
    for row, sketch in zip(values, sketches, strict=True):
        smallest = minhash.smallest(sketch)
        row[: len(smallest)] = smallest
    return Compared(values, np.array([int(sketch[COUNT]) for sketch in sketches]))


def sketch(minhash: MinHash, words: list[str]) -> NDArray[np.uint64]:
    return minhash.sketch(word_hashes(" ".join(words))[0])


def shingles(words: list[str], width: int) -> set[tuple[str, ...]]:
    width = min(width, len(words))
    return {tuple(words[n : n + width]) for n in range(len(words) - width + 1)}


@given(TEXTS, TEXTS)
def test_short_texts_are_compared_exactly(one: list[str], other: list[str]) -> None:
    minhash = MinHash(words=3, bands=4, rows=2, compared=64)
    first, second = (compared(minhash, [sketch(minhash, words)]) for words in (one, other))
    alike, known, share = similarity(first, second)
    sets = shingles(one, 3), shingles(other, 3)
    assert alike[0] == len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert known[0] == len(sets[0] | sets[1])
    assert share[0] == 1
    assert int(sketch(minhash, one)[0] == sketch(minhash, other)[0]) == (sets[0] == sets[1])


def test_long_texts_are_estimated_as_well_as_a_sample_can() -> None:
    draw = random.Random(1)
    minhash = MinHash(words=1, bands=1, rows=1, compared=256)
    errors, deviations = [], []
    for _ in range(150):
        words = [str(draw.random()) for _ in range(2000)]
        other = words[:1600] + [str(draw.random()) for _ in range(400)]  # 1600 of 2400
        found, known, share = similarity(
            compared(minhash, [sketch(minhash, [w.replace(".", "x") for w in words])]),
            compared(minhash, [sketch(minhash, [w.replace(".", "x") for w in other])]),
        )
        assert 256 <= known[0] <= 512
        assert abs(share[0] - known[0] / 2400) < 0.02
        errors.append(found[0] - 2 / 3)
        deviations.append(np.sqrt(2 / 9 / known[0] * (1 - share[0])))
    assert abs(np.mean(errors)) < 3 * np.mean(deviations) / np.sqrt(150)
    assert 0.8 < np.std(errors) / np.mean(deviations) < 1.2


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=200), st.integers(1, 9))
def test_minima_are_those_of_a_loop(values: list[int], functions: int) -> None:
    array = np.array(values, dtype=np.uint32)
    found = minima(array, functions)
    factors = [int(minima(np.array([1], dtype=np.uint32), functions)[n]) for n in range(functions)]
    expected = [min(factor * value % (1 << 32) for value in values) for factor in factors]
    assert found.tolist() == expected
    assert all(factor % 2 for factor in factors)


def test_minima_of_many_values_are_those_of_their_parts() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 32, 10_000, dtype=np.uint32)
    parts = [minima(part, 50) for part in np.array_split(values, 7)]
    assert np.array_equal(minima(values, 50), np.min(parts, axis=0))


def test_minima_agree_as_often_as_sets_are_alike_and_independently() -> None:
    draw = np.random.default_rng(2)
    agreeing = []
    for _ in range(300):
        both, one, other = (draw.integers(0, 1 << 32, n, dtype=np.uint32) for n in (80, 10, 10))
        first, second = np.concatenate([both, one]), np.concatenate([both, other])
        agreeing.append(np.count_nonzero(minima(first, 120) == minima(second, 120)))
    alike, n = 0.8, 120
    deviation = np.sqrt(alike * (1 - alike) * n)
    assert abs(np.mean(agreeing) - alike * n) < 4 * deviation / np.sqrt(300)
    # Minima that depended on each other would spread more.
    assert 0.85 < np.std(agreeing) / deviation < 1.15


def test_the_numbers_never_change() -> None:
    """Stores of earlier runs have them."""
    minhash = MinHash(words=2, bands=2, rows=2, compared=3)
    found = sketch(minhash, ["to", "be", "or", "not", "to", "be"])
    assert [hex(value) for value in found.tolist()] == [
        "0x4efa01d54a9f3761",
        "0x4",
        "0x25995c4411935c51",
        "0x18b9e0f736b86c76",
        "0x4c4187fe4807f7e1",
        "0xffffffff754e991b",
    ]
    assert found[COUNT] == 4
    assert len(found) == BANDS + 2 + 2
