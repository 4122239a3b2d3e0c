"""Shares of a training run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.mixture import Mixture, mixed, name_of
from everlong.errors import ConfigError


def shares(mixture: Mixture, **letters: int) -> dict[str, float]:
    return {part.name: part.share for part in mixed(mixture, letters)}


def test_as_much_as_there_is() -> None:
    parts = mixed(Mixture(), {"a": 300, "b": 100, "none": 0})
    assert [(part.name, part.share, part.epochs) for part in parts] == [
        ("a", 0.75, 1),
        ("b", 0.25, 1),
    ]


def test_a_temperature_helps_what_is_small() -> None:
    found = shares(Mixture(temperature=2, letters=1_000), a=10_000, b=100)
    assert found["b"] == pytest.approx(10 / 110)


def test_weights() -> None:
    assert shares(Mixture(weights={"a": 3}), a=100, b=100) == {"a": 0.75, "b": 0.25}
    assert shares(Mixture(weights={"a": 0}), a=100, b=100) == {"b": 1, "a": 0}
    with pytest.raises(ConfigError, match="names c; parts are a, b"):
        shares(Mixture(weights={"c": 3}), a=100, b=100)
    with pytest.raises(ConfigError, match="leaves nothing"):
        shares(Mixture(weights={"a": 0, "b": 0}), a=100, b=100)


def test_nothing_is_read_too_often() -> None:
    mixture = Mixture(temperature=1000, letters=2_000, most_epochs=4)
    found = {part.name: part for part in mixed(mixture, {"a": 1_000, "b": 100, "c": 50})}
    assert found["b"].epochs == 4
    assert found["c"].epochs == 4
    assert found["a"].epochs == pytest.approx(1.4), "what the small ones cannot give"
    all_of_it = mixed(Mixture(letters=10_000, most_epochs=2), {"a": 300, "b": 100})
    assert [part.epochs for part in all_of_it] == [2, 2], "more there is not"


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(1, 10**9), min_size=1),
    st.floats(0.5, 20),
    st.floats(0.1, 10),
    st.one_of(st.none(), st.integers(1, 10**10)),
)
def test_shares_sum_to_one_and_keep_to_the_limit(
    letters: dict[str, int], temperature: float, most: float, total: int | None
) -> None:
    mixture = Mixture(temperature=temperature, most_epochs=most, letters=total)
    parts = mixed(mixture, letters)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(0 <= part.epochs <= most * (1 + 1e-9) for part in parts)
    assert {part.name for part in parts} == set(letters)


def test_names_of_parts() -> None:
    assert name_of(Mixture(), "web", "en") == "web"
    assert name_of(Mixture(by="language"), "web", "en") == "en"
    assert name_of(Mixture(by="language"), "web", None) == "unknown"


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0}, {"most_epochs": 0}, {"weights": {"a": -1}}, {"letters": 0}]
)
def test_what_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Mixture(**wrong)  # type: ignore[arg-type]
