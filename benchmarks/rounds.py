"""Rounds, ratios and their spread.

Contenders are measured in turn, round after round, so that whatever slows the machine for a while
slows all of them. A ratio is formed within a round; what is reported is the median of the rounds'
ratios with the smallest and the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g}, n={self.count})"


def spread(values: Sequence[float]) -> Spread:
    """Median and range; ``values`` has at least one."""
    assert values, "the spread of nothing"
    return Spread(median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round.

    Args:
        ours, theirs: one positive figure a round, of the same rounds.
    """
    assert len(ours) == len(theirs), f"{len(ours)} rounds against {len(theirs)}"
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def turns(contenders: Sequence[T], round_number: int) -> list[T]:
    """The order of a round: another contender begins each time."""
    start = round_number % len(contenders) if contenders else 0
    return [*contenders[start:], *contenders[:start]]
