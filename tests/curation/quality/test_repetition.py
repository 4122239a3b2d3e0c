from __future__ import annotations

import gzip
import pickle
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.quality.repetition import GopherRepetition
from everlong.curation.quality.words import split_words
from everlong.errors import ConfigError
from tests.evaluation.public_data import public_data

OFF: dict[str, Any] = {
    "max_duplicate_paragraphs": None,
    "max_duplicate_paragraph_letters": None,
    "max_duplicate_lines": None,
    "max_duplicate_line_letters": None,
    "max_top_ngram": None,
    "max_duplicate_ngrams": None,
}


def rule(step: GopherRepetition, text: str) -> str | None:
    dropped = step(Document("1", text, "test"))
    return dropped.rule if dropped else None


def top_letters(words: list[str], number: int) -> int:
    """Plainly: characters of the first most frequent sequence of words, at all its places."""
    found = Counter(" ".join(words[i : i + number]) for i in range(len(words) - number + 1))
    return max((len(text) * n for text, n in found.most_common(1)), default=0)


def duplicate_letters(words: list[str], number: int) -> int:
    """Plainly: characters of sequences that were there before, without overlap."""
    seen: set[tuple[str, ...]] = set()
    found = at = 0
    while at + number <= len(words):
        gram = tuple(words[at : at + number])
        if gram in seen:
            found += len("".join(gram))
            at += number
        else:
            seen.add(gram)
            at += 1
    return found


@pytest.mark.parametrize(
    ("fields", "inside", "outside", "name"),
    [
        (
            {"max_duplicate_paragraphs": 0.25},
            "a\nb\n\nb\n\n\n\nb\n\nc",
            "a\n\nb\n\na",
            "duplicate_paragraphs",
        ),
        (
            {"max_duplicate_paragraph_letters": 0.2},
            "ab\n\nab\n\nfgh",
            "ab\n\nab\n\nf",
            "duplicate_paragraph_letters",
        ),
        ({"max_duplicate_lines": 0.25}, "a\n\nb\nc\na", "a\nb\na", "duplicate_lines"),
        ({"max_duplicate_lines": 0.25}, "\na\nb", "\na\n", "duplicate_lines"),
        (
            {"max_duplicate_line_letters": 0.2},
            "ab\nab\nabcd",
            "ab\nab\nabc",
            "duplicate_line_letters",
        ),
        ({"max_top_ngram": {2: 0.7}}, "a b a b c", "a b a b", "top_2_gram"),
        ({"max_top_ngram": {3: 0.5}}, "abcd e f ghijk l", "abcde e f ghijk l", "top_3_gram"),
        (
            {"max_duplicate_ngrams": {2: 0.2}},
            "a b c d a b",
            "a b c a b",
            "duplicate_2_grams",
        ),
        (
            {"max_duplicate_ngrams": {2: 1.0, 3: 0.2}},
            "a b c a b d",
            "a b c a b c",
            "duplicate_3_grams",
        ),
    ],
)
def test_each_rule_by_itself(fields: dict[str, Any], inside: str, outside: str, name: str) -> None:
    assert rule(GopherRepetition(**OFF | fields), inside) is None
    assert rule(GopherRepetition(**OFF | fields), outside) == name
    assert rule(GopherRepetition(**OFF), outside) is None


def test_the_defaults_are_those_of_the_table() -> None:
    step = GopherRepetition()
    assert step.max_top_ngram == {2: 0.2, 3: 0.18, 4: 0.16}
    assert step.max_duplicate_ngrams == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
    for number, share in step.max_duplicate_ngrams.items():
        step = GopherRepetition(max_duplicate_ngrams={number: share})
        found = []
        for repeated in range(40):
            grams = [" ".join(f"{i}a{j}" for j in range(number)) for i in range(100)]
            again = [f"{gram} {i}b" for i, gram in enumerate(grams[:repeated])]
            text = " ".join(grams + again)
            too_many = duplicate_letters(split_words(text), number) / len(text) > share
            found.append(too_many)
            assert rule(step, text) == (f"duplicate_{number}_grams" if too_many else None)
        assert found == sorted(found)
        assert set(found) == {False, True}


def test_empty_text() -> None:
    assert rule(GopherRepetition(**OFF), "") == "empty"
    assert rule(GopherRepetition(), " ") is None
    assert rule(GopherRepetition(), "\n\n") == "duplicate_lines"


def test_what_is_repeated_is_told() -> None:
    dropped = GopherRepetition()(Document("1", "yes, yes, " * 30, "test"))
    assert dropped is not None
    assert dropped.detail == "60 times, 1.000 of the characters, at most 0.2"


def test_in_scripts_without_spaces_words_have_several_letters() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 160)))
    assert rule(GopherRepetition(), text) is None
    # 10 words are 16 letters, and these 20 are two of 5 words.
    text += "".join(text[i : i + 10] for i in range(0, 60, 10)[::-1])
    assert rule(GopherRepetition(), text) == "duplicate_5_grams"
    assert rule(GopherRepetition(max_duplicate_ngrams={10: 0.01}), text) is None


TEXT = st.lists(st.sampled_from(["a", "bb", "ccc", "d,", "eeeee", "F.", "\n", "\n\n"]), max_size=60)
SHARES = st.dictionaries(st.integers(1, 7), st.floats(0, 1), max_size=4)


@given(TEXT, SHARES, SHARES)
def test_it_decides_as_plain_counting(
    parts: list[str], top: dict[int, float], duplicate: dict[int, float]
) -> None:
    text = " ".join([*parts, "end"])
    words = split_words(text)
    step = GopherRepetition(**OFF | {"max_top_ngram": top, "max_duplicate_ngrams": duplicate})
    expected = [
        f"top_{number}_gram"
        for number, share in sorted(top.items())
        if top_letters(words, number) / len(text) > share
    ] + [
        f"duplicate_{number}_grams"
        for number, share in sorted(duplicate.items())
        if duplicate_letters(words, number) / len(text) > share
    ]
    assert rule(step, text) == next(iter(expected), None)


@given(st.text(st.sampled_from("ab\n"), min_size=1, max_size=40), st.floats(0, 1))
def test_lines_and_paragraphs_are_counted_plainly(text: str, most: float) -> None:
    for name, parts in (
        ("line", re.split("\n+", text)),
        ("paragraph", re.split("\n{2,}", text.strip())),
    ):
        again = [part for i, part in enumerate(parts) if part in parts[:i]]
        step = GopherRepetition(**OFF | {f"max_duplicate_{name}s": most})
        assert (rule(step, text) is not None) == (len(again) / len(parts) > most)
        step = GopherRepetition(**OFF | {f"max_duplicate_{name}_letters": most})
        assert (rule(step, text) is not None) == (sum(map(len, again)) / len(text) > most)


@pytest.mark.parametrize("text", ["a " * 100_000, "a\n" * 100_000, "a" * 200_000, "\n" * 99_999])
def test_much_repetition_takes_no_longer(text: str) -> None:
    step = GopherRepetition(**OFF | {"max_duplicate_ngrams": {5: 1, 9: 1}})
    assert rule(step, text) is None
    rule(GopherRepetition(), text)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_duplicate_lines": 30}, "max_duplicate_lines is a share from 0 to 1, or null, not"),
        ({"max_top_ngram": {0: 0.1}}, "max_top_ngram has 0.1 for 0 words; give shares from 0"),
        ({"max_duplicate_ngrams": {5: 15.0}}, "max_duplicate_ngrams has 15.0 for 5 words"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        GopherRepetition(**fields)


def test_it_is_read_and_pickled() -> None:
    text = "max_top_ngram: {2: 0.3}\nmax_duplicate_ngrams: null"
    step = parse_config(GopherRepetition, text)
    assert step == GopherRepetition(max_top_ngram={2: 0.3}, max_duplicate_ngrams=None)
    assert parse_config(GopherRepetition, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step


def test_books_are_kept() -> None:
    books = sorted((public_data() / "books").glob("*.txt.gz"))
    texts = []
    for path in books:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts.append(file.read()[20_000:40_000])
    assert {rule(GopherRepetition(), text) for text in texts} == {None}
    repeated = [text[:2000].replace("\n", " ") * 2 for text in texts]
    assert {rule(GopherRepetition(), text) for text in repeated} == {"duplicate_5_grams"}
