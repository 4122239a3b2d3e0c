"""What stays is what stays if documents are looked at one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everlong.curation.duplicates import leaders
from everlong.curation.duplicates.leaders import Leaders
from everlong.curation.duplicates.tables import Places, Table


def leaders_of(
    runs: NDArray[np.int32], known: int, alike: NDArray[np.bool_], path: Path
) -> tuple[list[int], int]:
    """What is found for each document, and how often two were compared.

    Args:
        runs: [documents, bands], -1: none.
        alike: [documents, documents].
    """
    compared = 0

    def compare(one: Places, other: Places) -> NDArray[np.float32]:
        nonlocal compared
        compared += len(one)
        assert (other < one).all()
        return alike[one, other].astype(np.float32)

    with path.open("w+b") as file:
        table = Table(file, len(runs), "<i4")
        for band, column in enumerate(runs.T):
            table.write(band, 0, column)
        count, members = int(runs.max(initial=-1)) + 1, int((runs >= 0).sum())
        found, similarity = Leaders(table, runs.shape[1], count, members, known, compare).decide()
    assert np.array_equal(similarity > 0, found >= 0)
    return found.tolist(), compared


@settings(deadline=None)
@given(st.data())
def test_leaders_are_those_of_a_loop(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count, bands = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 3))
    draw = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    known = data.draw(st.integers(0, count))
    some = data.draw(st.integers(1, 6))
    # A run is of one band.
    runs = draw.integers(-1, some, (count, bands)).astype(np.int32)
    runs = np.where(runs >= 0, runs + some * np.arange(bands, dtype=np.int32), -1)
    alike = np.tril(draw.random((count, count)) < data.draw(st.floats(0, 1)), -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaders, "_BATCH", data.draw(st.sampled_from([1, 3, 8, 64])))
        found, _ = leaders_of(runs, known, alike, tmp_path_factory.mktemp("runs") / "runs")

    stays = set(range(known))
    for number in range(known, count):
        meets = [n for n in sorted(stays) if (runs[n] == runs[number])[runs[n] >= 0].any()]
        choice = [n for n in meets if alike[number, n]]
        if choice:
            assert found[number - known] in choice
        else:
            assert found[number - known] == -1
            stays.add(number)


def test_a_large_family_is_compared_with_the_one_that_stays(tmp_path: Path) -> None:
    count = 5000
    runs = np.zeros((count, 4), dtype=np.int32) + np.arange(4, dtype=np.int32)
    alike = np.ones((count, 1), dtype=np.bool_).repeat(2, axis=1)
    wide = np.broadcast_to(alike[:, :1], (count, count))
    found, compared = leaders_of(runs, 0, wide, tmp_path / "runs")
    assert found == [-1] + [0] * (count - 1)
    assert compared == count - 1


def test_templates_take_bounded_time(tmp_path: Path) -> None:
    """Many documents share runs and are not alike; in the last batch one is, to an old one."""
    count = 3000
    runs = np.zeros((count, 3), dtype=np.int32)
    runs[:, 1] = 1 + np.arange(count) // 2 % 1400  # shares a second run with one of them
    runs[:, 2] = -1
    alike = np.zeros((count, count), dtype=np.bool_)
    alike[2999, 198] = True
    assert runs[2999, 1] == runs[198, 1]
    found, compared = leaders_of(runs, 0, alike, tmp_path / "runs")
    assert [n for n, leader in enumerate(found) if leader >= 0] == [2999]
    assert found[2999] == 198
    assert compared <= count * (leaders._BATCH / 2 + leaders._MOST_COMPARED)
