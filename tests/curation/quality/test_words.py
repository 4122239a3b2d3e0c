from __future__ import annotations

import csv
import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.quality import words
from everlong.curation.quality.words import (
    IDEOGRAPH,
    KANA,
    LETTERS,
    OTHER,
    SENTENCE_ENDS,
    SYMBOL,
    UNSPACED,
    WITHOUT_SENTENCE_ENDS,
    PieceTable,
    lines_of,
    split_piece,
    split_words,
    without_unspaced,
    words_of,
    words_worth,
)
from tests.evaluation.public_data import public_data

SIGNS = st.text(st.sampled_from("aBcé'’.,:;-/()[]0123 \n\t@#$%…—\"中かท์\u200b\ud800"), max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A word, and another.", "A word , and another ."),
        ("(“Quoted” text!)", "( “ Quoted ” text ! )"),
        ("We don't; they'll've won't", "We do n't ; they 'll 've wo n't"),
        ("Don’t Cannot gonna Y'all let's", "Do n’t Can not gon na Y'all let 's"),
        ("Ann's its Its James'", "Ann 's its Its James '"),
        ("Mr. Bell (Dr. Bell) e.g., U.S. i.e.", "Mr. Bell ( Dr. Bell ) e.g. , U.S. i.e."),
        ("well-known one--two 1-2 a-1", "well - known one -- two 1 - 2 a-1"),
        ("end.Next end.next 3.14 1,000", "end . Next end.next 3.14 1,000"),
        ("and/or him/her 1/2 key=value", "and/or him / her 1/2 key = value"),
        ("see http://www.a-b.org/c-d, or me@a-b.org", "see http://www.a-b.org/c-d , or me@a-b.org"),
        ("$5 5$ US$5 5km 20% 7pm 10km/h", "$ 5 5 $ US$ 5 5 km 20 % 7 pm 10 km/h"),
        ("wait...what ... (yes) :-) (8)", "wait ... what ... ( yes ) :-) ( 8)"),
        ("© 2020 ☃☃ ➤go", "© 2020 ☃ ☃ ➤ go"),
        ("def f(x): return x[0]", "def f(x ): return x[0 ]"),
        ("Straße–Weg «qu’il» Жизнь.", "Straße – Weg « qu’il » Жизнь ."),
        ("हिन्दी-भाषा है।", "हिन्दी - भाषा है ।"),
        ("中文和English。", "中 文 和 English 。"),
        ("ที่ดี", "ท ี ่ ด ี"),
        ("ខ្មែរ\u200bខ", "ខ ្ ម ែ រ ខ"),
        ("", ""),
        (" \u00a0\u2003\n", ""),
    ],
)
def test_text_is_split_as_in_a_treebank(text: str, expected: str) -> None:
    assert split_words(text) == expected.split(" ") if expected else split_words(text) == []


@given(SIGNS)
def test_no_character_is_lost(text: str) -> None:
    joined = "".join(split_words(text))
    assert joined.replace("\u200b", "") == "".join(text.split()).replace("\u200b", "")


@given(SIGNS)
def test_words_are_those_that_are_split(text: str) -> None:
    expected, found = split_words(text), words_of(text)
    assert len(found) == len(expected)
    assert found.lengths.tolist() == [len(word) for word in expected]
    same = [[one == other for other in expected] for one in expected]
    assert (found.hashes[:, None] == found.hashes[None, :]).tolist() == same
    assert all(found.has_word(word) for word in expected)


def test_a_table_that_is_full_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "One (two) three, four; five six's seven-eight nine. " * 3
    expected = words_of(text)
    monkeypatch.setattr(words, "_MOST_PIECES", 3)
    monkeypatch.setattr(words, "_LONGEST_PIECE", 8)
    monkeypatch.setattr(words, "_entries", PieceTable(words._entries_of))
    found = words_of(text + " ")
    assert np.array_equal(found.hashes, expected.hashes)
    assert len(words._entries) <= 3
    assert "seven-eight" not in words._entries


def test_words_are_of_kinds() -> None:
    found = words_of("a1 ... 42 • é . € 中 か カ ไ ြ ꦲ \u200d")
    assert found.kinds.tolist() == [
        LETTERS, SYMBOL, OTHER, SYMBOL, LETTERS, SYMBOL, OTHER,
        IDEOGRAPH, KANA, KANA, UNSPACED, UNSPACED, UNSPACED, SYMBOL,
    ]  # fmt: skip


def test_what_is_told_of_words() -> None:
    found = words_of('The cat, 42 times: "No!"')
    assert found.number == 10
    assert found.without_symbols == 5
    assert found.with_letter == 4
    assert found.mean_length == (3 + 3 + 2 + 5 + 2) / 5
    assert found.letters_a_word is None
    assert found.has_word("cat")
    assert not found.has_word("the")
    assert words_of("").mean_length == 0
    assert words_of("").letters_a_word is None


def test_letters_of_scripts_without_spaces_are_parts_of_words() -> None:
    assert words_of("中" * 16).number == pytest.approx(10)
    assert words_of("か" * 33).number == pytest.approx(10)
    assert words_of("ท" * 60).number == pytest.approx(10)
    assert words_of("中" * 16).letters_a_word == pytest.approx(1.6)
    assert words_of("中" * 16 + " word" * 9).letters_a_word == pytest.approx(1.6)
    assert words_of("中" * 16 + " word" * 10).letters_a_word is None
    assert words_worth("one, two 中中中中中中中中") == pytest.approx(7)
    assert without_unspaced("a中b か") == "a b  "


def test_one_english_word_is_worth_one_word_elsewhere() -> None:
    path = public_data() / "sib200" / "dev.tsv.gz"
    texts: dict[str, list[str]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            texts.setdefault(row["lang"], []).append(row["text"])
    expected = len(re.findall(r"\w[\w'’-]*", " ".join(texts["eng_Latn"])))
    unspaced = re.compile("zho|yue|jpn|tha|lao|khm|mya|shn|bod|dzo")
    languages = [language for language in texts if unspaced.match(language)]
    assert len(languages) == 11
    for language in languages:
        found = words_of("\n".join(texts[language])).without_symbols
        assert 0.85 < found / expected < 1.45, language


def test_lines_are_kept_for_the_next_step() -> None:
    text = "a\n\nb\r\nc"
    assert lines_of(text) == ["a", "", "b\r", "c"]
    assert lines_of(text) is lines_of(text)
    assert words_of(text) is words_of(text)


def test_sentence_ends_are_those_of_unicode() -> None:
    assert {".", "!", "?", "。", "।", "؟", "။", "።"} <= SENTENCE_ENDS
    assert not SENTENCE_ENDS & set(":;,…'\"")
    assert {"ก", "ກ", "།"} <= WITHOUT_SENTENCE_ENDS


@pytest.mark.parametrize(
    "piece",
    ["(", ")", ".", "a.", "(a", "@", "a@", "'s", "中", "a-", "1+", ":)", "…", "☃", "://", "%"],
)
def test_a_piece_may_be_very_long(piece: str) -> None:
    """A quadratic pass would take minutes."""
    text = piece * (100_000 // len(piece))
    assert "".join(split_piece(text)) == text
    assert len(words_of(text)) > 0
