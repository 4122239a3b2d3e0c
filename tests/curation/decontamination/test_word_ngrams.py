from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.decontamination import word_ngrams
from everlong.curation.decontamination.word_ngrams import Runs, runs_at, words_of


def texts_of(text: str) -> list[str]:
    words = words_of(text)
    return [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)]


def same(one: str, other: str) -> bool:
    return bool(words_of(one).hashes.tolist() == words_of(other).hashes.tolist())


def test_words_and_their_places() -> None:
    text = "  Don't stop—it's 1,000.50, x. 5. ÉCLAIR (naïve) "
    assert texts_of(text) == ["Don't", "stop", "it's", "1,000.50", "x", "5", "ÉCLAIR", "naïve"]
    assert texts_of("") == texts_of(" ...\n") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The end, at last!", "the END at\n\tlast"),
        ("Don't", "don’t"),
        ("Don't", "dont"),
        ("1,000,000", "1000000"),
        ("well-known", "well known"),
        ("Éclair naïve", "eclair naive"),
        ("e\u0301clair", "éclair"),
        ("“Ω” ＡＢ ４２", '"ω" ab 42'),
        ("مُحَمَّد", "محمد"),
        ("٤٢", "42"),
        ("中文，字", "中 文 字"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
    ],
)
def test_what_is_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", "b a"),
        ("ab", "a b"),
        ("ab ab", "ab"),
        ("1, 000", "1000"),
        ("1,5 and", "1.5, and 1"),
        ("aab", "aba"),
        ("कि", "कु"),
        ("中文", "文中"),
    ],
)
def test_what_is_not(one: str, other: str) -> None:
    assert not same(one, other)


def test_signs_of_scripts_without_spaces_are_words() -> None:
    assert texts_of("这是abc中文 ไทย 한국어") == [*"这是", "abc", *"中文ไทย", "한국어"]


@given(st.text("abcXYZ019 .,'-\n", max_size=200))
def test_words_are_those_of_a_plain_expression(text: str) -> None:
    bare = re.sub(r"(?<=[0-9])[.,](?=[0-9])", "", text).replace("'", "").lower()
    expected = re.findall(r"[a-z0-9]+", bare)
    words = words_of(text)
    by_hash = dict(zip(words.hashes.tolist(), expected, strict=True))
    assert [by_hash[one] for one in words.hashes.tolist()] == expected
    assert len(set(words.hashes.tolist())) == len(set(expected))
    cleaned = [re.sub(r"[',.]", "", one).lower() for one in texts_of(text)]
    assert cleaned == expected


@given(st.text(max_size=300))
def test_any_text_has_words(text: str) -> None:
    words = words_of(text)
    assert (words.starts < words.ends).all()
    assert (words.starts[1:] >= words.ends[:-1]).all()
    assert len(words) == 0 or words.ends[-1] <= len(text)
    assert words_of(f" {text} ").hashes.tolist() == words.hashes.tolist()


def test_long_texts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(f"word{n} näher 1,00{n % 10}" for n in range(500))
    expected = words_of(text)
    monkeypatch.setattr(word_ngrams, "_CHUNK", 97)
    word_ngrams._letter_powers.cache_clear()
    found = words_of(text)
    word_ngrams._letter_powers.cache_clear()
    assert found.hashes.tolist() == expected.hashes.tolist()
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.ends.tolist() == expected.ends.tolist()


def test_a_word_without_end_is_cut() -> None:
    text = "a" * 200_000
    assert sum(map(len, texts_of(text))) == 200_000


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 15))
def test_runs_are_the_same_where_their_words_are(numbers: list[int], length: int) -> None:
    words = words_of(" ".join(f"w{n}" for n in numbers)).hashes
    found = Runs(words).of(length)
    runs = [tuple(numbers[i : i + length]) for i in range(len(numbers) - length + 1)]
    assert len(found) == len(runs)
    assert len(set(found.tolist())) == len(set(runs))
    by_run = dict(zip(runs, found.tolist(), strict=True))
    assert [by_run[run] for run in runs] == found.tolist()
    assert runs_at(words, np.arange(len(runs)), length).tolist() == found.tolist()
