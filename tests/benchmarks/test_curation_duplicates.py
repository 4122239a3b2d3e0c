"""What the benchmark of near duplicates counts is what it says."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import curation_duplicates
from benchmarks.curation_duplicates import (
    FALSE,
    RECALL,
    Kind,
    Pairs,
    _edited,
    _generated,
    _judged,
    measure,
)
from benchmarks.curation_similarity import all_alike, jaccard, numbered, shingles_of, words_of

TEXT = st.lists(st.sampled_from("abc"), max_size=14).map(" ".join)


def alike(one: str, other: str) -> float:
    """Similarity by the plain sets; a text of less than five words is one shingle."""
    sets = [shingles_of(words) or {tuple(words)} for words in (one.split(), other.split())]
    return jaccard(*sets)


@given(st.lists(TEXT, min_size=1, max_size=12), st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_the_search_finds_every_pair_that_is_alike(texts: list[str], least: float) -> None:
    shingles, single = numbered(texts)
    assert [len(own) for own in shingles] == [
        len(shingles_of(text.split())) or bool(text) for text in texts
    ]
    pairs = all_alike(shingles, single, range(len(texts)), least)
    found = {(min(one, other), max(one, other)): similarity for one, other, similarity in pairs}
    expected = {
        (one, other): similarity
        for one, other in combinations(range(len(texts)), 2)
        if texts[one] and texts[other]
        and (similarity := alike(texts[one], texts[other])) >= least
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_words() -> None:
    assert words_of("The Café's No. 1—e\u0301t\u0301e!") == [
        "the",
        "café",
        "s",
        "no",
        "1",
        "ét\u0301e",
    ]
    assert words_of("日本語の3 x") == ["日", "本", "語", "の", "3", "x"]


@pytest.mark.parametrize(("length", "wanted"), [(100, 0.5), (300, 0.8), (1000, 0.69)])
def test_edits_reach_the_similarity_that_is_wanted(length: int, wanted: float) -> None:
    chance = random.Random(length)
    words = [f"word{chance.random()}" for _ in range(length)]
    made = [_edited(words, wanted, ["some", "other"], chance) for _ in range(20)]
    similarities = [alike(" ".join(words), " ".join(other)) for other in made if other]
    assert len(similarities) > 15
    assert all(wanted <= one <= wanted + max(0.005, 1.5 / length) for one in similarities)


def text(number: int, changed: int = 0) -> str:
    """A text of 50 words, the first of which may be others."""
    new = [f"new{number}word{n}" for n in range(changed)]
    return " ".join([*new, *(f"text{number}word{n}" for n in range(changed, 50))])


def test_false_merges_and_misses_are_told_by_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [
        ("right", text(1)),
        ("right", text(1, 2)),  # 0.92
        ("below", text(2)),
        ("below", text(2, 7)),  # 0.74
        ("false", text(3)),
        ("false", text(3, 10)),  # 0.64
        ("false", text(4)),
        ("missed", text(5)),
        ("missed", text(5, 1)),
        ("missed", text(5)),
        ("other stays", text(6)),
        ("other stays", text(6, 10)),
        ("other stays", text(6, 8)),  # like the one before, which stays
        ("short", "!"),
        ("short", "a b"),
        ("short", "a b"),
    ]
    monkeypatch.setattr(curation_duplicates, "_dropped", lambda texts: {1, 3, 5, 6, 9, 12, 15})
    assert _judged(real) == {
        "right": Kind(2, 1),
        "below": Kind(2, 1, 1),
        "false": Kind(3, 2, 2, 2),
        "missed": Kind(3, 1, 0, 0, 1),
        "other stays": Kind(3, 1, 1),
        "short": Kind(3, 1),
    }


def test_pairs_go_through_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(0)
    books = [[f"word{chance.randrange(5000)}" for _ in range(9000)]]
    monkeypatch.setattr(curation_duplicates, "_LENGTHS", (100, 400))
    assert [*_generated(books, books[0], 0.8, False, 10, 0)] == [
        Pairs(0.8, False, 100, 10, 10, 0),
        Pairs(0.8, False, 400, 10, 10, 0),
    ]
    assert [one.merged for one in _generated(books, books[0], 0.7, True, 10, 0)] == [0, 0]
    monkeypatch.setattr(curation_duplicates, "_dropped", lambda texts: {1, 3, 38})
    found = [*_generated(books, books[0], 0.7, True, 10, 0)]
    assert [one.merged for one in found] == [2, 0]
    assert [one.false for one in found] == [2, 1]


def test_without_data_nothing_is_measured(tmp_path: Path) -> None:
    measured, samples = measure(tmp_path, 10, 0, print)
    assert {RECALL, FALSE} == {*measured}
    assert all(one.value is None and "books" in one.detail for one in measured.values())
    assert samples == {}
