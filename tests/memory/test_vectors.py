"""Vectors are found by their cosine: exactly while they are few, nearly always when many."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from everlong.memory.vectors import Vectors

DIMENSIONS = 96


def spread(count: int, seed: int) -> NDArray[np.float16]:
    """Unit vectors that differ more in some directions than in others, as those of texts do."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(count, DIMENSIONS)) / np.sqrt(1 + np.arange(DIMENSIONS))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    found = found @ rotation
    unit: NDArray[np.float16] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit.astype(np.float16)


def in_parts(vectors: Vectors, rows: NDArray[np.float16], sizes: list[int]) -> NDArray[np.int64]:
    """Append rows under every third number, in parts of these sizes and then the rest."""
    numbers = 3 * np.arange(1, len(rows) + 1)
    start = 0
    for size in [*sizes, len(rows) - sum(sizes)]:
        vectors.append(numbers[start : start + size], rows[start : start + size])
        start += size
    return numbers


@pytest.mark.parametrize("sizes", [[], [1, 1, 7], [500, 499]])
def test_few_are_compared_one_by_one(sizes: list[int]) -> None:
    rows, vectors = spread(1000, 1), Vectors()
    numbers = in_parts(vectors, rows, sizes)
    query = spread(1, 2)[0].astype(np.float32)
    expected = rows.astype(np.float32) @ query
    found, cosines, mean = vectors.nearest(query, 10)
    assert found.tolist() == numbers[np.argsort(-expected)[:10]].tolist()
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:10], rtol=1e-5)
    assert mean == pytest.approx(float(expected.mean()), abs=1e-4)
    assert len(vectors) == 1000
    assert vectors.last == 3000
    assert len(vectors.nearest(query, 5000)[0]) == 1000


@pytest.mark.parametrize("sizes", [[], [3000, 1000, 1], [3999, 1, 1, 15_000]])
def test_of_many_the_promising_ones_are_compared(sizes: list[int]) -> None:
    rows = spread(40_000, 1)
    exact, short = Vectors(), Vectors(exact=4000, promising=8000)
    in_parts(exact, rows, [])
    in_parts(short, rows, sizes)
    same = []
    for query in spread(20, 2).astype(np.float32):
        expected, cosines, mean = exact.nearest(query, 20)
        found, near, about = short.nearest(query, 20)
        assert found.tolist() == found[np.argsort(-near, kind="stable")].tolist()
        assert about == pytest.approx(mean, abs=1e-4)
        same.append(len({*expected.tolist()} & {*found.tolist()}) / 20)
        both = dict(zip(expected.tolist(), cosines.tolist(), strict=True))
        for number, cosine in zip(found.tolist(), near.tolist(), strict=True):
            assert both.get(number, cosine) == pytest.approx(cosine, abs=1e-3)
    assert np.mean(same) > 0.95


def test_what_is_appended_last_is_found() -> None:
    vectors = Vectors(exact=2000, promising=50)
    in_parts(vectors, spread(5000, 1), [2500])
    query = spread(1, 2)[0]
    vectors.append(np.array([99_999]), query[None])
    found, cosines, _ = vectors.nearest(query.astype(np.float32), 3)
    assert found[0] == 99_999
    assert cosines[0] == pytest.approx(1, abs=1e-3)


def test_nothing_is_found_among_nothing() -> None:
    vectors = Vectors()
    found, cosines, mean = vectors.nearest(np.ones(DIMENSIONS, np.float32), 5)
    assert (len(found), len(cosines), mean, vectors.last) == (0, 0, 0.0, 0)


@pytest.mark.parametrize("exact", [1000, 300])
def test_without_some_the_others_are_found_as_before(exact: int) -> None:
    rows, vectors = spread(900, 1), Vectors(exact=exact, promising=2000)
    numbers = in_parts(vectors, rows, [200])
    gone = numbers[100:700]
    left = vectors.without([*gone.tolist(), 1])
    query = spread(1, 2)[0].astype(np.float32)
    found, _, mean = left.nearest(query, 10)
    kept = ~np.isin(numbers, gone)
    expected = rows[kept].astype(np.float32) @ query
    assert found.tolist() == numbers[kept][np.argsort(-expected)[:10]].tolist()
    assert mean == pytest.approx(float(expected.mean()), abs=1e-4)
    assert (len(left), len(vectors)) == (300, 900)  # whoever searches it is not disturbed
    left.append(np.array([3000]), query.astype(np.float16)[None])
    assert left.nearest(query, 1)[0].tolist() == [3000]
    assert left.without(left.nearest(query, 900)[0].tolist()).nearest(query, 3)[0].tolist() == []
    assert vectors.without([1, 2]) is vectors
