from __future__ import annotations

import gzip
import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.quality.gopher import GopherQuality
from everlong.errors import ConfigError
from tests.evaluation.public_data import public_data

OFF: dict[str, Any] = {
    "min_words": None,
    "max_words": None,
    "min_mean_word_length": None,
    "max_mean_word_length": None,
    "max_symbols_a_word": None,
    "max_bullet_lines": None,
    "max_ellipsis_lines": None,
    "min_words_with_letter": None,
    "min_stop_words": None,
}
PROSE = "The cat sat with the dog, and both of them looked out to the sea. "


def rule(step: GopherQuality, text: str, language: str | None = None) -> str | None:
    dropped = step(Document("1", text, "test", language))
    return dropped.rule if dropped else None


@pytest.mark.parametrize(
    ("fields", "inside", "outside", "name"),
    [
        ({"min_words": 50}, "word. " * 50, "word. . " * 49, "few_words"),
        ({"max_words": 50}, "word. " * 50, "word. " * 51, "many_words"),
        ({"min_mean_word_length": 3}, "abc, " * 9, "abc, " * 9 + "ab", "short_words"),
        ({"max_mean_word_length": 10}, "a" * 10 + ".", "a" * 11 + ".", "long_words"),
        ({"max_symbols_a_word": 0.1}, "a " * 9 + "#", "a " * 8 + "#", "number_signs"),
        ({"max_symbols_a_word": 0.1}, "a " * 9 + "...", "a " * 8 + "...", "ellipses"),
        ({"max_symbols_a_word": 0.1}, "a " * 9 + "…", "a " * 8 + "…", "ellipses"),
        ({"max_bullet_lines": 0.9}, " - a\n• a\n" * 9 + "a\nb", "-\n" * 10 + "b", "bullet_lines"),
        ({"max_ellipsis_lines": 0.3}, "a…\n" * 3 + "b\n" * 7, "a... \nb\nb", "ellipsis_lines"),
        ({"min_words_with_letter": 0.8}, "a b c d 1", "a b c d , 1", "words_without_letter"),
        ({"min_stop_words": 2}, "the cat of", "the The OF the", "few_stop_words"),
    ],
)
def test_each_rule_by_itself(fields: dict[str, Any], inside: str, outside: str, name: str) -> None:
    assert rule(GopherQuality(**OFF | fields), inside) is None
    assert rule(GopherQuality(**OFF | fields), outside) == name
    assert rule(GopherQuality(**OFF), outside) is None


def test_prose_is_kept_with_the_defaults() -> None:
    assert rule(GopherQuality(), PROSE * 4) is None
    assert rule(GopherQuality(), PROSE * 3) == "few_words"
    assert rule(GopherQuality(), "") == "few_words"


def test_why_is_told() -> None:
    dropped = GopherQuality()(Document("1", "one, two", "test"))
    assert dropped is not None
    assert dropped.detail == "2 words, at least 50"


def test_stop_words_are_of_a_language() -> None:
    german = "Die Katze sitzt am Fenster. " * 20
    step = GopherQuality()
    assert rule(step, german) == rule(step, german, "en") == "few_stop_words"
    assert rule(step, german, "de") == "few_stop_words"  # "die" alone, which begins a sentence
    assert rule(step, german.replace("am", "auf der"), "de") is None
    assert rule(step, german, "fi") is None  # of which there are none
    step = GopherQuality(stop_words={"de": ("der", "die", "das", "am"), "fr": ("le", "la")})
    assert rule(step, german, "de") == "few_stop_words"
    assert rule(step, german.replace("sitzt", "das"), "de") is None
    assert rule(step, german, "en") == "few_stop_words"


def test_scripts_without_spaces_have_words() -> None:
    step = GopherQuality()
    sentence = "人人生而自由，在尊严和权利上一律平等。"
    assert rule(step, sentence * 5, "zh") is None
    assert rule(step, sentence * 4, "zh") == "few_words"
    assert rule(step, "#。" * 40 + sentence * 5, "zh") == "number_signs"
    assert rule(step, "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน " * 10, "th") is None


def test_no_text_breaks_it() -> None:
    for text in ("", "\n", "\u2028", "\ud800", "#", "...", "-", "•\n" * 9, "\x00 \x00"):
        rule(GopherQuality(), text)
        rule(GopherQuality(**OFF | {"max_symbols_a_word": 0.1, "min_words_with_letter": 1}), text)


@given(st.text(st.sampled_from("ab #.…-•1\n\r\u2028"), max_size=80), st.floats(0, 1))
def test_lines_are_counted_exactly(text: str, most: float) -> None:
    """That lines need not be looked at where signs are few is no other rule."""
    lines = text.splitlines()
    bullets = [line for line in lines if line.lstrip().startswith(("-", "•"))]
    step = GopherQuality(**OFF | {"max_bullet_lines": most})
    assert (rule(step, text) is not None) == (len(bullets) / max(len(lines), 1) > most)
    ellipses = [line for line in lines if line.rstrip().endswith(("...", "…"))]
    step = GopherQuality(**OFF | {"max_ellipsis_lines": most})
    assert (rule(step, text) is not None) == (len(ellipses) / max(len(lines), 1) > most)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"min_words": -1}, "min_words is 0 or more, or null, not -1"),
        ({"max_symbols_a_word": float("nan")}, "max_symbols_a_word is 0 or more, or null, not nan"),
        ({"max_bullet_lines": 90}, "max_bullet_lines is a share from 0 to 1, or null, not 90"),
        ({"min_words": 9, "max_words": 8}, "min_words is 9, more than max_words, which is 8"),
        ({"min_mean_word_length": 11}, "min_mean_word_length is 11, more than"),
        ({"stop_words": {"de": ("der", "der")}}, "stop_words has 1 for 'de', fewer than"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        GopherQuality(**fields)


def test_it_is_read_and_pickled() -> None:
    step = parse_config(GopherQuality, "min_words: null\nstop_words: {de: [der, die, das]}")
    assert step.min_words is None
    assert step.stop_words == {"de": ("der", "die", "das")}
    assert parse_config(GopherQuality, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_most_books_are_kept() -> None:
    books = sorted((public_data() / "books").glob("*.txt.gz"))
    texts = []
    for path in books:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts.append(file.read()[20_000:40_000])
    rules = Counter(rule(GopherQuality(), text) for text in texts)
    # Much direct speech is much punctuation.
    assert set(rules) == {None, "words_without_letter"}
    assert rules[None] >= 0.8 * len(books) > 0
