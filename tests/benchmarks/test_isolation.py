"""What the benchmark of isolation concludes from times."""

from __future__ import annotations

import random

import pytest

from benchmarks.isolation import GOALS, NOBODY, OTHER, OWN, Answer, Samples, judged, sooner


def times(of_other: float) -> Samples:
    draw = random.Random(0)
    means = {NOBODY: 1.0, OTHER: of_other, OWN: 0.1}
    return {
        kind: [Answer(draw.gauss(mean, 0.05), 64 * (kind == OWN)) for _ in range(100)]
        for kind, mean in means.items()
    }


@pytest.mark.parametrize(("of_other", "holds"), [(1.0, True), (0.95, False), (1.05, False)])
def test_a_difference_is_found_and_chance_is_none(of_other: float, holds: bool) -> None:
    found = judged(times(of_other))
    for name, figure in found.items():
        assert figure.value is not None
        goal = GOALS[f"memory_{name}"]
        assert goal.met_by(figure.value) == (holds or name == "own_key_rank")


def test_sooner() -> None:
    assert sooner([1, 2], [3, 4]) == 1
    assert sooner([3, 4], [1, 2]) == 0
    assert sooner([1, 3], [1, 3]) == 0.5
