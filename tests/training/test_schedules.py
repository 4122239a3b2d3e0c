from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.errors import ConfigError
from everlong.training.schedules import Schedule, ScheduleConfig


def factors(steps: int, **config: object) -> list[float]:
    schedule = Schedule(ScheduleConfig(**config), steps)  # type: ignore[arg-type]
    return [schedule.factor(step) for step in range(steps)]


def test_warmup_stable_decay() -> None:
    found = factors(10, kind="wsd", warmup=2, decay=0.4)
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_falls_to_its_floor() -> None:
    found = factors(101, kind="cosine", warmup=1, floor=0.1)
    assert found[0] == found[1] == 1
    assert found[51] == pytest.approx(0.55)
    assert found[-1] == pytest.approx(0.1, abs=1e-3)
    assert found == sorted(found, reverse=True)


@given(
    st.sampled_from(["wsd", "cosine", "constant", "plateau"]),
    st.integers(1, 50),
    st.integers(0, 50),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_factors_are_between_floor_and_one(
    kind: str, steps: int, warmup: int, decay: float, floor: float
) -> None:
    warmup = min(warmup, steps)
    found = factors(steps, kind=kind, warmup=warmup, decay=decay, floor=floor)
    assert all(0 < factor <= 1 for factor in found[:warmup])
    assert all(floor <= factor <= 1 for factor in found[warmup:])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    # No step is wasted.
    assert all(factor > 0 for factor in found)


def test_a_plateau_lowers_the_rate() -> None:
    config = ScheduleConfig(kind="plateau", patience=2, shrink=0.5, better=0.01, floor=0.2)
    schedule = Schedule(config, 100)
    told = [3.0, 2.0, 1.995, 2.1, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6]
    found = []
    for loss in told:
        schedule.validated(loss)
        found.append(schedule.factor(10))
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_a_plateau_goes_on_where_it_was() -> None:
    one = Schedule(ScheduleConfig(kind="plateau"), 100)
    assert json.loads(json.dumps(one.state()))["best"] == math.inf
    for loss in (2.0, 2.0, 2.0, 2.0):
        one.validated(loss)
    other = Schedule(ScheduleConfig(kind="plateau"), 100)
    other.load(one.state())
    one.validated(2.5)
    other.validated(2.5)
    assert one == other


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"warmup": -1}, "warmup is 0 steps or more"),
        ({"decay": 1.5}, "decay is from 0 to 1"),
        ({"floor": math.nan}, "floor is from 0 to 1"),
        ({"shrink": 1.0}, "shrink is between 0 and 1"),
        ({"patience": 0}, "patience is 1 or more"),
        ({"better": -1.0}, "better is 0 nats or more"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ScheduleConfig(**wrong)  # type: ignore[arg-type]


def test_a_warmup_longer_than_its_phase_is_refused() -> None:
    with pytest.raises(ConfigError, match="20 steps is longer than its phase of 10"):
        Schedule(ScheduleConfig(warmup=20), 10)
