"""Ratios of rounds, their median and range, and whose turn it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rounds import ratios, spread, turns

positive = st.floats(min_value=1e-3, max_value=1e6)


def test_ratios_are_formed_within_a_round() -> None:
    # The machine is half as fast in the second round: the ratio does not notice.
    assert ratios([100.0, 50.0, 90.0], [50.0, 25.0, 30.0]) == [2.0, 2.0, 3.0]


def test_rounds_must_match() -> None:
    with pytest.raises(AssertionError, match="2 rounds against 1"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("values", "median"), [([3.0, 1.0, 2.0], 2.0), ([1.0, 2.0], 1.5)])
def test_median_and_range(values: list[float], median: float) -> None:
    found = spread(values)
    assert (found.median, found.low, found.high) == (median, min(values), max(values))
    assert found.count == len(values)


@given(st.lists(positive, min_size=1), st.floats(min_value=0.1, max_value=10))
def test_a_constant_factor_is_found_whatever_the_noise(theirs: list[float], factor: float) -> None:
    found = spread(ratios([factor * rate for rate in theirs], theirs))
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


@given(st.lists(st.integers(), unique=True, min_size=1, max_size=5), st.integers(0, 20))
def test_everyone_has_a_turn_and_another_begins(contenders: list[int], number: int) -> None:
    order = turns(contenders, number)
    assert sorted(order) == sorted(contenders)
    assert order[0] == contenders[number % len(contenders)]


def test_nobody_has_no_turn() -> None:
    assert turns([], 3) == []
