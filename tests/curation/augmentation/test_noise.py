from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.augmentation.noise import Noise
from everlong.curation.document import Document
from everlong.errors import ConfigError

TEXT = "\n".join(f"The quick brown fox number{n} jumps, over the lazy dogs." for n in range(300))


def noisy(step: Noise, text: str = TEXT) -> list[str]:
    return [one.text for one in step.make(Document("a", text, "s"))]


def changed(text: str) -> float:
    pairs = zip(TEXT.split(), text.split(), strict=True)
    return sum(one != other for one, other in pairs) / len(TEXT.split())


def test_shares_are_kept() -> None:
    (text,) = noisy(Noise(mistyped=0.3, missing=0, swapped=0))
    # "number12" is not a word of letters only.
    assert 0.21 < changed(text) < 0.31
    assert re.findall(r"\W+", text) == re.findall(r"\W+", TEXT), "what is between stays"
    (text,) = noisy(Noise(mistyped=0, missing=0.2, swapped=0))
    left = len(re.findall(r"\w+", text)) / len(re.findall(r"\w+", TEXT))
    assert 0.75 < left < 0.85
    (text,) = noisy(Noise(mistyped=0, missing=0, swapped=0.1))
    assert Counter(re.findall(r"\w+", text)) == Counter(re.findall(r"\w+", TEXT))
    assert 0.12 < changed(text) < 0.25


def test_mistakes_are_small() -> None:
    (text,) = noisy(Noise(mistyped=1, missing=0, swapped=0))
    for one, other in zip(re.findall(r"\w+", TEXT), re.findall(r"\w+", text), strict=True):
        assert abs(len(one) - len(other)) <= 1
        assert not set(other.lower()) - set(one.lower()) or len(one) == len(other)


def test_copies_differ() -> None:
    found = noisy(Noise(copies=4))
    assert len(set(found)) == 4
    assert TEXT not in found


def test_what_is_not_copied() -> None:
    assert noisy(Noise(longest=10)) == []
    assert noisy(Noise(sources=("t",))) == []
    assert len(noisy(Noise(sources=("t", "s")))) == 1
    assert noisy(Noise(mistyped=1, missing=0, swapped=0), "a b 12 345 ...") == []
    assert noisy(Noise(), "") == []


@given(st.text(max_size=200))
def test_any_text_can_be_noisy(text: str) -> None:
    for one in noisy(Noise(mistyped=0.5, missing=0.3, swapped=0.3, copies=2), text):
        assert one != text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mistyped": 1.1}, "mistyped is 1.1"),
        ({"missing": -1.0}, "0 to 1"),
        ({"mistyped": 0.0, "missing": 0.0, "swapped": 0.0}, "all 0"),
        ({"copies": 0}, "1 or more"),
        ({"longest": 0}, "1 or more"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Noise(**change)  # type: ignore[arg-type]


def test_goes_into_recipes() -> None:
    step = Noise(sources=("a",), copies=2)
    assert parse_config(Noise, format_config(step)) == step
