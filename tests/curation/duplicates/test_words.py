"""Words become numbers: the same as one at a time, everywhere and for ever."""

from __future__ import annotations

import random
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from everlong.curation.duplicates.words import word_hashes

PIECE = 1 << 16
SIGNS = st.sampled_from("aAbß é9_-.\n\t ä́नमस्ते你好ひらอัก🙂\ud800\U0002a6d6\U000e0041İ")


def alone(sign: str) -> bool:
    """Whether a sign is of a script without spaces, of those in these tests."""
    return sign in "你好ひらอั\U0002a6d6" or sign == "ก"


def words(text: str) -> list[tuple[str, int]]:
    """The words of a text and where they begin, sign by sign."""
    found: list[tuple[str, int]] = []
    before = ""
    for place, sign in enumerate(text):
        if unicodedata.category(sign)[0] not in "LMN" or ord(sign) > 0x34000:
            before = ""
            continue
        small = sign.lower() if len(sign.lower()) == 1 else sign
        if before and not alone(sign) and not alone(before):
            found[-1] = found[-1][0] + small, found[-1][1]
        else:
            found.append((small, place))
        before = sign
    return found


@given(st.text(SIGNS, max_size=60), st.text(SIGNS, max_size=60))
def test_words_are_those_of_a_plain_split(one: str, other: str) -> None:
    hashes: dict[str, int] = {}
    for text in (one, other):
        expected = words(text)
        found, places = word_hashes(text)
        assert places.tolist() == [place for _, place in expected]
        for (word, _), value in zip(expected, found.tolist(), strict=True):
            assert hashes.setdefault(word, value) == value, "the same word, another number"
    assert len(set(hashes.values())) == len(hashes), "other words, the same number"


def test_the_numbers_never_change() -> None:
    """Stores of earlier runs have them."""
    assert [hex(value) for value in word_hashes("Hello, hello WORLD! 你 é 42")[0].tolist()] == [
        "0x737c261a3e4fe224",
        "0x737c261a3e4fe224",
        "0xab7192b544a6e4d8",
        "0xc6289b8a13af7acf",
        "0x72e195f23a2bfe78",
        "0xfd6e56b18a59573c",
    ]


def test_long_texts_have_the_words_of_their_parts() -> None:
    draw = random.Random(0)
    known = ["".join(draw.choices("abcdefg", k=draw.randrange(1, 9))) for _ in range(500)]
    chosen = draw.choices(known, k=60_000)
    text = " ".join(chosen)
    assert len(text) > 3 * PIECE
    found, places = word_hashes(text)
    by_word = {word: int(word_hashes(word)[0][0]) for word in known}
    assert found.tolist() == [by_word[word] for word in chosen]
    assert [text[place] for place in places[-5:]] == [word[0] for word in chosen[-5:]]


def test_a_word_that_never_ends() -> None:
    found, places = word_hashes("x" * 10_000_000)
    assert len(found) == -(-10_000_000 // PIECE)
    assert places.tolist() == [n * PIECE for n in range(len(found))]
    assert len(word_hashes("." * 10_000_000)[0]) == 0
    assert len(word_hashes("")[0]) == 0
