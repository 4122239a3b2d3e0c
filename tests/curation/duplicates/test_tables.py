"""Equal rows of columns, and columns on disk."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.duplicates.tables import Table, equal_rows

# Keys whose last bits differ seem equal at first.
KEYS = st.sampled_from([0, 1, 2, 3, 7, 1 << 40, (1 << 40) + 1, (1 << 64) - 1, (1 << 64) - 2])


@given(st.lists(st.tuples(KEYS, KEYS), max_size=40), st.booleans())
def test_equal_rows_are_those_of_a_dictionary(rows: list[tuple[int, int]], both: bool) -> None:
    columns = [np.array([row[n] for row in rows], dtype=np.uint64) for n in range(1 + both)]
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row[: 1 + both]].append(number)
    expected = [groups[key] for key in sorted(groups) if len(groups[key]) > 1]
    found, first = equal_rows(*columns)
    assert found.tolist() == [number for group in expected for number in group]
    assert found[first].tolist() == [group[0] for group in expected]


def test_columns_are_written_in_parts_and_read_in_others(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1 << 63, (3, 50), dtype=np.uint64)
    with (tmp_path / "table").open("w+b") as file:
        table = Table(file, 50, "<u8")
        for first in range(0, 50, 7):
            for column in (2, 0, 1):
                table.write(column, first, values[column, first : first + 7])
        for column in range(3):
            assert np.array_equal(table.read(column), values[column])
            assert np.array_equal(table.read(column, 13, 20), values[column, 13:33])
            assert len(table.read(column, 50)) == 0
